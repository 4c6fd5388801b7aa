package cgroups

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"

	"box/internal/errdefs"
	"box/pkg/cgroups/limits"
	"box/pkg/cgroups/systemd"
)

// scopeDevices are the device rules of the scopes of tests.
var scopeDevices = []specs.LinuxDeviceCgroup{
	{Allow: false, Access: "rwm"},
	{Allow: true, Type: "c", Major: ptr(int64(10)), Minor: ptr(int64(200)), Access: "rw"},
}

// scope names a scope that is not there yet.
func scope(t *testing.T, annotations map[string]string) *Cgroup {
	t.Helper()
	if _, err := os.Stat("/run/systemd/system"); err != nil {
		t.Skip("needs systemd as the init of the machine")
	}
	o := Options{Systemd: true, Rootless: os.Geteuid() != 0, Annotations: annotations, Resources: &specs.LinuxResources{
		Unified: map[string]string{"memory.oom.group": "1"}, Devices: scopeDevices,
	}}
	c, err := Resolve("machine-boxtest.slice:box:"+t.Name()+"-"+strconv.Itoa(os.Getpid()), "", o)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// newScope has systemd make a scope that is removed after the test.
func newScope(t *testing.T, annotations map[string]string) *Cgroup {
	t.Helper()
	c := scope(t, annotations)
	if err := c.Create(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(c.Kill(), c.Remove(context.Background())); err != nil || c.Exists() {
			t.Errorf("the scope is left: %v", err)
		}
	})
	return c
}

// shown asks systemd for properties of a unit.
func shown(t *testing.T, c *Cgroup, names ...string) map[string]string {
	t.Helper()
	args := []string{"show", "-p", strings.Join(names, ","), c.unit.name}
	if c.unit.user {
		args = append([]string{"--user"}, args...)
	}
	out, err := exec.Command("systemctl", args...).Output()
	if err != nil {
		t.Fatal(err)
	}
	values := map[string]string{}
	for line := range strings.Lines(string(out)) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), "=")
		values[name] = value
	}
	return values
}

func checkShown(t *testing.T, c *Cgroup, want map[string]string) {
	t.Helper()
	var names []string
	for name := range want {
		names = append(names, name)
	}
	have := shown(t, c, names...)
	for name, value := range want {
		if have[name] != value {
			t.Errorf("%s is %q, want %q", name, have[name], value)
		}
	}
}

// TestScope walks through the life of a container's scope.
func TestScope(t *testing.T) {
	c := newScope(t, map[string]string{"org.systemd.property.TimeoutStopSec": "123", "org.systemd.property.CollectMode": "'inactive-or-failed'"})
	limit, pids := int64(64<<20), int64(20)
	r := &specs.LinuxResources{
		Memory: &specs.LinuxMemory{Limit: &limit}, Pids: &specs.LinuxPids{Limit: &pids},
		CPU: &specs.LinuxCPU{Shares: ptr(uint64(100)), Quota: ptr(int64(500000)), Period: ptr(uint64(1000000))},
	}
	if _, err := c.Apply(r); err != nil {
		t.Fatal(err)
	}
	launched(t, c, "wait")
	checkShown(t, c, map[string]string{
		"ActiveState": "active", "Delegate": "yes", "Slice": "machine-boxtest.slice", "ControlGroup": c.path,
		"TimeoutStopUSec": "2min 3s", "CollectMode": "inactive-or-failed",
		"MemoryMax": "67108864", "TasksMax": "20", "CPUWeight": "17", "CPUQuotaPerSecUSec": "500ms",
	})
	later, err := Open(c.Location())
	if err != nil {
		t.Fatal(err)
	}
	if pids, err := later.Procs(); err != nil || len(pids) != 1 {
		t.Errorf("processes %v, %v: only the child is to be left", pids, err)
	}
	if _, err := later.Update(&specs.LinuxResources{Pids: &specs.LinuxPids{Limit: ptr(int64(30))}, CPU: &specs.LinuxCPU{Quota: ptr(int64(600000))}}); err != nil {
		t.Error(err)
	}
	checkShown(t, later, map[string]string{"TasksMax": "30", "MemoryMax": "67108864", "CPUQuotaPerSecUSec": "600ms"})
	// systemd writes the files from what it knows; it has to know all.
	reload := []string{"daemon-reload"}
	if c.unit.user {
		reload = append(reload, "--user")
	}
	if out, err := exec.Command("systemctl", reload...).CombinedOutput(); err != nil {
		t.Fatalf("%s: %v", out, err)
	}
	for file, want := range map[string]string{"memory.max": "67108864", "pids.max": "30", "cpu.max": "600000 1000000"} {
		if have := trimmed(filepath.Join(later.Dir(), file)); have != want {
			t.Errorf("%s is %q, want %s", file, have, want)
		}
	}
	if err := errors.Join(later.Kill(), later.Remove(t.Context())); err != nil {
		t.Error(err)
	}
	checkShown(t, later, map[string]string{"LoadState": "not-found"})
}

