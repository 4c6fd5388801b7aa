package legacy

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
	"time"

	"golang.org/x/sys/unix"

	"box/internal/errdefs"
	"box/pkg/cgroups/kernfs"
)

// TestMain is also the program that tests run inside a group: it prints its own
// groups and waits until it is killed. With the path of a group and the directory of its
// lock as arguments it makes room in that group before.
func TestMain(m *testing.M) {
	if os.Getenv("LEGACY_TEST_CHILD") == "" {
		os.Exit(m.Run())
	}
	if len(os.Args) == 3 {
		g, err := Find(os.Args[1])
		if err == nil {
			g.Guard(os.Args[2])
			pids, _ := g.member("pids")
			_, err = g.makeRoom(pids)
		}
		if err != nil {
			os.Stderr.WriteString(err.Error() + "\n")
			os.Exit(1)
		}
	}
	data, _ := os.ReadFile("/proc/self/cgroup")
	os.Stdout.Write(append(data, '.'))
	for {
		_ = unix.Pause()
	}
}

// newGroup makes a group that is removed, with all that is in it, after the test.
func newGroup(t *testing.T) *Group {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("making cgroups needs root")
	}
	g, err := Find("/box-cgroups-test/" + t.Name() + "-" + strconv.Itoa(os.Getpid()))
	if err != nil {
		t.Fatal(err)
	}
	if g == nil {
		t.Skip("this host has no v1 hierarchies")
	}
	if _, err := g.Create(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(g.Kill(), g.Remove(context.Background())); err != nil || g.Exists() {
			t.Errorf("the group is left: %v", err)
		}
		for _, dir := range g.Dirs() {
			_ = unix.Rmdir(filepath.Dir(dir)) // others may be in it
		}
	})
	return g
}

// child starts a process in the group that waits until it is killed, and returns
// what it saw of its groups.
func child(t *testing.T, g *Group) (*exec.Cmd, string) {
	t.Helper()
	return program(t, g.Within)
}

// program starts this program anew; start calls what it is given.
func program(t *testing.T, start func(func() error) error, args ...string) (*exec.Cmd, string) {
	t.Helper()
	cmd := exec.Command("/proc/self/exe", args...)
	cmd.Env = []string{"LEGACY_TEST_CHILD=1"}
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := start(cmd.Start); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	data := make([]byte, 4096)
	n := 0
	for !strings.Contains(string(data[:n]), ".") {
		more, err := out.Read(data[n:])
		if n += more; err != nil {
			t.Fatal(err)
		}
	}
	return cmd, string(data[:n])
}

// TestBornInEveryGroup: from its first instruction on a child is in all of them,
// and the thread that made it is not.
func TestBornInEveryGroup(t *testing.T) {
	g := newGroup(t)
	before, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		t.Fatal(err)
	}
	cmd, seen := child(t, g)
	for _, m := range g.members {
		if !strings.Contains(seen, ":"+m.name+":"+m.path+"\n") {
			t.Errorf("the child is not in %s of %s:\n%s", m.path, m.name, seen)
		}
		tasks, err := kernfs.Read(m.file("tasks"))
		if err != nil || len(strings.Fields(tasks)) < 1 {
			t.Errorf("%s: tasks %q, %v", m.name, tasks, err)
		}
		for _, task := range strings.Fields(tasks) {
			if _, err := os.Stat(filepath.Join("/proc/self/task", task)); err == nil {
				t.Errorf("our thread %s stayed in %s", task, m.dir())
			}
		}
	}
	if after, _ := os.ReadFile("/proc/self/cgroup"); string(after) != string(before) {
		t.Errorf("we have moved from\n%s to\n%s", before, after)
	}
	if pids, err := g.Procs(); err != nil || !slices.Equal(pids, []int{cmd.Process.Pid}) {
		t.Errorf("processes %v, %v", pids, err)
	}
	if _, err := g.Create(); !errors.Is(err, errdefs.ErrConflict) || !strings.Contains(err.Error(), "container's cgroup is not empty: 1 process(es)") {
		t.Errorf("create of a used group: %v", err)
	}
}

// newLimited is newGroup with a limit of processes, and the lock that goes with it.
func newLimited(t *testing.T, limit string) (*Group, member) {
	t.Helper()
	g := newGroup(t)
	m, ok := g.member("pids")
	if !ok {
		t.Skip("no pids controller in v1")
	}
	g.Guard(t.TempDir())
	if err := kernfs.Write(m.file("pids.max"), limit); err != nil {
		t.Fatal(err)
	}
	return g, m
}

func (m member) expectLimit(t *testing.T, want string) {
	t.Helper()
	if limit, err := kernfs.Read(m.file("pids.max")); err != nil || limit != want+"\n" {
		t.Errorf("pids.max is %q, %v; want %s", limit, err, want)
	}
}

// TestBornAtTheLimit: the thread counts for the pids controller as well.
func TestBornAtTheLimit(t *testing.T) {
	g, m := newLimited(t, "1")
	cmd := exec.Command("/bin/true")
	if err := g.Within(cmd.Start); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	m.expectLimit(t, "1")
}

