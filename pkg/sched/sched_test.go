package sched

import (
	"errors"
	"os/exec"
	"runtime"
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"box/internal/errdefs"
	"box/pkg/launch"
)

// wantInvalid expects an error of class ErrInvalid that holds the text; "" expects none.
func wantInvalid(t *testing.T, what any, err error, text string) {
	t.Helper()
	if text == "" {
		if err != nil {
			t.Errorf("%+v: %v", what, err)
		}
		return
	}
	if !errors.Is(err, errdefs.ErrInvalid) || !strings.Contains(err.Error(), text) {
		t.Errorf("%+v: %v, want %q", what, err, text)
	}
}

func TestCheckScheduler(t *testing.T) {
	wantInvalid(t, "none", CheckScheduler(nil), "")
	for _, c := range []struct {
		s    specs.Scheduler
		text string
	}{
		{specs.Scheduler{}, "scheduler policy is required"},
		{specs.Scheduler{Policy: "BATCH"}, `process.scheduler.policy: unknown policy "BATCH"`},
		{specs.Scheduler{Policy: specs.SchedBatch, Nice: 19}, ""},
		{specs.Scheduler{Policy: specs.SchedOther, Nice: 20}, "invalid scheduler.nice: 20 when scheduler.policy is SCHED_OTHER"},
		{specs.Scheduler{Policy: specs.SchedDeadline, Nice: 99, Runtime: 1, Deadline: 2, Period: 3}, ""},
		{specs.Scheduler{Policy: specs.SchedBatch, Priority: 1}, "SCHED_FIFO or SCHED_RR"},
		{specs.Scheduler{Policy: specs.SchedFIFO, Priority: 99}, ""},
		{specs.Scheduler{Policy: specs.SchedRR, Priority: -1}, "negative"},
		{specs.Scheduler{Policy: specs.SchedIdle, Period: 1}, "SCHED_DEADLINE"},
		{specs.Scheduler{Policy: specs.SchedIdle, Flags: []specs.LinuxSchedulerFlag{"X"}}, `process.scheduler.flags[0]: unknown flag "X"`},
	} {
		wantInvalid(t, c.s, CheckScheduler(&c.s), c.text)
	}
}

// Every word of the specification has its number.
func TestAttributes(t *testing.T) {
	for policy, want := range map[specs.LinuxSchedulerPolicy]uint32{
		specs.SchedOther: 0, specs.SchedFIFO: 1, specs.SchedRR: 2, specs.SchedBatch: 3,
		specs.SchedISO: 4, specs.SchedIdle: 5, specs.SchedDeadline: 6,
	} {
		if got := attributes(&specs.Scheduler{Policy: policy}).Policy; got != want {
			t.Errorf("%s is %d, want %d", policy, got, want)
		}
	}
	for flag, want := range map[specs.LinuxSchedulerFlag]uint64{
		specs.SchedFlagResetOnFork: unix.SCHED_FLAG_RESET_ON_FORK, specs.SchedFlagReclaim: unix.SCHED_FLAG_RECLAIM,
		specs.SchedFlagDLOverrun: unix.SCHED_FLAG_DL_OVERRUN, specs.SchedFlagKeepPolicy: unix.SCHED_FLAG_KEEP_POLICY,
		specs.SchedFlagKeepParams: unix.SCHED_FLAG_KEEP_PARAMS, specs.SchedFlagUtilClampMin: unix.SCHED_FLAG_UTIL_CLAMP_MIN,
		specs.SchedFlagUtilClampMax: unix.SCHED_FLAG_UTIL_CLAMP_MAX,
	} {
		if got := attributes(&specs.Scheduler{Flags: []specs.LinuxSchedulerFlag{flag}}).Flags; got != want {
			t.Errorf("%s is %#x, want %#x", flag, got, want)
		}
	}
}

// sleeper is a process to try things on.
func sleeper(t *testing.T) int {
	t.Helper()
	cmd := exec.Command("sleep", "1000")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	return cmd.Process.Pid
}

func TestScheduler(t *testing.T) {
	pid := sleeper(t)
	if err := Scheduler(pid, &specs.Scheduler{Policy: specs.SchedBatch, Nice: 7, Flags: []specs.LinuxSchedulerFlag{specs.SchedFlagResetOnFork}}, false); err != nil {
		t.Fatal(err)
	}
	got, err := unix.SchedGetAttr(pid, 0)
	if err != nil {
		t.Fatal(err)
	}
	if got.Policy != unix.SCHED_BATCH || got.Nice != 7 || got.Flags&unix.SCHED_FLAG_RESET_ON_FORK == 0 {
		t.Errorf("%+v", got)
	}
	err = Scheduler(pid, &specs.Scheduler{Policy: specs.SchedISO}, false)
	if !errors.Is(err, unix.EINVAL) || !strings.Contains(err.Error(), "set scheduler to SCHED_ISO") {
		t.Errorf("SCHED_ISO: %v", err)
	}
}

