package rootfs

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"box/internal/errdefs"
)

// hostile is a busybox root with symlinks in place of what is at their names, and a
// directory of the host that nothing in a container may touch.
func hostile(t *testing.T, links map[string]string) (root, outside string) {
	t.Helper()
	needRoot(t)
	root, outside = busybox(t), t.TempDir()
	for name, to := range links {
		path := filepath.Join(root, name)
		if err := os.RemoveAll(path); err != nil {
			t.Fatal(err)
		}
		mkdir(t, filepath.Dir(path))
		if err := os.Symlink(strings.ReplaceAll(to, "OUTSIDE", outside), path); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() {
		if entries, _ := os.ReadDir(outside); len(entries) > 0 {
			t.Errorf("made on the host: %v", entries)
		}
		leftMounts(t, outside)
	})
	return root, outside
}

// TestProcMustBeOrdinary: an image with /proc as a symlink has procfs mounted
// elsewhere, and writes to a false one (CVE-2019-19921, CVE-2023-27561, CVE-2023-28642).
func TestProcMustBeOrdinary(t *testing.T) {
	for _, name := range []string{"proc", "sys"} {
		root, _ := hostile(t, map[string]string{name: "/etc"})
		_, err := run(t, standard(root), "/", "true")
		if !errors.Is(err, unix.ELOOP) || !strings.Contains(err.Error(), "must be mounted on ordinary directory") {
			t.Errorf("%s as symlink: %v", name, err)
		}
	}
}

// TestNothingOverProc: by its own name or through a symlink (CVE-2019-16884).
func TestNothingOverProc(t *testing.T) {
	root, outside := hostile(t, map[string]string{"alias": "/proc", "deep": "/proc/sys/kernel"})
	for _, m := range []specs.Mount{
		{Destination: "/proc/sys", Type: "tmpfs"},
		{Destination: "/proc/../proc/./self", Type: "bind", Source: outside},
		{Destination: "/proc", Type: "tmpfs"},
		{Destination: "/proc", Type: "bind", Source: outside},
		{Destination: "/alias/sys", Type: "tmpfs"},
		{Destination: "/alias", Type: "bind", Source: outside},
		{Destination: "/deep", Type: "tmpfs"},
	} {
		s := standard(root)
		s.Mounts = append(s.Mounts, m)
		if _, err := run(t, s, "/", "true"); !errors.Is(err, unix.EPERM) && !errors.Is(err, errdefs.ErrInvalid) {
			t.Errorf("%s on %s: %v", m.Type, m.Destination, err)
		}
	}
	s := standard(root)
	s.Mounts = append(s.Mounts, specs.Mount{Destination: "/proc/uptime", Type: "bind", Source: "/etc/hostname"})
	if _, err := run(t, s, "/", "true"); err != nil {
		t.Errorf("a file that lxcfs provides is refused: %v", err)
	}
}

// TestDevSymlinks: device set-up must not follow the image's links to the host
// (CVE-2026-41579, CVE-2026-47766).
func TestDevSymlinks(t *testing.T) {
	for _, links := range []map[string]string{
		{"dev": "OUTSIDE"},
		{"dev": "../../../../../../../..OUTSIDE"},
		{"dev": "/proc/1/root"},
		{"dev/pts": "OUTSIDE"},
		{"dev/shm": "OUTSIDE", "dev/mqueue": "/../OUTSIDE"},
		{"dev/null": "OUTSIDE/null", "dev/fd": "OUTSIDE"},
		{"sys": "OUTSIDE", "etc": "OUTSIDE"},
	} {
		root, _ := hostile(t, links)
		_, err := run(t, standard(root), "/", "ls /dev/null")
		t.Logf("%v: %v", links, err) // failing and staying inside are both fine; the clean-up checks the host
	}
}

// TestForeignNodesAreRefused: without a /dev of its own, a container must not take
// the image's files for devices.
func TestForeignNodesAreRefused(t *testing.T) {
	root, _ := hostile(t, map[string]string{"dev/null": "OUTSIDE/null"})
	s := standard(root)
	s.Mounts = s.Mounts[:1] // only /proc
	s.Linux.MaskedPaths = nil
	if _, err := run(t, s, "/", "true"); !errors.Is(err, unix.EEXIST) {
		t.Errorf("error = %v, want EEXIST", err)
	}
	if err := os.Remove(filepath.Join(root, "dev/null")); err != nil {
		t.Fatal(err)
	}
	for range 2 { // the second time, all nodes exist and are right
		if _, err := run(t, s, "/", "echo x > /dev/null"); err != nil {
			t.Error(err)
		}
	}
}