// What systemd cannot hold as it is asked for is written as it holds it, for it writes the
// files itself whenever it likes; and what it does not care for stays.
func TestScopeOfCPUs(t *testing.T) {
	c := newScope(t, nil)
	apply := func(cpu specs.LinuxCPU) (notes []Note) {
		notes, err := c.Apply(&specs.LinuxResources{CPU: &cpu})
		if err != nil {
			t.Fatalf("%+v: %v", cpu, err)
		}
		return notes
	}
	expect := func(file, want string) {
		t.Helper()
		if have := trimmed(c.file("", file)); have != want {
			t.Errorf("%s is %q, want %q", file, have, want)
		}
	}
	apply(specs.LinuxCPU{Period: ptr(uint64(1000000))})
	if err := c.SetDevices(scopeDevices); err != nil {
		t.Fatal(err)
	}
	launched(t, c, "wait")
	expect("cpu.max", "max 1000000")
	apply(specs.LinuxCPU{Quota: ptr(int64(500000)), Period: ptr(uint64(900000))})
	expect("cpu.max", "504000 900000")
	if notes := apply(specs.LinuxCPU{Shares: ptr(uint64(200)), Idle: ptr(int64(1))}); len(notes) != 1 || !notes[0].Warning || !strings.Contains(notes[0].Text, "unable to apply both") {
		t.Errorf("notes on a weight of an idle group: %v", notes)
	}
	expect("cpu.idle", "1")
	apply(specs.LinuxCPU{Shares: ptr(uint64(200))})
	expect("cpu.idle", "0")
	expect("cpu.weight", strconv.FormatUint(limits.WeightOfShares(200), 10))
}

// TestKilledTogether: systemd takes the policy with the start of a scope and never after
// it, writes the file from it whenever it writes the others, and refuses it in releases
// that have none.
func TestKilledTogether(t *testing.T) {
	policies := func(version int, o Options) (all []any) {
		t.Helper()
		o.Systemd = true
		c, err := Resolve("system.slice:box:c1", "c1", o)
		if err != nil {
			t.Fatal(err)
		}
		c.unit.version, c.unit.holder = version, &systemd.Holder{Pid: 7}
		for _, p := range c.unit.described(false) {
			if p.Name == "OOMPolicy" {
				all = append(all, p.Value)
			}
		}
		return all
	}
	unified := func(value string) *specs.LinuxResources {
		return &specs.LinuxResources{Unified: map[string]string{"memory.oom.group": value}}
	}
	one := unified("1")
	for _, c := range []struct {
		version int
		o       Options
		want    []any
	}{
		{253, Options{}, nil},
		{253, Options{Resources: unified("0")}, nil},
		{253, Options{Resources: one}, []any{"kill"}},
		{252, Options{Resources: one}, nil},
		{253, Options{Resources: one, Annotations: map[string]string{"org.systemd.property.OOMPolicy": "'continue'"}}, []any{"kill", "continue"}},
	} {
		if have := policies(c.version, c.o); !slices.Equal(have, c.want) {
			t.Errorf("systemd %d, %+v: %v, want %v", c.version, c.o, have, c.want)
		}
	}
}

// TestScopeNameInUse: two containers cannot have one scope.
func TestScopeNameInUse(t *testing.T) {
	c := newScope(t, nil)
	launched(t, c, "wait")
	second := *c
	second.unit = &unit{name: c.unit.name, user: c.unit.user, slice: "machine-boxtest.slice"}
	if err := second.Create(); !errors.Is(err, errdefs.ErrConflict) || !strings.Contains(err.Error(), "container's cgroup is not empty: 1 process(es) found") {
		t.Errorf("have %v", err)
	}
	if pids, err := c.Procs(); err != nil || len(pids) != 1 {
		t.Errorf("processes of the first: %v, %v", pids, err)
	}
}

// TestScopeFoundFrozen: systemd would put the holder into a group that is there before, and
// nothing in a frozen one ever runs or ends.
func TestScopeFoundFrozen(t *testing.T) {
	c := scope(t, nil)
	if err := os.MkdirAll(c.Dir(), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = c.write("cgroup.freeze", "0")
		if err := errors.Join(c.Close(), c.Kill(), c.Remove(context.Background())); err != nil {
			t.Error(err)
		}
	})
	if err := c.write("cgroup.freeze", "1"); err != nil {
		t.Fatal(err)
	}
	if err := c.Create(); !errors.Is(err, errdefs.ErrConflict) || !strings.Contains(err.Error(), "container's cgroup unexpectedly frozen") {
		t.Errorf("frozen: %v", err)
	}
	checkShown(t, c, map[string]string{"LoadState": "not-found"})
	if err := c.write("cgroup.freeze", "0"); err != nil {
		t.Fatal(err)
	}
	if err := c.Create(); err != nil {
		t.Errorf("empty, and thawed: %v", err)
	}
}

// TestScopeOfAFailedCreate: without a launch the holder goes when the group is
// closed, and systemd collects the empty scope.
func TestScopeOfAFailedCreate(t *testing.T) {
	c := newScope(t, nil)
	if pids, err := c.Procs(); err != nil || len(pids) != 1 {
		t.Errorf("the holder: %v, %v", pids, err)
	}
	if err := c.Close(); err != nil {
		t.Error(err)
	}
	if err := c.Remove(t.Context()); err != nil {
		t.Error(err)
	}
	checkShown(t, c, map[string]string{"LoadState": "not-found"})
}
