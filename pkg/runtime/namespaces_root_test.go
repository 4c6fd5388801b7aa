package runtime

import (
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"box/internal/testkit"
)

// join makes the container use a namespace of the process.
func (b *bench) join(kind specs.LinuxNamespaceType, pid int, file string) {
	path := "/proc/" + strconv.Itoa(pid) + "/ns/" + file
	for i := range b.spec.Linux.Namespaces {
		if b.spec.Linux.Namespaces[i].Type == kind {
			b.spec.Linux.Namespaces[i].Path = path
			return
		}
	}
	b.spec.Linux.Namespaces = append(b.spec.Linux.Namespaces, specs.LinuxNamespace{Type: kind, Path: path})
}

// TestJoinedUserNamespace: a container in the user namespace of another one, with
// others of its own that belong to it, or joined too, also such as the other does not
// own; and a further process in it.
func TestJoinedUserNamespace(t *testing.T) {
	first := newBench(t, "sleep", "1000")
	first.userNamespace()
	pid := first.background()
	defer first.do("delete", "-f", first.id)

	const show = "busybox cat /proc/self/uid_map | busybox tr -s ' '; busybox stat -c %u /; echo $$; hostname"
	for _, c := range []struct {
		name string
		edit func(*bench)
		want string
	}{
		{"own others", func(b *bench) { b.spec.Hostname = "second" }, " 0 100000 65536\n0\n1\nsecond\n"},
		{"all of it", func(b *bench) {
			for kind, file := range map[specs.LinuxNamespaceType]string{
				specs.NetworkNamespace: "net", specs.IPCNamespace: "ipc", specs.UTSNamespace: "uts",
			} {
				b.join(kind, pid, file)
			}
			b.spec.Hostname = ""
		}, " 0 100000 65536\n0\n1\n" + first.spec.Hostname + "\n"},
		{"host's uts", func(b *bench) {
			b.join(specs.UTSNamespace, os.Getpid(), "uts")
			b.spec.Hostname = ""
		}, " 0 100000 65536\n0\n1\n" + hostname(t) + "\n"},
	} {
		t.Run(strings.NewReplacer(" ", "-", "'", "").Replace(c.name), func(t *testing.T) {
			b := newBench(t, "sh", "-c", show)
			b.userNamespace()
			b.join(specs.UserNamespace, pid, "user")
			b.spec.Linux.UIDMappings, b.spec.Linux.GIDMappings = nil, nil
			c.edit(b)
			b.expectOutput(c.want)
			b.spec.Process.Args = []string{"sleep", "1000"}
			b.background()
			defer b.do("delete", "-f", b.id)
			if got := b.do("exec", b.id, "readlink", "/proc/self/ns/user"); got != link(t, pid, "user") {
				t.Errorf("exec is in %s, want %s", got, link(t, pid, "user"))
			}
		})
	}
}

func hostname(t *testing.T) string {
	t.Helper()
	name, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	return name
}

// link is what readlink prints for a namespace of the process.
func link(t *testing.T, pid int, file string) string {
	t.Helper()
	to, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/%s", pid, file))
	if err != nil {
		t.Fatal(err)
	}
	return to + "\n"
}

// TestTimeOffsets: in a user namespace as well, new or joined.
func TestTimeOffsets(t *testing.T) {
	for _, name := range []string{"plain", "own-ids", "joined-ids"} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t, "sh", "-c", "busybox tr -s ' ' </proc/self/timens_offsets")
			switch name {
			case "own-ids":
				b.userNamespace()
			case "joined-ids":
				first := newBench(t, "sleep", "1000")
				first.id += "-first"
				first.userNamespace()
				pid := first.background()
				defer first.do("delete", "-f", first.id)
				b.userNamespace()
				b.join(specs.UserNamespace, pid, "user")
				b.spec.Linux.UIDMappings, b.spec.Linux.GIDMappings = nil, nil
			}
			b.spec.Linux.Namespaces = append(b.spec.Linux.Namespaces, specs.LinuxNamespace{Type: specs.TimeNamespace})
			b.spec.Linux.TimeOffsets = map[string]specs.LinuxTimeOffset{"monotonic": {Secs: 7881, Nanosecs: 2718281}, "boottime": {Secs: 1337}}
			b.expectOutput("monotonic 7881 2718281\nboottime 1337 0\n")
		})
	}
}

// TestTimeNamespaceIsTheCommandsOwn, and not its children's alone: a hook that runs before
// the command, a further process and another container that names it find it, too.
func TestTimeNamespaceIsTheCommandsOwn(t *testing.T) {
	b := newBench(t, "sleep", "1000")
	b.spec.Linux.Namespaces = append(b.spec.Linux.Namespaces, specs.LinuxNamespace{Type: specs.TimeNamespace})
	b.spec.Linux.TimeOffsets = map[string]specs.LinuxTimeOffset{"monotonic": {Secs: 7881}}
	hook := b.bundle + "/hook" // in the host's file system
	b.spec.Hooks = &specs.Hooks{CreateContainer: []specs.Hook{{
		Path: "/bin/sh", Args: []string{"sh", "-c", "readlink /proc/self/ns/time >" + hook}, Env: []string{"PATH=/bin:/usr/bin"},
	}}}
	pid := b.background()
	want := link(t, pid, "time")
	if want == link(t, os.Getpid(), "time") || want != link(t, pid, "time_for_children") {
		t.Errorf("the command is in %s, its children in %s", want, link(t, pid, "time_for_children"))
	}
	if got := testkit.Text(t, hook); got != want {
		t.Errorf("the hook was in %s, want %s", got, want)
	}
	if got := b.do("exec", b.id, "readlink", "/proc/self/ns/time"); got != want {
		t.Errorf("exec is in %s, want %s", got, want)
	}
	second := newBench(t, "sh", "-c", "readlink /proc/self/ns/time; busybox tr -s ' ' </proc/self/timens_offsets")
	second.id += "-second"
	second.join(specs.TimeNamespace, pid, "time")
	second.expectOutput(want + "monotonic 7881 0\nboottime 0 0\n")
}

