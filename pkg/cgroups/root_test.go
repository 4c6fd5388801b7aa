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
	"syscall"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"box/internal/errdefs"
	"box/pkg/cgroups/kernfs"
)

// TestMain is also the program that tests run inside a group: it opens what its
// arguments name and prints the outcome, or waits until it is killed.
func TestMain(m *testing.M) {
	switch os.Getenv("CGROUPS_TEST_CHILD") {
	case "open":
		openAll(os.Args[1:])
	case "eat":
		eat(64 << 20)
	case "hold":
		eat(32 << 20)
		os.Stdout.WriteString("ready\n")
		for {
			_ = unix.Pause()
		}
	case "wait":
		os.Stdout.WriteString("ready\n")
		for {
			_ = unix.Pause() // returns with EINTR for signals of Go's scheduler
		}
	default:
		os.Exit(m.Run())
	}
}

// openAll opens each "flags:path", flags being r, w or rw, and prints a line with
// the error number.
func openAll(what []string) {
	for _, w := range what {
		flags, path, _ := strings.Cut(w, ":")
		mode := map[string]int{"r": unix.O_RDONLY, "w": unix.O_WRONLY, "rw": unix.O_RDWR}[flags]
		_, err := unix.Open(path, mode|unix.O_NONBLOCK|unix.O_NOCTTY, 0)
		number := 0
		if errno, ok := err.(unix.Errno); ok {
			number = int(errno)
		}
		os.Stdout.WriteString(strconv.Itoa(number) + "\n")
	}
}

// eat waits to be told and then uses some memory.
func eat(size int) {
	_, _ = os.Stdin.Read(make([]byte, 1))
	hunk = make([]byte, size)
	for i := 0; i < size; i += 4096 {
		hunk[i] = 1
	}
}

// hunk keeps what was eaten.
var hunk []byte

// newGroup makes a group that is removed, with all that is in it, after the test.
func newGroup(t *testing.T) *Cgroup {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("making cgroups needs root")
	}
	c, err := Resolve("/box-test-"+strings.ReplaceAll(t.Name(), "/", "-")+"-"+strconv.Itoa(os.Getpid()), "", Options{})
	if errors.Is(err, errdefs.ErrUnsupported) { // no hierarchy is mounted
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Create(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(c.Kill(), c.Remove(context.Background())); err != nil {
			t.Error(err)
		}
		if c.Exists() {
			t.Errorf("%s is still there", c.Dir())
		}
	})
	return c
}

// below is a group of the unified hierarchy below another.
func below(c *Cgroup, path string) *Cgroup { return &Cgroup{root: c.root, path: c.path + "/" + path} }

// child prepares a process that is born in the group.
func child(t *testing.T, c *Cgroup, what string, args ...string) *exec.Cmd {
	t.Helper()
	dir, err := c.File()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { dir.Close() })
	cmd := command(what, args...)
	cmd.SysProcAttr = &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: int(dir.Fd())}
	return cmd
}

// command is what TestMain serves.
func command(what string, args ...string) *exec.Cmd {
	cmd := exec.Command("/proc/self/exe", args...)
	cmd.Env = []string{"CGROUPS_TEST_CHILD=" + what}
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{}
	return cmd
}

// sleeper starts a process in the group that stays until it is killed.
func sleeper(t *testing.T, c *Cgroup) *exec.Cmd {
	t.Helper()
	cmd := child(t, c, "wait")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill() // it is dead in most tests
		_ = cmd.Wait()
	})
	if _, err := out.Read(make([]byte, 6)); err != nil {
		t.Fatal(err)
	}
	return cmd
}

func TestKillAndRemove(t *testing.T) {
	c := newGroup(t)
	// In this order: a group that hands down controllers takes no processes.
	first := sleeper(t, c)
	sub := below(c, "a/b")
	if err := sub.Create(); err != nil {
		t.Fatal(err)
	}
	second := sleeper(t, sub)
	want := []int{first.Process.Pid, second.Process.Pid}
	slices.Sort(want)
	if have, err := c.Procs(); err != nil || !slices.Equal(have, want) {
		t.Fatalf("processes %v (%v), want %v", have, err, want)
	}
	if err := c.Create(); !errors.Is(err, errdefs.ErrConflict) || !strings.Contains(err.Error(), "container's cgroup is not empty") {
		t.Errorf("create of a used group: %v", err)
	}
	if err := c.Kill(); err != nil {
		t.Fatal(err)
	}
	// At once: the processes may not be gone yet, and Remove has to wait.
	if err := c.Remove(t.Context()); err != nil {
		t.Fatal(err)
	}
	if c.Exists() {
		t.Error("the group is still there")
	}
	if err := errors.Join(c.Kill(), c.Remove(t.Context())); err != nil {
		t.Errorf("killing and removing a group that is gone: %v", err)
	}
}

