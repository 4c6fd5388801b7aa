package cgroups

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"

	"box/internal/errdefs"
)

// hasController tells whether a group can have a controller on this host.
func hasController(t *testing.T, c *Cgroup, controller string) bool {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(c.root, "cgroup.controllers"))
	return c.legacy.Has(controller) || err == nil && slices.Contains(strings.Fields(string(data)), controller)
}

// launched starts a process in the group as Launch does it for containers.
func launched(t *testing.T, c *Cgroup, what string) (tell func()) {
	t.Helper()
	cmd := command(what)
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	err = c.Launch(cmd.SysProcAttr, 0, func() (int, error) {
		if err := cmd.Start(); err != nil {
			return 0, err
		}
		return cmd.Process.Pid, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	return func() { in.Close() }
}

// TestWatchOOM: the watcher hears of each kill, and of the end.
func TestWatchOOM(t *testing.T) {
	c := newGroup(t)
	if !hasController(t, c, "memory") {
		t.Skip("needs the memory controller")
	}
	limit := int64(16 << 20)
	r := &specs.LinuxResources{Memory: &specs.LinuxMemory{Limit: &limit, Swap: &limit}}
	if _, err := c.Apply(r); err != nil {
		t.Fatal(err)
	}
	if n, err := c.OOMKills(); err != nil || n != 0 {
		t.Errorf("before: %d kills, %v", n, err)
	}
	tell := launched(t, c, "eat")
	kills, err := c.WatchOOM(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	tell()
	if _, ok := <-kills; !ok {
		t.Fatal("the watch ended before the kill")
	}
	for range kills { // until the group is empty
	}
	if n, err := c.OOMKills(); err != nil || n != 1 {
		t.Errorf("after: %d kills, %v", n, err)
	}
	if s, err := c.Stats(); err != nil || s.Memory.Usage.Limit != uint64(limit) || s.Memory.Usage.Max == 0 {
		t.Errorf("figures %+v, %v", s, err)
	}
}

// TestWatchEnds with the last process, and with the context, whatever controllers
// the group has.
func TestWatchEnds(t *testing.T) {
	c := newGroup(t)
	launched(t, c, "wait")
	kills, err := c.WatchOOM(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Kill(); err != nil {
		t.Fatal(err)
	}
	for range kills {
		t.Error("a kill by us was taken for one for want of memory")
	}
}

func TestStatsOfNothing(t *testing.T) {
	c := newGroup(t)
	if s, err := c.Stats(); err != nil || s.Pids.Current != 0 {
		t.Errorf("an empty group: %+v, %v", s, err)
	}
	if _, err := below(c, "none").Stats(); !errors.Is(err, errdefs.ErrNotFound) {
		t.Errorf("a group that does not exist: %v", err)
	}
}

// TestLaunchCounts: a child of Launch is in the group in every hierarchy, and
// figures are found where the controller is.
func TestLaunchCounts(t *testing.T) {
	c := newGroup(t)
	launched(t, c, "wait")
	s, err := c.Stats()
	if err != nil {
		t.Fatal(err)
	}
	if hasController(t, c, "pids") && s.Pids.Current == 0 || hasController(t, c, "memory") && s.Memory.Usage.Usage == 0 {
		t.Errorf("figures %+v", s)
	}
}

// TestSub joins groups below, and says in runc's words why it cannot.
func TestSub(t *testing.T) {
	c := newGroup(t)
	for _, bad := range []string{"..", "../x", "a/../../b"} {
		if _, err := c.Sub([]string{bad}); err == nil || !strings.Contains(err.Error(), "bad sub cgroup path") {
			t.Errorf("%s: %v", bad, err)
		}
	}
	sub, err := c.Sub([]string{"/below"})
	if err != nil {
		t.Fatal(err)
	}
	cmd := command("wait")
	start := func() (int, error) {
		if cmd.Process != nil {
			cmd = command("wait")
		}
		if err := cmd.Start(); err != nil {
			return 0, err
		}
		return cmd.Process.Pid, nil
	}
	err = sub.Launch(cmd.SysProcAttr, 0, start)
	if cmd.Process != nil {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}
	if err == nil || !strings.Contains(err.Error(), "adding pid ") || !strings.Contains(err.Error(), "no such file or directory") {
		t.Errorf("a group that does not exist: %v", err)
	}
	if err := sub.Create(); err != nil {
		t.Fatal(err)
	}
	launched(t, sub, "wait")
	if pids, err := sub.Procs(); err != nil || len(pids) != 1 {
		t.Errorf("processes %v, %v", pids, err)
	}
}

// TestUpdateBelowUsage: what is in use and cannot be swapped out is in the way of a
// lower limit, which v1 says at once. (v2 kills, unless it is asked to check.)
func TestUpdateBelowUsage(t *testing.T) {
	c := newGroup(t)
	if !c.legacy.Has("memory") {
		t.Skip("needs the memory controller of cgroup v1")
	}
	cmd := command("hold")
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.legacy.Within(cmd.Start); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	in.Close()
	if _, err := out.Read(make([]byte, 6)); err != nil {
		t.Fatal(err)
	}
	limit, both := int64(8<<20), int64(8<<20)
	check := true
	r := &specs.LinuxResources{Memory: &specs.LinuxMemory{Limit: &limit, Swap: &both, CheckBeforeUpdate: &check}}
	if _, err := c.Update(r); !errors.Is(err, errdefs.ErrConflict) || !strings.Contains(err.Error(), "rejecting memory+swap limit 8388608 <= usage ") {
		t.Errorf("with a check: %v", err)
	}
	if data, _ := os.ReadFile("/proc/swaps"); strings.Count(string(data), "\n") > 1 {
		t.Skip("this host swaps")
	}
	check = false
	r.Memory.Swap = nil
	if _, err := c.Update(r); err == nil || !strings.Contains(err.Error(), "unable to set memory limit to 8388608 (current usage: ") {
		t.Errorf("without a check: %v", err)
	}
}