// A deadline on a process that may not run on all CPUs is EPERM; the words tell it from
// a want of privileges.
func TestDeadlineOfPinnedProcess(t *testing.T) {
	if runtime.NumCPU() < 2 {
		t.Skip("needs two CPUs")
	}
	pid := sleeper(t)
	deadline := &specs.Scheduler{Policy: specs.SchedDeadline, Runtime: 42000, Deadline: 1000000, Period: 1000000}
	if err := Scheduler(pid, deadline, false); errors.Is(err, unix.EPERM) {
		t.Skip("needs CAP_SYS_NICE")
	} else if err != nil {
		t.Fatal(err)
	}
	pid = sleeper(t)
	if err := SetCPUs(pid, Mask{1, 0, 0, 0, 0, 0, 0, 0}); err != nil {
		t.Fatal(err)
	}
	err := Scheduler(pid, deadline, true)
	if !errors.Is(err, unix.EPERM) || !strings.Contains(err.Error(), "process scheduler can't be used together with AllowedCPUs") {
		t.Errorf("have %v", err)
	}
}

func TestIOPriority(t *testing.T) {
	for _, c := range []struct {
		p    specs.LinuxIOPriority
		text string
	}{
		{specs.LinuxIOPriority{}, `invalid ioPriority.Class: ""`},
		{specs.LinuxIOPriority{Class: "BE"}, `invalid ioPriority.Class: "BE"`},
		{specs.LinuxIOPriority{Class: specs.IOPRIO_CLASS_BE, Priority: 8}, "invalid ioPriority.Priority: 8"},
		{specs.LinuxIOPriority{Class: specs.IOPRIO_CLASS_RT, Priority: -1}, "invalid ioPriority.Priority: -1"},
		{specs.LinuxIOPriority{Class: specs.IOPRIO_CLASS_IDLE, Priority: 4}, ""},
	} {
		wantInvalid(t, c.p, CheckIOPriority(&c.p), c.text)
	}
	pid := sleeper(t)
	if err := IOPriority(pid, &specs.LinuxIOPriority{Class: specs.IOPRIO_CLASS_BE, Priority: 6}); err != nil {
		t.Fatal(err)
	}
	got, _, errno := unix.RawSyscall(unix.SYS_IOPRIO_GET, ioWhoProcess, uintptr(pid), 0)
	if errno != 0 || got != 2<<13|6 {
		t.Errorf("io priority is %#x, %v", got, errno)
	}
}

func TestParseList(t *testing.T) {
	for _, c := range []struct{ list, mask, text string }{
		{"0", "0x1", ""},
		{"0-3,7", "0x8f", ""},
		{"1,0", "0x3", ""},
		{" 2 , 64", "0x10000000000000004", ""},
		{"", "0x0", ""},
		{"a", "", `"a" is no list`},
		{"3-1", "", "no list"},
		{"1-", "", "no list"},
		{"1,,2", "", "no list"},
		{"-1", "", "no list"},
		{"0-128", "", "128 is not below 128"},
		{"0-9876543210", "", "not below 128"},
		{"99999999999999999999", "", "no list"},
	} {
		mask, err := ParseList(c.list, 128)
		wantInvalid(t, c.list, err, c.text)
		if err == nil && mask.String() != c.mask {
			t.Errorf("%q is %v, want %s", c.list, mask, c.mask)
		}
	}
	if mask, _ := ParseList("0-3,127", 128); mask.Count() != 5 || len(mask) != 16 {
		t.Errorf("%v has %d numbers in %d bytes", mask, mask.Count(), len(mask))
	}
}

func TestParseAffinity(t *testing.T) {
	if a, err := ParseAffinity(nil); err != nil || a.Initial != nil || a.Final != nil {
		t.Errorf("none: %+v, %v", a, err)
	}
	a, err := ParseAffinity(&specs.CPUAffinity{Initial: "0", Final: "1-2"})
	if err != nil || a.Initial.String() != "0x1" || a.Final.String() != "0x6" {
		t.Errorf("%+v, %v", a, err)
	}
	_, err = ParseAffinity(&specs.CPUAffinity{Final: "x"})
	wantInvalid(t, "final", err, "process.execCPUAffinity.final")
	_, err = ParseAffinity(&specs.CPUAffinity{Initial: "8192"})
	wantInvalid(t, "initial", err, "process.execCPUAffinity.initial")
}

