package gen

import (
	"encoding/json"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/runtime-spec/specs-go"

	"box/internal/errdefs"
	"box/pkg/spec"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// golden compares a configuration with a file. What depends on the machine, the
// seccomp profile and the thermal paths, is left out.
func golden(t *testing.T, name string, s *specs.Spec) {
	t.Helper()
	s.Linux.Seccomp = nil
	s.Linux.MaskedPaths = slices.DeleteFunc(s.Linux.MaskedPaths, func(p string) bool { return strings.Contains(p, "thermal_throttle") })
	have, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	have = append(have, '\n')
	file := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(file, have, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), string(have)); diff != "" {
		t.Error(diff)
	}
}

func TestSpecDefaults(t *testing.T) {
	s, err := Spec(Options{Args: []string{"true"}})
	if err != nil {
		t.Fatal(err)
	}
	if err := spec.Validate(s); err != nil {
		t.Error(err)
	}
	golden(t, "default.json", s)
}

func TestSpecOptions(t *testing.T) {
	limit, minor := int64(1<<20), int64(200)
	s, err := Spec(Options{
		Rootfs: "/somewhere", Readonly: true, Args: []string{"sh", "-c", "id"}, Env: []string{"A=1", "PEM=a\nb"},
		Cwd: "/work", User: specs.User{UID: 7, GID: 8, AdditionalGids: []uint32{8}}, Terminal: true, Hostname: "host",
		NoNewPrivileges: true, Capabilities: []string{"CAP_KILL"}, NetworkPath: "/run/ns", CgroupsPath: "/box/x",
		ShmSize: 4096, Annotations: map[string]string{"a": "b"},
		Mounts: []specs.Mount{
			{Destination: "/data/below", Type: "bind", Source: "/b", Options: []string{"rbind"}},
			{Destination: "/data", Type: "bind", Source: "/a", Options: []string{"rbind"}},
			{Destination: "/dev/shm", Type: "bind", Source: "/shm", Options: []string{"rbind"}},
		},
		Resources: &specs.LinuxResources{
			Memory:  &specs.LinuxMemory{Limit: &limit},
			Devices: []specs.LinuxDeviceCgroup{{Allow: true, Type: "c", Minor: &minor, Access: "r"}},
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := spec.Validate(s); err != nil {
		t.Error(err)
	}
	golden(t, "options.json", s)
}

func TestRuntime(t *testing.T) {
	s := Runtime()
	if err := spec.Validate(s); err != nil {
		t.Error(err)
	}
	golden(t, "runtime.json", s)
}

func TestSpecRefuses(t *testing.T) {
	args := []string{"true"}
	for text, o := range map[string]Options{
		"generate spec: no command given":                                  {},
		"generate spec: both the host's network and network namespace /ns": {Args: args, HostNetwork: true, NetworkPath: "/ns"},
		`generate spec: working directory "work" is not absolute`:          {Args: args, Cwd: "work"},
		// An image must not read the host's environment (CVE-2026-57231).
		`generate spec: environment entry "FOO" is not NAME=value`: {Args: args, Env: []string{"FOO"}},
		`generate spec: environment entry "*" is not NAME=value`:   {Args: args, Env: []string{"*"}},
		`generate spec: environment entry "=x" is not NAME=value`:  {Args: args, Env: []string{"=x"}},
	} {
		if _, err := Spec(o); !errors.Is(err, errdefs.ErrInvalid) || err.Error() != text {
			t.Errorf("have %v, want %s", err, text)
		}
	}
}

func TestNetworks(t *testing.T) {
	network := func(o Options) string {
		for _, n := range namespaces(o) {
			if n.Type == specs.NetworkNamespace {
				return "new" + n.Path
			}
		}
		return "host"
	}
	for want, o := range map[string]Options{
		"new": {}, "new/ns": {NetworkPath: "/ns"}, "host": {HostNetwork: true},
	} {
		if have := network(o); have != want {
			t.Errorf("have %s, want %s", have, want)
		}
		// The host's own parameters are not ours to set.
		if set := sysctls(o); (len(set) == 0) != o.HostNetwork {
			t.Errorf("network %s: sysctls %v", want, set)
		}
	}
}

// TestMountOnDev: who brings a /dev brings what is in it.
func TestMountOnDev(t *testing.T) {
	all := mounts(Options{Mounts: []specs.Mount{{Destination: "/dev", Type: "bind", Source: "/dev"}}})
	var below []string
	for _, m := range all {
		if strings.HasPrefix(m.Destination, "/dev") {
			below = append(below, m.Destination+" "+m.Type)
		}
	}
	if !slices.Equal(below, []string{"/dev bind"}) {
		t.Errorf("have %v", below)
	}
}

// TestNoCapabilityIsInherited is CVE-2022-24769 and its relatives.
func TestNoCapabilityIsInherited(t *testing.T) {
	for _, uid := range []uint32{0, 1000} {
		for _, caps := range [][]string{nil, {}, {"CAP_SYS_ADMIN"}} {
			s, err := Spec(Options{Args: []string{"true"}, User: specs.User{UID: uid}, Capabilities: caps})
			if err != nil {
				t.Fatal(err)
			}
			c := s.Process.Capabilities
			if len(c.Inheritable)+len(c.Ambient) > 0 || uid != 0 && len(c.Effective)+len(c.Permitted) > 0 {
				t.Errorf("user %d with %v: %+v", uid, caps, c)
			}
		}
	}
}

// TestOptionsAreCopied: one Options may serve many containers.
func TestOptionsAreCopied(t *testing.T) {
	o := Options{Args: []string{"true"}, Env: []string{"A=1"}, Annotations: map[string]string{"a": "b"}}
	s, err := Spec(o)
	if err != nil {
		t.Fatal(err)
	}
	s.Process.Args[0], s.Process.Env[0], s.Annotations["a"] = "x", "x", "x"
	if o.Args[0] != "true" || o.Env[0] != "A=1" || o.Annotations["a"] != "b" {
		t.Errorf("changed: %+v", o)
	}
}

// TestProfileDiffersFromMobyOnlyInSockets guards the two changes to Docker's
// profile, and notices when its next release has them.
func TestProfileDiffersFromMobyOnlyInSockets(t *testing.T) {
	for _, socketcall := range []bool{false, true} {
		p, err := seccompProfile(DefaultCapabilities(), socketcall)
		if err != nil {
			t.Fatal(err)
		}
		var unconditional, conditional int
		for _, s := range p.Syscalls {
			if !slices.Contains(s.Names, "socketcall") {
				continue
			}
			if len(s.Args) == 0 {
				unconditional++
			} else {
				conditional++
			}
		}
		if socketcall != (unconditional == 1) || socketcall == (conditional == 1) {
			t.Errorf("socketcall %v: %d rules without, %d with arguments", socketcall, unconditional, conditional)
		}
		if len(p.Syscalls) < 10 || p.DefaultAction != specs.ActErrno {
			t.Errorf("%d rules, default %s", len(p.Syscalls), p.DefaultAction)
		}
		for _, s := range p.Syscalls {
			for _, a := range s.Args {
				if a.Value >= 1<<53 || a.ValueTwo >= 1<<53 {
					t.Errorf("%v: crun cannot read %d or %d", s.Names, a.Value, a.ValueTwo)
				}
			}
		}
	}
}
