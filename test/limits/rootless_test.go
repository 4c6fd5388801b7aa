package limits

import (
	"os"
	"os/user"
	"strings"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// needUser skips unless a user without privileges runs the test.
func needUser(t *testing.T) {
	t.Helper()
	if os.Geteuid() == 0 {
		t.Skip("needs a user without privileges")
	}
}

// subordinate gives the container the user's subordinate ids from 1 on.
func (c *container) subordinate() {
	c.t.Helper()
	me, err := user.Current()
	must(c.t, err)
	text := c.read("/etc/subuid")
	if !strings.Contains("\n"+text, "\n"+me.Username+":100000:65536\n") {
		c.t.Skipf("needs 65536 subordinate ids from 100000 on for %s", me.Username)
	}
	more := specs.LinuxIDMapping{ContainerID: 1, HostID: 100000, Size: 65536}
	c.spec.Linux.UIDMappings = append(c.spec.Linux.UIDMappings, more)
	c.spec.Linux.GIDMappings = append(c.spec.Linux.GIDMappings, more)
}

// identity prints who a process is.
const identity = "grep -E '^(Uid|Gid|Groups):' /proc/self/status; cat /proc/self/uid_map"

func TestUserIsRootInside(t *testing.T) {
	needUser(t)
	c := newContainer(t, "", "sh", "-c", identity)
	output := strings.Join(strings.Fields(c.finish()), " ")
	if !strings.HasPrefix(output, "Uid: 0 0 0 0 Gid: 0 0 0 0 Groups: ") || !strings.HasSuffix(output, " 0 1000 1") {
		t.Errorf("got %q", output)
	}
}

func TestSubordinateIDs(t *testing.T) {
	needUser(t)
	c := newContainer(t, "", "sh", "-c", identity)
	c.subordinate()
	c.spec.Process.User = specs.User{UID: 5, GID: 6}
	output := strings.Join(strings.Fields(c.finish()), " ")
	if want := "Uid: 5 5 5 5 Gid: 6 6 6 6 Groups: 0 1000 1 1 100000 65536"; output != want {
		t.Errorf("got %q, want %q", output, want)
	}
}

// TestSubordinateGroups: with newgidmap the container may have further groups. runc
// refuses them.
func TestSubordinateGroups(t *testing.T) {
	needUser(t)
	c := newContainer(t, "", "sh", "-c", identity)
	c.subordinate()
	c.spec.Process.User = specs.User{UID: 5, GID: 6, AdditionalGids: []uint32{7, 8}}
	r := c.run()
	if strings.Contains(r.err, "cannot set any additional groups in a rootless container") {
		t.Skip(r.err)
	}
	if !strings.Contains(r.out, "Groups:\t7 8 \n") {
		t.Errorf("%v", r)
	}
}

// TestUserLifecycle goes through the verbs as an unprivileged engine does.
func TestUserLifecycle(t *testing.T) {
	needUser(t)
	c := newContainer(t, "pids memory", "sleep", "60")
	c.subordinate()
	c.save()
	c.do("create", c.id)
	if out := c.do("exec", c.id, "echo", "before start"); out != "before start\n" {
		t.Errorf("exec into a created container: %q", out)
	}
	c.do("start", c.id)
	if out := c.do("exec", "--user", "9:10", c.id, "sh", "-c", identity); !strings.HasPrefix(out, "Uid:\t9\t9\t9\t9\nGid:\t10\t") {
		t.Errorf("exec as another: %q", out)
	}
	if out := c.do("ps", c.id); !strings.Contains(out, "sleep 60") {
		t.Errorf("ps: %q", out)
	}
	c.do("pause", c.id)
	c.expect("cgroup.freeze", "1")
	c.do("resume", c.id)
	c.do("kill", c.id, "KILL")
	c.do("delete", "--force", c.id)
	if _, err := os.Stat(c.group); err == nil {
		t.Error("the group stays after delete")
	}
}

// TestForeignGroupIsRefused: a user who names a group that is not his is told so.
func TestForeignGroupIsRefused(t *testing.T) {
	needUser(t)
	c := newContainer(t, "", "true")
	c.spec.Linux.CgroupsPath = "/box-limits-foreign"
	if r := c.run(); r.status == 0 || !strings.Contains(r.err, "permission denied") {
		t.Errorf("a group of the root: %v", r)
	}
}