func TestRemoveWaitsNoLongerThanAsked(t *testing.T) {
	c := newGroup(t)
	sleeper(t, c)
	ctx, cancel := context.WithCancelCause(t.Context())
	reason := errors.New("enough")
	finished := make(chan error)
	go func() { finished <- c.Remove(ctx) }()
	cancel(reason)
	if err := <-finished; !errors.Is(err, reason) && !errors.Is(err, unix.EBUSY) {
		t.Errorf("have %v", err)
	}
	if !c.Exists() {
		t.Error("a group with a process was removed")
	}
}

func TestKillFrozen(t *testing.T) {
	c := newGroup(t)
	cmd := sleeper(t, c)
	if err := c.killFrozen(); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err == nil || err.Error() != "signal: killed" {
		t.Errorf("the process ended with %v", err)
	}
}

func TestFreeze(t *testing.T) {
	c := newGroup(t)
	sleeper(t, c)
	if err := c.Freeze(t.Context()); err != nil {
		t.Fatal(err)
	}
	if events, err := c.events(); err != nil || events["frozen"] != 1 {
		t.Errorf("events %v, %v", events, err)
	}
	sub := below(c, "below")
	if err := sub.Create(); err != nil {
		t.Fatal(err)
	}
	if frozen, err := sub.Frozen(); err != nil || !frozen {
		t.Errorf("a group below a frozen one is frozen: %v, %v", frozen, err)
	}
	if err := sub.Create(); !errors.Is(err, errdefs.ErrConflict) || !strings.Contains(err.Error(), "unexpectedly frozen") {
		t.Errorf("create of a frozen group: %v", err)
	}
	if err := c.Thaw(t.Context()); err != nil {
		t.Fatal(err)
	}
	if frozen, err := c.Frozen(); err != nil || frozen {
		t.Errorf("frozen after thaw: %v, %v", frozen, err)
	}
}

// opened runs a process in the group that opens devices, and returns the error
// numbers.
func opened(t *testing.T, c *Cgroup, what ...string) []string {
	t.Helper()
	out, err := child(t, c, "open", what...).Output()
	if err != nil {
		t.Fatal(err)
	}
	return strings.Fields(string(out))
}

func TestDevicesForReal(t *testing.T) {
	c := newGroup(t)
	dir := t.TempDir()
	node := func(name string, kind uint32, major, minor uint32) string {
		path := filepath.Join(dir, name)
		if err := unix.Mknod(path, kind|0o666, int(unix.Mkdev(major, minor))); err != nil {
			t.Skipf("mknod: %v", err)
		}
		return path
	}
	null, kmsg := node("null", unix.S_IFCHR, 1, 3), node("kmsg", unix.S_IFCHR, 1, 11)
	if fd, err := unix.Open(null, unix.O_RDONLY, 0); err != nil {
		t.Skipf("device nodes do not work here: %v", err)
	} else {
		unix.Close(fd)
	}
	zero := int64(0)
	mem, kmsgMinor := int64(1), int64(11)
	for _, step := range []struct {
		name  string
		rules []specs.LinuxDeviceCgroup
		want  []string
	}{
		{"no rules deny", nil, []string{"0", "1", "1", "1"}},
		{"everything", []specs.LinuxDeviceCgroup{{Allow: true}}, []string{"0", "0", "0", "0"}},
		{"reading only", []specs.LinuxDeviceCgroup{
			{Allow: false, Access: "rwm"},
			{Allow: true, Type: "c", Major: &mem, Minor: &kmsgMinor, Access: "r"},
		}, []string{"0", "0", "1", "1"}},
		{"in two rules", []specs.LinuxDeviceCgroup{
			{Allow: true, Type: "c", Major: &mem, Minor: &kmsgMinor, Access: "r"},
			{Allow: true, Type: "c", Major: &mem, Minor: &kmsgMinor, Access: "w"},
			{Allow: false, Type: "b", Major: &mem, Minor: &zero},
		}, []string{"0", "0", "0", "0"}},
		{"all but writing", []specs.LinuxDeviceCgroup{
			{Allow: true, Type: "a"},
			{Allow: false, Type: "c", Major: &mem, Access: "w"},
		}, []string{"0", "0", "1", "1"}},
	} {
		t.Run(step.name, func(t *testing.T) {
			if err := c.SetDevices(step.rules); err != nil {
				t.Fatal(err)
			}
			have := opened(t, c, "rw:"+null, "r:"+kmsg, "w:"+kmsg, "rw:"+kmsg)
			if !slices.Equal(have, step.want) {
				t.Errorf("errors %v, want %v", have, step.want)
			}
			d, err := c.File()
			if err != nil {
				t.Fatal(err)
			}
			defer d.Close()
			if ids, err := attachedPrograms(d); err != nil || len(ids) != 1 && step.name != "everything" {
				t.Errorf("%d programs attached, %v", len(ids), err)
			}
		})
	}
}

