package runtime

import (
	"reflect"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// ownProcess is one with everything that others take over.
func ownProcess() *specs.Process {
	return &specs.Process{
		Capabilities: &specs.LinuxCapabilities{Bounding: []string{"CAP_KILL"}}, Rlimits: []specs.POSIXRlimit{{Type: "RLIMIT_CORE"}},
		ApparmorProfile: "profile", SelinuxLabel: "label", Scheduler: &specs.Scheduler{Policy: specs.SchedBatch},
		IOPriority: &specs.LinuxIOPriority{Class: specs.IOPRIO_CLASS_IDLE}, ExecCPUAffinity: &specs.CPUAffinity{Final: "0"},
	}
}

func TestInherit(t *testing.T) {
	p := &specs.Process{}
	inherit(p, ownProcess())
	if !reflect.DeepEqual(p, ownProcess()) {
		t.Errorf("a description that says nothing: %+v", p)
	}
	want := specs.Process{
		Capabilities: &specs.LinuxCapabilities{}, Rlimits: []specs.POSIXRlimit{{Type: "RLIMIT_AS"}}, ApparmorProfile: "other",
		SelinuxLabel: "another", Scheduler: &specs.Scheduler{}, IOPriority: &specs.LinuxIOPriority{}, ExecCPUAffinity: &specs.CPUAffinity{},
	}
	said := want
	inherit(&said, ownProcess())
	if !reflect.DeepEqual(said, want) {
		t.Errorf("a description that says all: %+v", said)
	}
	inherit(p, &specs.Process{NoNewPrivileges: true, Env: []string{"A=1"}})
	if p.NoNewPrivileges || p.Env != nil {
		t.Errorf("what every description says for itself was taken over: %+v", p)
	}
}

// The record says that a configuration has extras for each that inherit or addExtras
// know, and for no ordinary one.
func TestHasExtras(t *testing.T) {
	plain := func() *specs.Spec { return &specs.Spec{Process: &specs.Process{}, Linux: &specs.Linux{}} }
	if s := plain(); hasExtras(s) {
		t.Error("an ordinary configuration has extras")
	}
	for name, change := range map[string]func(*specs.Spec){
		"apparmor":    func(s *specs.Spec) { s.Process.ApparmorProfile = "x" },
		"selinux":     func(s *specs.Spec) { s.Process.SelinuxLabel = "x" },
		"scheduler":   func(s *specs.Spec) { s.Process.Scheduler = &specs.Scheduler{} },
		"ioPriority":  func(s *specs.Spec) { s.Process.IOPriority = &specs.LinuxIOPriority{} },
		"affinity":    func(s *specs.Spec) { s.Process.ExecCPUAffinity = &specs.CPUAffinity{} },
		"memory":      func(s *specs.Spec) { s.Linux.MemoryPolicy = &specs.LinuxMemoryPolicy{} },
		"personality": func(s *specs.Spec) { s.Linux.Personality = &specs.LinuxPersonality{} },
	} {
		s := plain()
		if change(s); !hasExtras(s) {
			t.Errorf("%s is no extra", name)
		}
	}
}

// A flag of exec adds a capability to the ambient set only where the container's
// inheritable set has it already (CVE-2022-29162).
func TestAddCaps(t *testing.T) {
	p := &specs.Process{Capabilities: &specs.LinuxCapabilities{Inheritable: []string{"CAP_SYSLOG"}}}
	addCaps(p, []string{"CAP_SYSLOG", "CAP_KILL"})
	want := &specs.LinuxCapabilities{
		Bounding: []string{"CAP_SYSLOG", "CAP_KILL"}, Effective: []string{"CAP_SYSLOG", "CAP_KILL"}, Permitted: []string{"CAP_SYSLOG", "CAP_KILL"},
		Inheritable: []string{"CAP_SYSLOG"}, Ambient: []string{"CAP_SYSLOG"},
	}
	if !reflect.DeepEqual(p.Capabilities, want) {
		t.Errorf("%+v", p.Capabilities)
	}
}
