package rootfs

import (
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// shapes are what an image can have at a path instead of what belongs there.
var shapes = []struct {
	name string
	put  func(path, outside string) error
}{
	{"absolute symlink", func(path, outside string) error { return os.Symlink(outside, path) }},
	{"relative symlink", func(path, outside string) error { return os.Symlink(strings.Repeat("../", 20)+outside, path) }},
	{"dangling symlink", func(path, outside string) error { return os.Symlink(outside+"/missing/deep", path) }},
	{"loop", func(path, _ string) error { return os.Symlink(filepath.Base(path), path) }},
	{"magic link", func(path, _ string) error { return os.Symlink("/proc/self/root", path) }},
	{"fifo", func(path, _ string) error { return unix.Mkfifo(path, 0o666) }},
	{"device", func(path, _ string) error { return unix.Mknod(path, unix.S_IFCHR|0o666, int(unix.Mkdev(5, 1))) }},
	{"file", func(path, _ string) error { return os.WriteFile(path, nil, 0o644) }},
	{"directory", func(path, _ string) error { return os.MkdirAll(path, 0o755) }},
}

// places are the paths that setting a container up touches.
var places = []string{
	"dev", "dev/null", "dev/pts", "dev/shm", "dev/mqueue", "dev/console", "dev/ptmx", "dev/fd",
	"proc", "sys", "sys/fs", "etc", "etc/hosts", "etc/resolv.conf", "run", "var", "tmp", "data", "work",
}

// TestHostileImages puts every shape at every place. Whether the container comes up
// does not matter; it must end, and the host must be as it was.
func TestHostileImages(t *testing.T) {
	needRoot(t)
	template, base := busybox(t), t.TempDir()
	source := filepath.Join(base, "source")
	if err := os.WriteFile(source, []byte("from the host"), 0o644); err != nil {
		t.Fatal(err)
	}
	up := 0
	for _, place := range places {
		for _, shape := range shapes {
			outside := filepath.Join(base, "outside")
			mkdir(t, outside)
			root := filepath.Join(base, "rootfs")
			copyRoot(t, template, root)
			path := filepath.Join(root, place)
			if err := os.RemoveAll(path); err != nil {
				t.Fatal(err)
			}
			mkdir(t, filepath.Dir(path))
			if err := shape.put(path, outside); err != nil {
				t.Fatal(err)
			}
			if _, err := run(t, hostileSpec(root, source), "/app/dir", "true"); err == nil {
				up++
			}
			unchanged(t, place+" as "+shape.name, base, source)
			if err := os.RemoveAll(root); err != nil {
				t.Fatal(err)
			}
		}
	}
	t.Logf("%d of %d containers came up", up, len(places)*len(shapes))
	if up == 0 {
		t.Error("none came up: the test shows nothing")
	}
}

func hostileSpec(root, source string) *specs.Spec {
	s := standard(root)
	for _, dest := range []string{"/etc/hosts", "/etc/resolv.conf", "/var/run/secrets/file"} {
		s.Mounts = append(s.Mounts, specs.Mount{Destination: dest, Type: "bind", Source: source, Options: []string{"ro"}})
	}
	s.Mounts = append(s.Mounts,
		specs.Mount{Destination: "/data/volume", Type: "tmpfs", Options: []string{"size=1m"}},
		specs.Mount{Destination: "/run/lock", Type: "tmpfs", Options: []string{"size=1m", "ro"}},
	)
	s.Linux.MaskedPaths = append(s.Linux.MaskedPaths, "/etc/hosts", "/tmp", "/var")
	s.Linux.ReadonlyPaths = append(s.Linux.ReadonlyPaths, "/etc", "/data", "/run")
	return s
}

func copyRoot(t *testing.T, from, to string) {
	t.Helper()
	err := filepath.WalkDir(from, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name := filepath.Join(to, strings.TrimPrefix(path, from))
		if d.IsDir() {
			return os.MkdirAll(name, 0o755)
		}
		return os.Link(path, name)
	})
	if err != nil {
		t.Fatal(err)
	}
}

// unchanged checks what a container may have reached on the host.
func unchanged(t *testing.T, what, base, source string) {
	t.Helper()
	if entries, err := os.ReadDir(filepath.Join(base, "outside")); err != nil || len(entries) > 0 {
		t.Errorf("%s: made on the host: %v, %v", what, entries, err)
	}
	if data, err := os.ReadFile(source); err != nil || string(data) != "from the host" {
		t.Errorf("%s: the source is now %q, %v", what, data, err)
	}
	leftMounts(t, base)
}