// TestBornAtOnce: those who come at the same time do not make room for good, nor put
// back a limit that was changed meanwhile.
func TestBornAtOnce(t *testing.T) {
	g, m := newLimited(t, "100")
	const comers = 8
	done := make(chan error, comers)
	for i := range comers {
		go func() {
			var err error
			for n := range 20 {
				cmd := exec.Command("/bin/true")
				err = errors.Join(err, g.Within(cmd.Start))
				_ = cmd.Wait()
				if i == 0 && n == 10 {
					err = errors.Join(err, changeLimit(g, m, "90", time.Minute))
				}
			}
			done <- err
		}()
	}
	for range comers {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	m.expectLimit(t, "90")
}

// TestStuckBirth: who changes the limit while a child hangs on its way waits a moment,
// and then the change stays.
func TestStuckBirth(t *testing.T) {
	g, m := newLimited(t, "100")
	if err := g.Within(func() error { return changeLimit(g, m, "90", changePatience) }); err != nil {
		t.Error(err)
	}
	m.expectLimit(t, "90")
}

// TestRoomOfTheKilled: who makes room and is killed leaves the limit one too high; whoever
// comes next puts it back, and not a limit that was meant.
func TestRoomOfTheKilled(t *testing.T) {
	g, m := newLimited(t, "100")
	kill := func() {
		t.Helper()
		cmd, _ := program(t, func(start func() error) error { return start() }, m.path, g.guard)
		if err := cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		_ = cmd.Wait()
	}
	hold := func() {
		t.Helper()
		release, err := g.Hold()
		if err != nil {
			t.Fatal(err)
		}
		release()
	}
	kill()
	m.expectLimit(t, "101")
	next := exec.Command("/bin/true")
	if err := errors.Join(g.Within(next.Start), next.Wait()); err != nil {
		t.Error(err)
	}
	m.expectLimit(t, "100")
	set := func(limit string) { // by somebody who knows nothing of us
		t.Helper()
		if err := kernfs.Write(m.file("pids.max"), limit); err != nil {
			t.Fatal(err)
		}
	}
	set("101")
	hold()
	m.expectLimit(t, "101")
	set("100")
	kill()
	kill()
	m.expectLimit(t, "101")
	if err := changeLimit(g, m, "101", time.Minute); err != nil {
		t.Error(err)
	}
	hold()
	m.expectLimit(t, "101")
	kill()
	m.expectLimit(t, "102")
	set("7")
	hold()
	m.expectLimit(t, "7")
}

func changeLimit(g *Group, m member, to string, patience time.Duration) error {
	l, err := g.hold(patience)
	if err != nil {
		return err
	}
	defer l.release()
	return kernfs.Write(m.file("pids.max"), to)
}

func TestFreezeAndKill(t *testing.T) {
	g := newGroup(t)
	if !g.Has("freezer") {
		t.Skip("no freezer in v1")
	}
	cmd, _ := child(t, g)
	if err := g.Freeze(t.Context()); err != nil {
		t.Fatal(err)
	}
	if frozen, err := g.Frozen(); err != nil || !frozen {
		t.Errorf("frozen %v, %v", frozen, err)
	}
	if err := g.Thaw(); err != nil {
		t.Fatal(err)
	}
	if frozen, err := g.Frozen(); err != nil || frozen {
		t.Errorf("after thaw: frozen %v, %v", frozen, err)
	}
	if err := errors.Join(g.Freeze(t.Context()), g.Kill()); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err == nil || err.Error() != "signal: killed" {
		t.Errorf("the process ended with %v", err)
	}
	if err := g.Freeze(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := g.Create(); !errors.Is(err, errdefs.ErrConflict) || !strings.Contains(err.Error(), "container's cgroup unexpectedly frozen") {
		t.Errorf("create of a frozen group: %v", err)
	}
}

func TestJoin(t *testing.T) {
	g := newGroup(t)
	cmd := exec.Command("sleep", "infinity")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	if err := g.Join(cmd.Process.Pid); err != nil {
		t.Fatal(err)
	}
	if pids, err := g.Procs(); err != nil || !slices.Equal(pids, []int{cmd.Process.Pid}) {
		t.Errorf("processes %v, %v", pids, err)
	}
}

// TestFailedCreateLeavesNothing: neither when one hierarchy refuses, nor when its
// caller fails afterwards; what was there before stays.
func TestFailedCreateLeavesNothing(t *testing.T) {
	first := newGroup(t)
	g := first.Clone()
	if err := g.Descend("", "sub"); err != nil {
		t.Fatal(err)
	}
	last := &g.members[len(g.members)-1]
	if err := kernfs.Make(last.dir()); err != nil {
		t.Fatal(err)
	}
	undo, err := g.Create()
	if err != nil {
		t.Fatal(err)
	}
	undo()
	for i, dir := range g.Dirs() {
		if _, err := os.Stat(dir); (err == nil) != (i == len(g.members)-1) {
			t.Errorf("%s: %v", dir, err)
		}
	}
	last.path = "/none\x00" // a name that no kernel takes
	if _, err := g.Create(); err == nil || g.Exists() {
		t.Errorf("have %v", err)
	}
}

// TestVisitorsAreNoMembers: who comes for the moment of a fork is not killed with the
// group, as the whole process would be.
func TestVisitorsAreNoMembers(t *testing.T) {
	g := newGroup(t)
	err := g.Within(func() error {
		pids, err := kernfs.Procs(g.Dirs()...)
		if err != nil || !slices.Equal(pids, []int{os.Getpid()}) {
			t.Errorf("the group lists %v, %v, want the visitor", pids, err)
		}
		child := exec.Command("sleep", "1000")
		if err := child.Start(); err != nil {
			return err
		}
		defer func() { _ = child.Wait() }()
		if pids, err := g.Procs(); err != nil || !slices.Equal(pids, []int{child.Process.Pid}) {
			t.Errorf("members: %v, %v, want %d", pids, err, child.Process.Pid)
		}
		return child.Process.Kill()
	})
	if err != nil {
		t.Error(err)
	}
}