// TestMaskSourceIsTheHosts: what covers a masked file is a verified device, whatever
// the container has at /dev/null (CVE-2025-31133).
func TestMaskSourceIsTheHosts(t *testing.T) {
	root, outside := hostile(t, map[string]string{"dev/null": "/proc/sys/kernel/core_pattern"})
	if err := os.WriteFile(filepath.Join(root, "secret"), []byte("secret"), 0o644); err != nil {
		t.Fatal(err)
	}
	s := standard(root)
	s.Mounts[1] = specs.Mount{Destination: "/dev", Type: "bind", Source: filepath.Join(root, "dev")}
	s.Linux.MaskedPaths = append(s.Linux.MaskedPaths, "/secret", "/link", "/nowhere", "/etc")
	if err := os.Symlink(outside, filepath.Join(root, "link")); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(root, "etc/passwd"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	out, err := run(t, s, "/", "cat /secret; stat -c %t:%T /secret; ls -A /etc")
	if err != nil || out != "1:3\n" {
		t.Errorf("container sees %q, %v", out, err)
	}
}

// TestMaskLeavesTheHostsNode: the device over a masked file is the host's own node.
// A container's root, who has CAP_FOWNER and CAP_CHOWN, must not change it there.
func TestMaskLeavesTheHostsNode(t *testing.T) {
	needRoot(t)
	s := standard(busybox(t))
	out, err := run(t, s, "/", `for change in "chmod 0666" "chown 0:0" "touch"; do
		$change /proc/timer_list 2>/dev/null && echo "$change is allowed"
	done; cat /proc/timer_list; echo x > /proc/timer_list && echo writable`) // the changes change nothing, should they be allowed
	if err != nil || out != "writable\n" {
		t.Errorf("container: %q, %v", out, err)
	}
}

// TestWorkdirStaysInside: a working directory must not be made or entered outside
// (CVE-2024-21626, CVE-2026-55686).
func TestWorkdirStaysInside(t *testing.T) {
	root, _ := hostile(t, map[string]string{"out": "OUTSIDE", "up": "../../../../../../OUTSIDE", "loop": "loop"})
	for _, c := range []struct {
		cwd  string
		want error
	}{
		{"/proc/self/fd/3", unix.ELOOP},
		{"/proc/self/cwd", unix.ELOOP},
		{"/proc/self/root/etc", unix.ELOOP},
		{"/loop", unix.ELOOP},
		{"/etc", nil},
		{"/etc/../tmp/new/dir", nil},
	} {
		if out, err := run(t, standard(root), c.cwd, "pwd"); !errors.Is(err, c.want) || (err == nil && !strings.HasPrefix(out, "/")) {
			t.Errorf("cwd %s: %q, %v; want %v", c.cwd, out, err, c.want)
		}
	}
	for _, cwd := range []string{"/out/x", "/up/x"} {
		out, err := run(t, standard(root), cwd, "pwd")
		t.Logf("cwd %s: %q, %v", cwd, out, err) // the clean-up checks the host
	}
}

// TestMountPointRace: two names in a shared volume are exchanged all the time, one a
// directory, the other a symlink to the host (CVE-2021-30465, CVE-2024-45310).
func TestMountPointRace(t *testing.T) {
	root, outside := hostile(t, nil)
	volume := t.TempDir()
	mkdir(t, filepath.Join(volume, "dir"))
	if err := os.Symlink(strings.Repeat("../", 12)+outside, filepath.Join(volume, "link")); err != nil {
		t.Fatal(err)
	}
	stop, done := make(chan struct{}), make(chan int)
	go exchange(volume, stop, done)
	s := standard(root)
	s.Mounts = append(s.Mounts,
		specs.Mount{Destination: "/vol", Type: "bind", Source: volume},
		specs.Mount{Destination: "/vol/dir/a/b", Type: "tmpfs"},
		specs.Mount{Destination: "/vol/link/c", Type: "bind", Source: "/etc/hostname"},
	)
	outcomes := map[string]int{}
	for range 150 {
		_, err := run(t, s, "/", "true")
		outcomes[fmt.Sprint(err)]++
	}
	close(stop)
	t.Logf("names were exchanged %d times; outcomes of 150 containers:", <-done)
	for outcome, n := range outcomes {
		t.Logf("%4d  %s", n, outcome)
	}
}

func exchange(volume string, stop chan struct{}, done chan int) {
	for n := 0; ; n++ {
		select {
		case <-stop:
			done <- n
			return
		default:
			_ = unix.Renameat2(unix.AT_FDCWD, volume+"/dir", unix.AT_FDCWD, volume+"/link", unix.RENAME_EXCHANGE)
		}
	}
}
