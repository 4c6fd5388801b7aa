package copyup

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// open opens a directory as the launch program hands it over.
func open(t *testing.T, dir string) *os.File {
	t.Helper()
	f, err := os.OpenFile(dir, unix.O_PATH|unix.O_DIRECTORY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

// must fails the test on the first error.
func must(t *testing.T, errs ...error) {
	t.Helper()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
}

func TestCopy(t *testing.T) {
	src, dst := t.TempDir(), t.TempDir()
	old := time.Unix(1234567890, 42000)
	must(t,
		os.MkdirAll(src+"/dir/sub", 0o755),
		os.WriteFile(src+"/dir/file", []byte(strings.Repeat("x", 100_000)), 0o640),
		os.Symlink("../nowhere", src+"/dir/link"),
		unix.Mkfifo(src+"/fifo", 0o600),
		os.Chmod(src+"/dir/file", 0o640|os.ModeSetuid),
		os.Chmod(src+"/dir/sub", 0o777|os.ModeSticky),
		os.Chtimes(src+"/dir/file", old, old),
		os.Chtimes(src+"/dir/sub", old, old),
	)
	if os.Geteuid() == 0 {
		must(t, os.Lchown(src+"/dir/link", 7, 8), os.Chown(src+"/dir/sub", 5, 6), os.Chown(src, 3, 4))
	}
	attr := unix.Setxattr(src+"/dir/file", "user.test", []byte("value"), 0)
	must(t, Copy(open(t, src), open(t, dst)))

	same(t, src, dst, ".", "dir", "dir/file", "dir/link", "dir/sub", "fifo")
	if data, err := os.ReadFile(dst + "/dir/file"); err != nil || len(data) != 100_000 {
		t.Errorf("content: %d bytes, %v", len(data), err)
	}
	if to, err := os.Readlink(dst + "/dir/link"); err != nil || to != "../nowhere" {
		t.Errorf("link: %q, %v", to, err)
	}
	value := make([]byte, 16)
	if n, err := unix.Getxattr(dst+"/dir/file", "user.test", value); attr == nil && (err != nil || string(value[:n]) != "value") {
		t.Errorf("attribute: %q, %v", value[:max(n, 0)], err)
	}
}

// Holes stay holes: in an image they cost nothing, and memory in the copy.
func TestHoles(t *testing.T) {
	src, dst := t.TempDir(), t.TempDir()
	f, err := os.Create(src + "/sparse")
	must(t, err)
	const size, middle = 1 << 30, 1 << 29
	_, err = f.WriteAt([]byte("start"), 0)
	_, err2 := f.WriteAt([]byte("middle"), middle)
	must(t, err, err2, f.Truncate(size), f.Close(), os.WriteFile(src+"/empty", nil, 0o600))
	must(t, Copy(open(t, src), open(t, dst)))

	same(t, src, dst, "sparse", "empty")
	var st unix.Stat_t
	must(t, unix.Stat(dst+"/sparse", &st))
	if st.Size != size || st.Blocks*512 > 1<<20 {
		t.Errorf("%d bytes, %d of them on the disk", st.Size, st.Blocks*512)
	}
	copied, err := os.Open(dst + "/sparse")
	must(t, err)
	defer copied.Close()
	for at, want := range map[int64]string{0: "start", 100: "\x00", middle: "middle", size - 1: "\x00"} {
		have := make([]byte, len(want))
		if _, err := copied.ReadAt(have, at); err != nil || string(have) != want {
			t.Errorf("at %d: %q, %v", at, have, err)
		}
	}
}

// same compares what stat tells of the copies. The mode of the directory that everything
// is copied into is its own.
func same(t *testing.T, src, dst string, names ...string) {
	t.Helper()
	for _, name := range names {
		var a, b unix.Stat_t
		must(t, unix.Lstat(filepath.Join(src, name), &a), unix.Lstat(filepath.Join(dst, name), &b))
		if a.Uid != b.Uid || a.Gid != b.Gid {
			t.Errorf("%s: owner %d:%d, want %d:%d", name, b.Uid, b.Gid, a.Uid, a.Gid)
		}
		if name != "." && (a.Mode != b.Mode || a.Mtim != b.Mtim) {
			t.Errorf("%s: mode %#o, time %v; want %#o, %v", name, b.Mode, b.Mtim, a.Mode, a.Mtim)
		}
	}
}

// TestCopyStops: a tree that is too deep, and a place where something lies already, are
// errors with the path, not a copy of something else.
func TestCopyStops(t *testing.T) {
	deep, dst := t.TempDir(), t.TempDir()
	must(t, os.MkdirAll(deep+strings.Repeat("/d", maxDepth+2), 0o755))
	if err := Copy(open(t, deep), open(t, dst)); err == nil || !strings.Contains(err.Error(), "nested more than") {
		t.Errorf("deep tree: %v", err)
	}
	src, taken := t.TempDir(), t.TempDir()
	must(t, os.WriteFile(src+"/file", nil, 0o600), os.Symlink("/etc/hostile", taken+"/file"))
	if err := Copy(open(t, src), open(t, taken)); !errors.Is(err, os.ErrExist) || !strings.Contains(err.Error(), "/file") {
		t.Errorf("taken name: %v", err)
	}
}

func TestTravels(t *testing.T) {
	for name, want := range map[string]bool{
		"user.mine": true, "security.capability": true, "system.posix_acl_access": true, "system.posix_acl_default": true,
		"": false, "user.overlay.opaque": false, "trusted.overlay.opaque": false, "security.selinux": false,
	} {
		if travels(name) != want {
			t.Errorf("travels(%q) = %t", name, !want)
		}
	}
}
