package runtime

import (
	"errors"
	"os"
	"path/filepath"
	"reflect"
	goruntime "runtime"
	"strings"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"box/internal/errdefs"
	"box/pkg/cgroups/legacy"
	"box/pkg/criu"
)

// apart runs f on a thread with a mount namespace of its own.
func apart(t *testing.T, f func()) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root, to mount")
	}
	done := make(chan error)
	go func() {
		goruntime.LockOSThread()
		err := errors.Join(unix.Unshare(unix.CLONE_NEWNS|unix.CLONE_FS), unix.Mount("", "/", "", unix.MS_PRIVATE|unix.MS_REC, ""))
		if err == nil {
			f()
		}
		done <- err
	}()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

// tree makes files with a content, directories (names that end in a slash), and links
// (contents that begin with "->").
func tree(t *testing.T, dir string, entries map[string]string) {
	t.Helper()
	for name, content := range entries {
		path := filepath.Join(dir, name)
		err := os.MkdirAll(filepath.Dir(path), 0o755)
		target, link := strings.CutPrefix(content, "->")
		switch {
		case err != nil:
		case strings.HasSuffix(name, "/"):
			err = os.MkdirAll(path, 0o755)
		case link:
			err = os.Symlink(target, path)
		default:
			err = os.WriteFile(path, []byte(content), 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// In a fresh copy of the root file system restore makes the mount points that it lacks,
// inside of it or of what is mounted there, whatever the links in it say, and leaves
// alone what is there.
func TestRehearseMounts(t *testing.T) {
	bundle := t.TempDir()
	tree(t, bundle, map[string]string{
		"rootfs/etc/kept": "kept", "rootfs/link": "->/", "rootfs/run/": "", "rootfs/var/run": "->/run",
		"data/": "", "file": "host",
	})
	mounts := []specs.Mount{
		{Destination: "/proc", Type: "proc", Source: "proc"},
		{Destination: "/dev", Type: "tmpfs", Source: "tmpfs"},
		{Destination: "/dev/pts", Type: "devpts", Source: "devpts"},
		{Destination: "/sys", Type: "sysfs", Source: "sysfs"},
		{Destination: "/sys/fs/cgroup", Type: "cgroup", Source: "cgroup"},
		{Destination: "/deep/er", Type: "bind", Source: bundle + "/data"},
		{Destination: "/deep/er/nested", Options: []string{"rbind"}, Source: "data"},
		{Destination: "/etc/new", Type: "bind", Source: "file"},
		{Destination: "/etc/kept", Type: "bind", Source: bundle + "/file"},
		{Destination: "/link/box-test-inside", Type: "bind", Source: bundle + "/data"},
		{Destination: "/run", Type: "tmpfs", Source: "tmpfs"},
		{Destination: "/var/run/secrets", Type: "bind", Source: "data"},
	}
	names := map[string]string{}
	apart(t, func() {
		for range 2 {
			root, err := os.Open(bundle + "/rootfs")
			if err != nil {
				t.Error(err)
				return
			}
			if err := rehearseMounts(root, bundle, mounts); err != nil {
				t.Error(err)
			}
			for _, name := range []string{"/link/box-test-inside", "/var/run/secrets", "/missing", "/deep/er/nested"} {
				names[name] = resolved(root, name)
			}
			root.Close()
		}
	})
	want := map[string]string{
		"/link/box-test-inside": "/box-test-inside", "/var/run/secrets": "/run/secrets", "/missing": "/missing", "/deep/er/nested": "/deep/er/nested",
	}
	if !reflect.DeepEqual(names, want) {
		t.Errorf("destinations %v, want %v", names, want)
	}
	dir := bundle + "/rootfs"
	for name, isDir := range map[string]bool{
		dir + "/proc": true, dir + "/dev": true, dir + "/deep/er": true, dir + "/etc/new": false, dir + "/box-test-inside": true,
		bundle + "/data/nested": true,
	} {
		if st, err := os.Stat(name); err != nil || st.IsDir() != isDir {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, name := range []string{dir + "/dev/pts", dir + "/sys/fs", dir + "/deep/er/nested", dir + "/run/secrets", "/box-test-inside"} {
		if _, err := os.Lstat(name); err == nil {
			t.Errorf("%s was made", name)
		}
	}
	if data, err := os.ReadFile(dir + "/etc/kept"); err != nil || string(data) != "kept" {
		t.Errorf("etc/kept: %q, %v", data, err)
	}
}

// A source that is gone is told, not restored without.
func TestRehearseMountsWithoutSource(t *testing.T) {
	bundle := t.TempDir()
	tree(t, bundle, map[string]string{"rootfs/": ""})
	apart(t, func() {
		root, err := os.Open(bundle + "/rootfs")
		if err != nil {
			t.Error(err)
			return
		}
		defer root.Close()
		err = rehearseMounts(root, bundle, []specs.Mount{{Destination: "/x", Type: "bind", Source: "none"}})
		if !errors.Is(err, unix.ENOENT) || !strings.Contains(err.Error(), "mount "+bundle+"/none on /x: ") {
			t.Errorf("have %v", err)
		}
	})
}

func TestOutsideMounts(t *testing.T) {
	s := &specs.Spec{
		Linux: &specs.Linux{},
		Mounts: []specs.Mount{
			{Destination: "/proc", Type: "proc"},
			{Destination: "/a", Type: "bind", Source: "rel"},
			{Destination: "/b", Type: "none", Source: "/abs", Options: []string{"rbind"}},
			{Destination: "/cg", Type: "cgroup"},
		},
	}
	places := []legacy.Place{{Hierarchy: "cpu,cpuacct", Dir: "/h/cpu/x"}, {Hierarchy: "name=systemd", Dir: "/h/systemd/x"}}
	binds := []criu.Pair{{Key: "/a", Value: "/bundle/rel"}, {Key: "/b", Value: "/abs"}}
	groups := []criu.Pair{{Key: "/cg/cpu,cpuacct", Value: "/h/cpu/x"}, {Key: "/cg/systemd", Value: "/h/systemd/x"}}
	if have, want := outsideMounts(s, "/bundle", places), append(binds, groups...); !reflect.DeepEqual(have, want) {
		t.Errorf("have %v, want %v", have, want)
	}
	s.Linux.Namespaces = []specs.LinuxNamespace{{Type: specs.CgroupNamespace}}
	if have := outsideMounts(s, "/bundle", places); !reflect.DeepEqual(have, binds) {
		t.Errorf("in a cgroup namespace: have %v, want %v", have, binds)
	}
}

// What was the caller's when the container was created is written down, not what the
// container has made of it.
func TestStreams(t *testing.T) {
	read, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer read.Close()
	defer write.Close()
	c := &container{record: record{State: State{Pid: os.Getpid()}, Pipes: []string{"", "pipe:[7]", ""}}}
	if have := c.streams(); len(have) != 3 || have[1] != "pipe:[7]" || strings.HasPrefix(have[0], "pipe:") || strings.HasPrefix(have[2], "pipe:") {
		t.Errorf("have %q", have)
	}
	c.Pipes = nil
	for _, name := range c.streams() {
		if strings.HasPrefix(name, "pipe:") {
			t.Errorf("pipe %s was not the caller's", name)
		}
	}
}

func TestStatusFD(t *testing.T) {
	read, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer read.Close()
	defer write.Close()
	poller, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(poller)
	for _, c := range []struct {
		name string
		o    CheckpointOptions
		want string
	}{
		{"none", CheckpointOptions{StatusFD: -1}, ""},
		{"a pipe", CheckpointOptions{StatusFD: int(write.Fd()), LazyPages: true}, ""},
		{"to read from", CheckpointOptions{StatusFD: int(read.Fd()), LazyPages: true}, "not writable"},
		{"ours", CheckpointOptions{StatusFD: poller, LazyPages: true}, "bad file descriptor"},
		{"nobody's", CheckpointOptions{StatusFD: 1 << 20, LazyPages: true}, "bad file descriptor"},
		{"without lazy pages", CheckpointOptions{StatusFD: 1}, "needs --lazy-pages"},
	} {
		err := c.o.checkStatusFD()
		if c.want == "" && err != nil || c.want != "" && (!errors.Is(err, errdefs.ErrInvalid) || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s: %v, want %q", c.name, err, c.want)
		}
	}
}
