package runtime

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// shifted is a map of ids that the host does not use.
var shifted = []specs.LinuxIDMapping{{ContainerID: 0, HostID: 100000, Size: 65536}}

// userNamespace gives the container ids of its own, and its root file system to them.
func (b *bench) userNamespace() {
	b.t.Helper()
	b.spec.Linux.Namespaces = append(b.spec.Linux.Namespaces, specs.LinuxNamespace{Type: specs.UserNamespace})
	b.spec.Linux.UIDMappings, b.spec.Linux.GIDMappings = shifted, shifted
	err := filepath.WalkDir(b.bundle+"/rootfs", func(path string, _ os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return os.Lchown(path, 100000, 100000)
	})
	if err != nil {
		b.t.Fatal(err)
	}
	for dir := b.bundle; dir != "/tmp" && dir != "/"; dir = filepath.Dir(dir) {
		if err := os.Chmod(dir, 0o755); err != nil {
			b.t.Fatal(err)
		}
	}
}

// source makes a directory on the host with one file of that owner in it.
func (b *bench) source(name string, mode os.FileMode, uid int) string {
	b.t.Helper()
	dir := filepath.Join(b.bundle, name, "dir")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		b.t.Fatal(err)
	}
	if err := os.WriteFile(dir+"/file", []byte("content\n"), 0o644); err != nil {
		b.t.Fatal(err)
	}
	if err := os.Chown(dir+"/file", uid, uid+1); err != nil {
		b.t.Fatal(err)
	}
	if err := os.Chmod(filepath.Dir(dir), mode); err != nil {
		b.t.Fatal(err)
	}
	return dir
}

func (b *bench) mount(m specs.Mount) { b.spec.Mounts = append(b.spec.Mounts, m) }

// expectOutput runs the container, and fails if it does not print that.
func (b *bench) expectOutput(want string) {
	b.t.Helper()
	if r := b.run(); r.code != 0 || r.out != want {
		b.t.Errorf("run gave %d, %q, %s; want %q", r.code, r.out, r.err, want)
	}
}

const owner = "busybox stat -c '%u:%g' "

// TestUnreadableSource: in a user namespace, root may not enter a directory of the
// host's root. The parent opens what lies below; and not for exec only.
func TestUnreadableSource(t *testing.T) {
	b := newBench(t, "sh", "-c", "cat /mnt/file /file /nested/file")
	b.userNamespace()
	dir := b.source("secret", 0o700, 100000)
	b.mount(specs.Mount{Destination: "/mnt", Type: "bind", Source: dir, Options: []string{"rbind", "ro"}})
	b.mount(specs.Mount{Destination: "/file", Type: "bind", Source: dir + "/file"})
	b.mount(specs.Mount{Destination: "/nested", Type: "bind", Source: b.bundle + "/rootfs/mnt"}) // an earlier mount
	b.expectOutput("content\ncontent\ncontent\n")
}

// TestIDMappedMounts: owners are translated by the mount's own map, or by that of the
// container's user namespace.
func TestIDMappedMounts(t *testing.T) {
	own := []specs.LinuxIDMapping{{ContainerID: 500, HostID: 7000, Size: 10}}
	inside := []specs.LinuxIDMapping{{ContainerID: 500, HostID: 107000, Size: 10}}
	for _, c := range []struct {
		name   string
		userns bool
		ids    []specs.LinuxIDMapping
		option string
		want   string
	}{
		{"own map", false, own, "bind", "7000:7001\n"},
		{"own map in a user namespace", true, inside, "idmap", "7000:7001\n"},
		{"the map of the container", true, nil, "idmap", "500:501\n"},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := newBench(t, "sh", "-c", owner+"/mnt/file")
			if c.userns {
				b.userNamespace()
			}
			b.mount(specs.Mount{
				Destination: "/mnt", Type: "bind", Source: b.source("data", 0o755, 500), Options: []string{"bind", c.option},
				UIDMappings: c.ids, GIDMappings: c.ids,
			})
			b.expectOutput(c.want)
		})
	}
}

