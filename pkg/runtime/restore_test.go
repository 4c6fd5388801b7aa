package runtime

import (
	"os"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// In a fresh copy of the root file system restore makes the mount points that it lacks,
// inside of it whatever the links in it say, and leaves alone what is there.
func TestMakeMountPoints(t *testing.T) {
	bundle := t.TempDir()
	dir := bundle + "/rootfs"
	for _, d := range []string{dir + "/etc", bundle + "/data"} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for name, content := range map[string]string{bundle + "/file": "host", dir + "/etc/kept": "kept"} {
		if err := os.WriteFile(name, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("/", dir+"/link"); err != nil {
		t.Fatal(err)
	}
	root, err := os.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	mounts := []specs.Mount{
		{Destination: "/proc", Type: "proc", Source: "proc"},
		{Destination: "/dev", Type: "tmpfs", Source: "tmpfs"},
		{Destination: "/dev/pts", Type: "devpts", Source: "devpts"},
		{Destination: "/sys/fs/cgroup", Type: "cgroup", Source: "cgroup"},
		{Destination: "/deep/er", Type: "bind", Source: bundle + "/data"},
		{Destination: "/etc/new", Type: "bind", Source: "file"},
		{Destination: "/etc/kept", Type: "bind", Source: bundle + "/file"},
		{Destination: "/link/box-test-inside", Type: "bind", Source: bundle + "/data"},
	}
	for range 2 {
		if err := makeMountPoints(root, bundle, mounts); err != nil {
			t.Fatal(err)
		}
	}
	for name, isDir := range map[string]bool{"proc": true, "dev": true, "deep/er": true, "etc/new": false, "box-test-inside": true} {
		if st, err := os.Stat(dir + "/" + name); err != nil || st.IsDir() != isDir {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, name := range []string{dir + "/dev/pts", dir + "/sys", "/box-test-inside"} {
		if _, err := os.Lstat(name); err == nil {
			t.Errorf("%s was made", name)
		}
	}
	if data, err := os.ReadFile(dir + "/etc/kept"); err != nil || string(data) != "kept" {
		t.Errorf("etc/kept: %q, %v", data, err)
	}
}

func TestOutsideNamesOfMounts(t *testing.T) {
	dir := t.TempDir()
	if err := os.MkdirAll(dir+"/real/place", 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("/real", dir+"/link"); err != nil {
		t.Fatal(err)
	}
	root, err := os.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	for path, want := range map[string]string{"/real/place": "/real/place", "/link/place": "/real/place", "/missing": "/missing"} {
		if got := resolved(root, path); got != want {
			t.Errorf("resolved(%s) = %s, want %s", path, got, want)
		}
	}
}