func TestCPUs(t *testing.T) {
	pid := sleeper(t)
	before, err := CPUs(pid)
	if err != nil {
		t.Fatal(err)
	}
	if err := SetCPUs(pid, Mask{1, 0, 0, 0, 0, 0, 0, 0}); err != nil {
		t.Fatal(err)
	}
	if got, err := CPUs(pid); err != nil || got.String() != "0x1" {
		t.Errorf("CPUs %v, %v", got, err)
	}
	if err := ResetCPUs(pid); err != nil {
		t.Fatal(err)
	}
	if got, err := CPUs(pid); err != nil || got.Count() < before.Count() {
		t.Errorf("after the reset %v, %v; before %v", got, err, before)
	}
	far, _ := ParseList("8191", maxCPUs)
	if err := SetCPUs(pid, far); err == nil || !strings.Contains(err.Error(), "set CPU affinity to 0x8000") {
		t.Errorf("a CPU that is not there: %v", err)
	}
}

func TestCheckMemoryPolicy(t *testing.T) {
	wantInvalid(t, "none", CheckMemoryPolicy(nil), "")
	for _, c := range []struct {
		mode  specs.MemoryPolicyModeType
		nodes string
		flags []specs.MemoryPolicyFlagType
		text  string
	}{
		{"", "", nil, "invalid memory policy mode"},
		{"INTERLEAVE", "0", nil, "invalid memory policy mode"},
		{specs.MpolDefault, "", nil, ""},
		{specs.MpolDefault, "0-7", nil, "mode requires 0 nodes but got 8"},
		{specs.MpolLocal, "0", nil, "mode requires 0 nodes but got 1"},
		{specs.MpolBind, "", nil, "at least one node"},
		{specs.MpolBind, "0-9876543210", nil, "invalid memory policy node"},
		{specs.MpolPreferred, "", nil, ""},
		{specs.MpolPreferred, "0", []specs.MemoryPolicyFlagType{specs.MpolFRelativeNodes, "badflag"}, `invalid memory policy flag "badflag"`},
		{specs.MpolInterleave, "0", []specs.MemoryPolicyFlagType{specs.MpolFStaticNodes}, ""},
	} {
		m := &specs.LinuxMemoryPolicy{Mode: c.mode, Nodes: c.nodes, Flags: c.flags}
		wantInvalid(t, m, CheckMemoryPolicy(m), c.text)
	}
}

func TestCheckPersonality(t *testing.T) {
	wantInvalid(t, "none", CheckPersonality(nil), "")
	wantInvalid(t, "domain", CheckPersonality(&specs.LinuxPersonality{Domain: "SVR4"}), `invalid personality domain "SVR4"`)
	wantInvalid(t, "flags", CheckPersonality(&specs.LinuxPersonality{Domain: specs.PerLinux, Flags: []specs.LinuxPersonalityFlag{"X"}}), `unknown flag "X"`)
}

// The steps, as they are printed.
func TestPlan(t *testing.T) {
	p := &launch.Plan{ReportFD: 3}
	for mode, flags := range map[specs.MemoryPolicyModeType][]specs.MemoryPolicyFlagType{
		specs.MpolWeightedInterleave: {specs.MpolFNumaBalancing}, specs.MpolPreferredMany: {specs.MpolFStaticNodes},
	} {
		if err := AddMemoryPolicy(p, &specs.LinuxMemoryPolicy{Mode: mode, Nodes: "0-1", Flags: flags}); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(AddMemoryPolicy(p, nil), AddPersonality(p, nil), AddPersonality(p, &specs.LinuxPersonality{Domain: specs.PerLinux32})); err != nil {
		t.Fatal(err)
	}
	text := p.String()
	for _, want := range []string{"set_mempolicy(8198, {0-1}, 1025)", "set_mempolicy(32773, {0-1}, 1025)", "personality(0x8)"} {
		if !strings.Contains(text, want) {
			t.Errorf("no %s in\n%s", want, text)
		}
	}
	if p.Len() != 3 {
		t.Errorf("%d steps", p.Len())
	}
	if err := AddMemoryPolicy(p, &specs.LinuxMemoryPolicy{Mode: "X"}); err == nil {
		t.Error("an unknown mode was taken")
	}
}