// TestIDMapRefused: a file system that cannot do it is an error that says so.
func TestIDMapRefused(t *testing.T) {
	b := newBench(t, "true")
	b.mount(specs.Mount{
		Destination: "/mnt", Type: "bind", Source: "/proc/sys/kernel", Options: []string{"bind"}, UIDMappings: shifted, GIDMappings: shifted,
	})
	r := b.run()
	if r.code == 0 || !strings.Contains(r.err, "/proc/sys/kernel") || !strings.Contains(r.err, "MOUNT_ATTR_IDMAP") {
		t.Errorf("run gave %d, %s", r.code, r.err)
	}
}

// TestTmpCopyUp: a tmpfs with tmpcopyup begins with what it covers, owners and modes
// included, in a user namespace as well; what is written does not reach the image.
func TestTmpCopyUp(t *testing.T) {
	for name, userns := range map[string]bool{"host ids": false, "own ids": true} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t, "sh", "-c", "cd /etc; "+owner+". conf/file; cat conf/file; readlink link; busybox stat -c %a conf; echo x >>conf/file; busybox grep ' /etc ' /proc/mounts | busybox cut -d' ' -f3")
			etc := b.bundle + "/rootfs/etc"
			if err := os.Mkdir(etc+"/conf", 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(etc+"/conf/file", []byte("of the image\n"), 0o666); err != nil {
				t.Fatal(err)
			}
			if err := os.Symlink("conf/file", etc+"/link"); err != nil {
				t.Fatal(err)
			}
			ids := 0
			if userns {
				b.userNamespace()
				ids = 100000
			}
			if err := os.Chown(etc+"/conf/file", ids+33, ids+44); err != nil {
				t.Fatal(err)
			}
			for path, mode := range map[string]os.FileMode{"/conf": 0o777, "/conf/file": 0o666} {
				if err := os.Chmod(etc+path, mode); err != nil {
					t.Fatal(err)
				}
			}
			b.mount(specs.Mount{Destination: "/etc", Type: "tmpfs", Source: "tmpfs", Options: []string{"tmpcopyup"}})
			b.expectOutput("0:0\n33:44\nof the image\nconf/file\n777\ntmpfs\n")
			if data, err := os.ReadFile(etc + "/conf/file"); err != nil || string(data) != "of the image\n" {
				t.Errorf("the image's file is %q now, %v", data, err)
			}
		})
	}
}

// TestLockedAttributes: root of a user namespace keeps what the host has locked, unless
// the configuration asks by name to take it away: that fails.
func TestLockedAttributes(t *testing.T) {
	for _, c := range []struct {
		words []string
		want  string // "" for failure
	}{
		{[]string{"bind", "nodev"}, "ro,nosuid,nodev"},
		{[]string{"bind"}, "ro,nosuid"},
		{[]string{"bind", "rw"}, ""},
	} {
		b := newBench(t, "sh", "-c", "busybox grep ' /mnt ' /proc/mounts | busybox cut -d' ' -f4")
		b.userNamespace()
		b.spec.Mounts = append(b.spec.Mounts,
			specs.Mount{Destination: "/mnt", Type: "bind", Source: b.source("data", 0o755, 0), Options: c.words})
		b.shell("mount --bind data/dir data/dir && mount -o remount,bind,ro,nosuid data/dir", "umount data/dir")
		r := b.run()
		if c.want == "" && (r.code == 0 || !strings.Contains(r.err, "operation not permitted")) {
			t.Errorf("%v: run gave %d, %s", c.words, r.code, r.err)
		}
		if c.want != "" && !strings.HasPrefix(r.out, c.want) {
			t.Errorf("%v: mounted %q, %s; want %s", c.words, r.out, r.err, c.want)
		}
	}
}
