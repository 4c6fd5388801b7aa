package cgroups

import (
	"errors"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"box/internal/errdefs"
	"box/pkg/cgroups/kernfs"
)

// groupOf is the path of a process in the unified hierarchy.
func groupOf(t *testing.T, pid int) string {
	t.Helper()
	data, err := kernfs.Read("/proc/" + strconv.Itoa(pid) + "/cgroup")
	if err != nil {
		t.Fatal(err)
	}
	p, _ := unifiedPath(data)
	return p
}

// onlyProc is the only process in a group and below it.
func onlyProc(t *testing.T, c *Cgroup) int {
	t.Helper()
	pids, err := c.Procs()
	if err != nil || len(pids) != 1 {
		t.Fatalf("processes %v, %v", pids, err)
	}
	return pids[0]
}

// anyDomainController is one that a group with processes cannot hand down.
func anyDomainController(t *testing.T, c *Cgroup) string {
	t.Helper()
	data, _ := c.read("cgroup.controllers")
	for _, name := range []string{"memory", "hugetlb", "io"} {
		if slices.Contains(strings.Fields(data), name) {
			return name
		}
	}
	t.Skip("the unified hierarchy has no domain controller")
	return ""
}

// TestLaunchNearInit: a container that has moved its processes below and handed
// controllers down gets its further processes where its init is.
func TestLaunchNearInit(t *testing.T) {
	c := newGroup(t)
	controller := anyDomainController(t, c)
	sub := below(c, "init")
	if err := sub.createUnified(); err != nil {
		t.Fatal(err)
	}
	launched(t, sub, "wait")
	init := onlyProc(t, sub)
	if err := c.write("cgroup.subtree_control", "+"+controller); err != nil {
		t.Fatal(err)
	}
	cmd := command("wait")
	start := func() (int, error) {
		if err := cmd.Start(); err != nil {
			cmd = command("wait")
			return 0, err
		}
		t.Cleanup(func() {
			_ = cmd.Process.Kill()
			_ = cmd.Wait()
		})
		return cmd.Process.Pid, nil
	}
	if err := c.Launch(cmd.SysProcAttr, init, start); err != nil {
		t.Fatal(err)
	}
	if have := groupOf(t, cmd.Process.Pid); have != sub.path {
		t.Errorf("the process is in %s, want %s", have, sub.path)
	}
	cmd = command("wait")
	err := c.Launch(cmd.SysProcAttr, 0, start)
	if err == nil || !strings.Contains(err.Error(), "adding pid "+strconv.Itoa(cmd.Process.Pid)+" to cgroups") || !strings.Contains(err.Error(), "device or resource busy") {
		t.Errorf("without an init: %v", err)
	}
}

// TestThreadedTree: below a threaded group only threaded groups take processes. The kernel
// does not list those of such a group, nor kill them all at once.
func TestThreadedTree(t *testing.T) {
	c := newGroup(t)
	if c.root == "" {
		t.Skip("needs the unified hierarchy")
	}
	parent := below(c, "threaded")
	if err := kernfs.Make(parent.Dir()); err != nil {
		t.Fatal(err)
	}
	if err := parent.write("cgroup.type", "threaded"); err != nil {
		t.Fatal(err)
	}
	sub := below(c, "threaded/container")
	if err := sub.Create(); err != nil {
		t.Fatal(err)
	}
	if kind := trimmed(sub.Dir() + "/cgroup.type"); kind != "threaded" {
		t.Errorf("the group is %s", kind)
	}
	cmd := command("wait")
	err := sub.Launch(cmd.SysProcAttr, 0, func() (int, error) {
		if err := cmd.Start(); err != nil {
			return 0, err
		}
		return cmd.Process.Pid, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill() })
	if have := groupOf(t, cmd.Process.Pid); have != sub.path {
		t.Errorf("the process is in %s, want %s", have, sub.path)
	}
	if have := onlyProc(t, sub); have != cmd.Process.Pid {
		t.Errorf("the group has process %d, want %d", have, cmd.Process.Pid)
	}
	if err := sub.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err == nil || err.Error() != "signal: killed" {
		t.Errorf("the process ended with %v", err)
	}
}

// TestLaunchWithoutAGroup leaves the child where its parent is.
func TestLaunchWithoutAGroup(t *testing.T) {
	none, err := Open(Location{})
	if err != nil {
		t.Fatal(err)
	}
	launched(t, none, "wait")
	if pids, err := none.Procs(); err != nil || len(pids) != 0 || none.Exists() {
		t.Errorf("processes %v, %v", pids, err)
	}
	if frozen, err := none.Frozen(); frozen || err != nil {
		t.Errorf("frozen %v, %v", frozen, err)
	}
	if err := none.Kill(); err != nil {
		t.Error(err)
	}
	if figures, err := none.Stats(); err != nil || figures.Memory.Usage.Usage != 0 || figures.Hugetlb == nil {
		t.Errorf("figures %+v, %v", figures, err)
	}
	if _, err := none.WatchOOM(t.Context()); !errors.Is(err, errdefs.ErrUnsupported) {
		t.Errorf("watch: %v", err)
	}
	if none.Freeze(t.Context()) == nil {
		t.Error("nothing was frozen without an error")
	}
}

// TestDenied: a rootless caller goes without a group that it may not make, unless
// it asked for it.
func TestDenied(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root: makes a tree that is not to be written")
	}
	root := t.TempDir()
	if err := unix.Mount("none", root, "tmpfs", unix.MS_RDONLY, ""); err != nil {
		t.Skip(err)
	}
	defer func() { _ = unix.Unmount(root, unix.MNT_DETACH) }()
	c := &Cgroup{root: root, path: "/x", rootless: true, unasked: true}
	if err := c.Create(); err != nil || c.Location().Path != "" {
		t.Errorf("%v, location %+v", err, c.Location())
	}
	limit := int64(5)
	if _, err := c.Apply(pidsLimit(limit)); err == nil || !strings.Contains(err.Error(), "rootless needs no limits + no cgrouppath when no permission is granted for cgroups") {
		t.Errorf("a limit: %v", err)
	}
	if _, err := c.Apply(pidsLimit(-1)); err != nil {
		t.Errorf("no limit: %v", err)
	}
	asked := &Cgroup{root: root, path: "/x", rootless: true}
	if err := asked.Create(); err == nil || !strings.HasPrefix(err.Error(), "unable to apply cgroup configuration: create cgroup /x") {
		t.Errorf("asked for: %v", err)
	}
}

func pidsLimit(n int64) *specs.LinuxResources {
	return &specs.LinuxResources{Pids: &specs.LinuxPids{Limit: &n}}
}

func TestCommonAncestor(t *testing.T) {
	for _, c := range []struct{ a, b, want string }{
		{"/user.slice/session.scope", "/user.slice/user@1.service/x.scope", "/user.slice"},
		{"/a/b", "/a/b", "/a/b"},
		{"/a/b", "/a/bc", "/a"},
		{"/a", "/a/b", "/a"},
		{"/a/b", "/a", "/a"},
		{"/", "/a", "/"},
		{"/a", "/b", "/"},
	} {
		if have := commonAncestor(c.a, c.b); have != c.want {
			t.Errorf("%s, %s: %s", c.a, c.b, have)
		}
	}
}

// TestLateIsForUsers: root's children are born where they belong.
func TestLateIsForUsers(t *testing.T) {
	c := newGroup(t)
	if c.Late() {
		t.Error("a child of root has to wait")
	}
}
