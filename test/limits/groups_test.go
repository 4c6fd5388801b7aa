package limits

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"box/internal/testkit"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// TestParentLimits: what a group above the container's is limited to, the
// container feels, and the group above stays when the container goes.
func TestParentLimits(t *testing.T) {
	c := newContainer(t, "memory", gluttony...)
	parent := c.group + "-parent"
	must(t, os.Mkdir(parent, 0o755))
	t.Cleanup(func() { must(t, os.Remove(parent)) })
	t.Cleanup(c.remove) // before its parent can go
	for file, value := range map[string]string{"memory.max": "33554432", "memory.swap.max": "0", "cgroup.subtree_control": "+memory"} {
		if err := os.WriteFile(filepath.Join(parent, file), []byte(value), 0); err != nil && !os.IsNotExist(err) {
			t.Fatal(err) // a kernel without swap accounting has no memory.swap.max
		}
	}
	c.group = filepath.Join(parent, c.id)
	c.spec.Linux.CgroupsPath = strings.TrimPrefix(c.group, groups)
	c.finish()
	if n := c.counter("memory.events", "oom_kill"); n == 0 {
		t.Error("the container ate more than its parent may hold")
	}
}

// TestGroupsInside: a container with a writable cgroup mount divides its own group
// and limits a part of itself; deleting it takes the parts along.
func TestGroupsInside(t *testing.T) {
	script := `cd /sys/fs/cgroup && mkdir self part && echo 0 >self/cgroup.procs &&
		echo "+pids +memory" >cgroup.subtree_control && echo 16M >part/memory.max &&
		sh -c 'echo 0 >part/cgroup.procs; exec tail /dev/zero'; echo "status $?"; cat /proc/self/cgroup`
	c := newContainer(t, "memory pids", "sh", "-c", script)
	for i, m := range c.spec.Mounts {
		if m.Destination == "/sys/fs/cgroup" {
			c.spec.Mounts[i].Options = []string{"nosuid", "noexec", "nodev", "relatime", "rw"}
		}
	}
	output := c.finish()
	if !strings.Contains(output, "status 137\n") || !strings.Contains(output, "0::/self\n") {
		t.Errorf("a limited part of the container: %q", output)
	}
	c.do("delete", c.id)
	if _, err := os.Stat(c.group); err == nil {
		t.Error("the group stays after delete")
	}
}

// TestDeviceRules: the node can be made, but only what a rule allows can be opened,
// and only in the way that it says.
func TestDeviceRules(t *testing.T) {
	testkit.RequireRoot(t)
	script := `mknod /mem c 1 1; mknod /fuse c 10 229; mknod /zero c 1 5
		true </mem; echo "mem $?"; true </fuse; echo "read fuse $?"; true >/fuse; echo "write fuse $?"; true >/zero; echo "zero $?"`
	c := newContainer(t, "", "sh", "-c", script)
	for _, set := range []*[]string{&c.spec.Process.Capabilities.Bounding, &c.spec.Process.Capabilities.Effective, &c.spec.Process.Capabilities.Permitted} {
		*set = append(*set, "CAP_MKNOD")
	}
	c.spec.Linux.Resources.Devices = []specs.LinuxDeviceCgroup{
		{Allow: false, Access: "rwm"},
		{Allow: true, Type: "c", Access: "m"},
		{Allow: true, Type: "c", Major: ptr(int64(10)), Minor: ptr(int64(229)), Access: "r"},
		{Allow: true, Type: "c", Major: ptr(int64(1)), Minor: ptr(int64(5)), Access: "rw"},
	}
	output := c.finish()
	for _, want := range []string{"mem 1\n", "read fuse 0\n", "write fuse 1\n", "zero 0\n"} {
		if !strings.Contains(output, want) {
			t.Errorf("%q is not in %q", want, output)
		}
	}
}

// TestUpdateIsFelt: a limit that is raised while the container runs lets it go on.
func TestUpdateIsFelt(t *testing.T) {
	c := newContainer(t, "pids memory", "sleep", "60")
	c.spec.Linux.Resources.Pids = &specs.LinuxPids{Limit: ptr(int64(1))}
	c.save()
	c.do("create", c.id)
	c.do("start", c.id)
	c.expect("pids.max", "1")
	// A process that enters may be one too many: the limit is one of forks.
	forks := []string{"exec", c.id, "sh", "-c", "true & wait $!"}
	if r := c.call(forks...); r.status == 0 {
		t.Errorf("a fork where one process is allowed: %v", r)
	}
	c.do("update", "--pids-limit", "20", c.id)
	c.expect("pids.max", "20")
	c.do(forks...)
	c.do("update", "--memory", "67108864", c.id)
	c.expect("memory.max", "67108864")
	c.do("kill", c.id, "KILL")
}