// TestAllowAllNeedsNoProgram checks the shortcut of privileged containers.
func TestAllowAllNeedsNoProgram(t *testing.T) {
	c := newGroup(t)
	if err := c.SetDevices([]specs.LinuxDeviceCgroup{{Allow: false}, {Allow: true}}); err != nil {
		t.Fatal(err)
	}
	d, err := c.File()
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	if ids, err := attachedPrograms(d); err != nil || len(ids) != 0 {
		t.Errorf("%d programs attached, %v", len(ids), err)
	}
}

// TestApplyForReal sets a limit of whatever controller this host's unified
// hierarchy has, and asks for one that it lacks.
func TestApplyForReal(t *testing.T) {
	c := newGroup(t)
	data, err := os.ReadFile(filepath.Join(c.root, "cgroup.controllers"))
	if err != nil {
		t.Fatal(err)
	}
	offered := strings.Fields(string(data))
	limit, pids := int64(64<<20), int64(100)
	page, shares, podman := uint64(2<<20), uint64(1024), int64(2048)
	for _, step := range []struct {
		controller, file, v1, want string
		r                          specs.LinuxResources
	}{
		{"memory", "memory.max", "memory.limit_in_bytes", "67108864", specs.LinuxResources{Memory: &specs.LinuxMemory{Limit: &limit}}},
		{"pids", "pids.max", "pids.max", "100", specs.LinuxResources{Pids: &specs.LinuxPids{Limit: &pids}}},
		{"hugetlb", "hugetlb.2MB.max", "hugetlb.2MB.limit_in_bytes", "2097152", specs.LinuxResources{HugepageLimits: []specs.LinuxHugepageLimit{{Pagesize: "2MB", Limit: page}}}},
	} {
		t.Run(step.controller, func(t *testing.T) {
			_, err := c.Apply(&step.r)
			name := filepath.Join(c.Dir(), step.file)
			if dir := c.legacy.Dir(step.controller); dir != "" {
				name = filepath.Join(dir, step.v1)
			} else if !slices.Contains(offered, step.controller) {
				if !errors.Is(err, errdefs.ErrUnsupported) || !strings.Contains(err.Error(), "controller "+step.controller) {
					t.Errorf("without the controller: %v", err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if have, err := kernfs.Read(name); err != nil || strings.TrimSpace(have) != step.want {
				t.Errorf("%s is %q (%v), want %s", step.file, have, err, step.want)
			}
		})
	}
	t.Run("below processes", func(t *testing.T) { refusedBelowProcesses(t, c, offered) })
	r := specs.LinuxResources{CPU: &specs.LinuxCPU{Shares: &shares}, Pids: &specs.LinuxPids{Limit: &podman}}
	if notes, err := c.Apply(&r); err != nil {
		t.Errorf("what engines write without being asked: %v (%v)", err, notes)
	}
}

// refusedBelowProcesses: a group with processes cannot hand controllers down to
// those below it, which is the kernel's rule and has to be said.
func refusedBelowProcesses(t *testing.T, c *Cgroup, offered []string) {
	t.Helper()
	if !slices.Contains(offered, "memory") {
		t.Skip("the unified hierarchy of this host has no memory controller")
	}
	sleeper(t, c)
	sub := below(c, "below")
	if err := sub.Create(); err != nil {
		t.Fatal(err)
	}
	limit := int64(1 << 20)
	_, err := sub.Apply(&specs.LinuxResources{Memory: &specs.LinuxMemory{Limit: &limit}})
	if !errors.Is(err, errdefs.ErrUnsupported) || !strings.Contains(err.Error(), "the cgroup "+c.path+" cannot hand down the controller memory: it has processes of its own") {
		t.Errorf("have %v", err)
	}
}
