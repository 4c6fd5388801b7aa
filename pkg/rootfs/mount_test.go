package rootfs

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

func TestBindMounts(t *testing.T) {
	needRoot(t)
	root, host := busybox(t), t.TempDir()
	mkdir(t, filepath.Join(host, "dir/sub"))
	if err := os.WriteFile(filepath.Join(host, "file"), []byte("content"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("/made/here", filepath.Join(root, "dangling")); err != nil {
		t.Fatal(err)
	}
	s := standard(root)
	bind := func(dest, source string, options ...string) {
		s.Mounts = append(s.Mounts, specs.Mount{Destination: dest, Type: "bind", Source: filepath.Join(host, source), Options: options})
	}
	bind("/ro", "dir", "rbind", "ro")
	bind("/rw", "dir", "bind", "nosuid")
	bind("/deep/new/file", "file", "ro")
	bind("/rw/sub/inner", "file")
	bind("/dangling", "dir", "bind")
	out, err := run(t, s, "/", `touch /ro/x; touch /rw/y && echo ok; cat /deep/new/file; cat /ro/sub/inner | wc -c; ls /made/here; grep -E " /(ro|rw|deep)" /proc/mounts`)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"touch: /ro/x: Read-only file system\nok\ncontent0\nsub\ny\n",
		" /ro ext4 ro,relatime", " /rw ext4 rw,nosuid,relatime", " /deep/new/file ext4 ro,relatime",
	} {
		if !strings.Contains(out, want) && !strings.Contains(strings.ReplaceAll(out, " tmpfs ", " ext4 "), want) {
			t.Errorf("output lacks %q:\n%s", want, out)
		}
	}
	if _, err := os.Stat(filepath.Join(root, "made/here")); err != nil {
		t.Errorf("target of the dangling link was not made in the root: %v", err)
	}
}

// TestRecursiveReadOnly: a mount below the source is read-only too with rro, and is
// not with ro.
func TestRecursiveReadOnly(t *testing.T) {
	needRoot(t)
	root, host := busybox(t), t.TempDir()
	mkdir(t, filepath.Join(host, "below"))
	if err := unix.Mount("tmpfs", filepath.Join(host, "below"), "tmpfs", 0, ""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(filepath.Join(host, "below"), 0); err != nil {
			t.Error(err)
		}
	})
	for option, want := range map[string]string{"ro": "written\n", "rro": "touch: /mnt/below/x: Read-only file system\n"} {
		s := standard(root)
		s.Mounts = append(s.Mounts, specs.Mount{Destination: "/mnt", Source: host, Options: []string{"rbind", "rprivate", option}})
		if out, err := run(t, s, "/", "touch /mnt/below/x && echo written; rm -f /mnt/below/x"); err != nil || !strings.HasPrefix(out, want) {
			t.Errorf("%s: %q, %v; want %q", option, out, err, want)
		}
	}
}

func TestDevicesOfTheSpec(t *testing.T) {
	needRoot(t)
	s := standard(busybox(t))
	mode := os.FileMode(0o640)
	s.Linux.Devices = []specs.LinuxDevice{
		{Path: "/dev/net/tun", Type: "c", Major: 10, Minor: 200, FileMode: &mode, UID: new(uint32(7)), GID: new(uint32(8))},
		{Path: "/dev/null", Type: "c", Major: 1, Minor: 3, FileMode: &mode},
		{Path: "/other/pipe", Type: "p"},
	}
	s.Mounts[1].Options = append(s.Mounts[1].Options, "ro")
	out, err := run(t, s, "/", `stat -c "%n %F %a %t:%T %u:%g" /dev/net/tun /dev/null /dev/zero /other/pipe; touch /dev/x; touch /dev/shm/y && echo ok`)
	want := `/dev/net/tun character special file 640 a:c8 7:8
/dev/null character special file 640 1:3 0:0
/dev/zero character special file 666 1:5 0:0
/other/pipe fifo 666 0:0 0:0
touch: /dev/x: Read-only file system
ok
`
	if err != nil || out != want {
		t.Errorf("container sees:\n%s%v\nwant:\n%s", out, err, want)
	}
}

func TestRootPropagation(t *testing.T) {
	needRoot(t)
	root := busybox(t)
	for value, want := range map[string]string{"": "", "slave": "", "rprivate": "", "shared": "shared:", "rshared": "shared:", "unbindable": "unbindable"} {
		s := standard(root)
		s.Linux.RootfsPropagation = value
		out, err := run(t, s, "/", `grep " / / \| /[^ ]* / " /proc/self/mountinfo | head -1 | cut -d " " -f 7`)
		if err != nil || !strings.HasPrefix(out, want) || (want == "" && strings.HasPrefix(out, "shared")) {
			t.Errorf("%q: root has %q, %v; want %q", value, out, err, want)
		}
	}
	leftMounts(t, root)
}

// TestSharedMountReachesHost is what "shared" is for; and unmounting the old root
// must not unmount the host's mounts.
func TestSharedMountReachesHost(t *testing.T) {
	needRoot(t)
	root, host := busybox(t), t.TempDir()
	if err := unix.Mount("tmpfs", host, "tmpfs", 0, ""); err != nil {
		t.Fatal(err)
	}
	defer unix.Unmount(host, unix.MNT_DETACH)
	if err := unix.Mount("", host, "", unix.MS_SHARED, ""); err != nil {
		t.Fatal(err)
	}
	mkdir(t, filepath.Join(host, "sub"))
	s := standard(root)
	s.Linux.RootfsPropagation = "rshared"
	s.Mounts = append(s.Mounts, specs.Mount{Destination: "/mnt", Source: host, Options: []string{"rbind", "rshared"}})
	if _, err := run(t, s, "/", "mount -t tmpfs -o size=1m tmpfs /mnt/sub && touch /mnt/sub/from-container"); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(host, "sub/from-container")); err != nil {
		t.Errorf("mount did not reach the host: %v", err)
	}
	for _, dir := range []string{"/proc/self", "/sys/kernel", "/dev/null"} {
		if _, err := os.Stat(dir); err != nil {
			t.Errorf("the host has lost %s: %v", dir, err)
		}
	}
}

func TestUserNamespace(t *testing.T) {
	needRoot(t)
	root := busybox(t)
	// A mapped root must be able to reach and own the root directory.
	for dir := root; dir != "/" && dir != os.TempDir(); dir = filepath.Dir(dir) {
		if err := os.Chmod(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := filepath.Walk(root, func(path string, _ os.FileInfo, err error) error {
		if err != nil {
			return err
		}
		return os.Lchown(path, 100000, 100000)
	}); err != nil {
		t.Fatal(err)
	}
	s := standard(root)
	s.Mounts[2].Options = []string{"newinstance", "ptmxmode=0666"}
	s.Linux.Namespaces = append(s.Linux.Namespaces, specs.LinuxNamespace{Type: specs.UserNamespace})
	s.Linux.UIDMappings = []specs.LinuxIDMapping{{HostID: 100000, Size: 65536}}
	s.Linux.GIDMappings = []specs.LinuxIDMapping{{HostID: 100000, Size: 65536}}
	out, err := run(t, s, "/work", `id -u; cat /proc/self/uid_map; echo x > /dev/null && echo ok; stat -c %t:%T /dev/null; cat /proc/timer_list | wc -c`)
	if err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(strings.Fields(out), " "); got != "0 0 100000 65536 ok 1:3 0" {
		t.Errorf("container sees %q", got)
	}
}