// sharedMounts takes the mount namespace out of the configuration, with what needs one.
func (b *bench) sharedMounts() {
	b.spec.Linux.Namespaces = slices.DeleteFunc(b.spec.Linux.Namespaces, func(ns specs.LinuxNamespace) bool { return ns.Type == specs.MountNamespace })
	b.spec.Linux.MaskedPaths, b.spec.Linux.ReadonlyPaths = nil, nil
}

// TestSharedMountNamespace: a container in the host's mount namespace, or in another
// one's, has its root all the same, and so has what joins it. Its mounts stay: they are
// in the namespace of a helper that goes away.
func TestSharedMountNamespace(t *testing.T) {
	for _, byPath := range []bool{false, true} {
		t.Run(fmt.Sprintf("by-path-%t", byPath), func(t *testing.T) {
			b := newBench(t, "sh", "-c", "readlink /proc/self/ns/mnt; ls /; exec sleep 1000")
			helper := exec.Command("unshare", "-m", "--propagation", "private", "sh", "-c", "echo; exec sleep 1000")
			helper.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
			out, err := helper.StdoutPipe()
			if err == nil {
				err = helper.Start()
			}
			if err != nil {
				t.Fatal(err)
			}
			defer func() {
				_ = helper.Process.Kill()
				_ = helper.Wait()
			}()
			pid := helper.Process.Pid
			// Its namespace is its own before it is private: what is mounted in between
			// comes out here.
			if _, err := out.Read(make([]byte, 1)); err != nil {
				t.Fatal(err)
			}
			b.sharedMounts()
			b.spec.Process.Args = []string{"sleep", "1000"}
			b.spec.Hooks = &specs.Hooks{StartContainer: []specs.Hook{{Path: "/bin/sh", Args: []string{"sh", "-c", "ls / > /tmp/start"}, Env: []string{"PATH=/bin"}}}}
			call := func(args ...string) string {
				t.Helper()
				cmd := b.command(args...)
				if !byPath { // the namespace is that of whoever calls
					cmd = exec.Command("nsenter", append([]string{"-t", strconv.Itoa(pid), "-m"}, cmd.Args...)...)
				}
				r := finish(t, cmd)
				if r.code != 0 {
					t.Fatal(r.err)
				}
				return r.out
			}
			if byPath {
				b.join(specs.MountNamespace, pid, "mnt")
			}
			b.save()
			call("run", "-d", "-b", b.bundle, b.id)
			defer b.do("delete", "-f", b.id)
			inside := "bin\ndev\netc\nproc\nsys\ntmp\n"
			if got, want := call("exec", b.id, "sh", "-c", "readlink /proc/self/ns/mnt; ls /"), link(t, pid, "mnt")+inside; got != want {
				t.Errorf("exec printed %q, want %q", got, want)
			}
			if got := testkit.Text(t, b.bundle+"/rootfs/tmp/start"); got != inside {
				t.Errorf("the hook saw %q, want %q", got, inside)
			}
		})
	}
}

// TestNoPivot: without pivot_root the host's procfs is out of reach, so that the kernel
// lets nobody mount one without the masks (as runc's own test has it).
func TestNoPivot(t *testing.T) {
	b := newBench(t, "sh", "-c", "ls /; busybox unshare -mrpf sh -c 'echo inside; busybox mount -t proc none /proc && echo mounted'")
	for _, set := range []*[]string{&b.spec.Process.Capabilities.Bounding, &b.spec.Process.Capabilities.Permitted, &b.spec.Process.Capabilities.Effective} {
		*set = append(*set, "CAP_SETFCAP") // without, nobody maps root: user_namespaces(7)
	}
	b.save()
	r := b.try("run", "--no-pivot", b.id)
	if r.code == 0 || r.out != "bin\ndev\netc\nproc\nsys\ntmp\ninside\n" || !strings.Contains(r.err, "mount: permission denied") {
		t.Errorf("run gave %d, %q, %s", r.code, r.out, r.err)
	}
}

// TestHierarchies: on a host with cgroup v1, a mount of type cgroup shows its
// hierarchies with the container's own group, read-only if the mount is.
func TestHierarchies(t *testing.T) {
	if _, err := os.Stat("/sys/fs/cgroup/pids/tasks"); err != nil {
		t.Skip("needs a host with cgroup v1: ", err)
	}
	for _, own := range []bool{true, false} {
		t.Run(fmt.Sprintf("own-%t", own), func(t *testing.T) {
			b := newBench(t, "sh", "-c", "cat /sys/fs/cgroup/pids/cgroup.procs; echo $$; busybox mkdir /sys/fs/cgroup/pids/x /sys/fs/cgroup/x")
			if !own {
				b.spec.Linux.Namespaces = slices.DeleteFunc(b.spec.Linux.Namespaces, func(ns specs.LinuxNamespace) bool { return ns.Type == specs.CgroupNamespace })
			}
			r := b.run()
			if r.out != "1\n2\n1\n" && r.out != "1\n1\n" || strings.Count(r.err, "Read-only file system") != 2 {
				t.Errorf("run gave %q, %s", r.out, r.err)
			}
		})
	}
}
