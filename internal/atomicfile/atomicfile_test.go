package atomicfile

import (
	"context"
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestWriteReplacesContentAndMode(t *testing.T) {
	path := filepath.Join(t.TempDir(), "record.json")
	for _, write := range []func(string, []byte, os.FileMode) error{Write, WriteVolatile, WriteBeside} {
		for _, c := range []struct {
			data string
			perm os.FileMode
		}{{"old", 0o644}, {"new and longer", 0o600}, {"", 0o666}} {
			if err := write(path, []byte(c.data), c.perm); err != nil {
				t.Fatal(err)
			}
			got, err := os.ReadFile(path)
			if err != nil || string(got) != c.data {
				t.Errorf("content = %q, %v; want %q", got, err, c.data)
			}
			if fi, err := os.Stat(path); err != nil || fi.Mode().Perm() != c.perm {
				t.Errorf("mode = %v, %v; want %v", fi.Mode(), err, c.perm)
			}
		}
	}
}

func TestFailedWriteChangesNothing(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "taken")
	if err := os.MkdirAll(filepath.Join(path, "child"), 0o755); err != nil {
		t.Fatal(err)
	}
	err := Write(path, []byte("x"), 0o600) // a rename onto a full directory fails
	if err == nil || !strings.Contains(err.Error(), path) {
		t.Errorf("error = %v, want one that names %s", err, path)
	}
	if entries, _ := os.ReadDir(dir); len(entries) != 1 {
		t.Errorf("left behind: %v", entries)
	}
}

func TestTryLockSeesHolder(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	held, err := LockFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if l, ok, err := TryLock(path); ok || err != nil || l != nil {
		t.Errorf("TryLock of a held lock = %v, %t, %v", l, ok, err)
	}
	if err := held.Unlock(); err != nil {
		t.Fatal(err)
	}
	l, ok, err := TryLock(path)
	if !ok || err != nil {
		t.Fatalf("TryLock of a free lock = %t, %v", ok, err)
	}
	if err := l.Unlock(); err != nil {
		t.Error(err)
	}
}

func TestSharedLocksShare(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	a, err := LockShared(path)
	if err != nil {
		t.Fatal(err)
	}
	b, err := LockShared(path)
	if err != nil {
		t.Fatal(err)
	}
	if _, ok, _ := TryLock(path); ok {
		t.Error("exclusive lock taken beside shared ones")
	}
	a.Unlock()
	b.Unlock()
}

func TestLockFollowsAReplacedFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	old, err := LockFile(path)
	if err != nil {
		t.Fatal(err)
	}
	got := make(chan *Lock)
	go func() {
		l, _ := LockFile(path) // may have opened the old file before it goes
		got <- l
	}()
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	old.Unlock()
	l := <-got
	if l == nil || !current(l.File(), path) {
		t.Fatal("the lock is on a file that path no longer names")
	}
	l.Unlock()
}

func TestLockContextGivesUp(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	held, err := LockFile(path)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := LockContext(ctx, path); !errors.Is(err, context.Canceled) {
		t.Errorf("error = %v, want canceled", err)
	}
	held.Unlock()
	l, err := LockContext(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	l.Unlock()
}

// TestWriteBesideShowsNothingElse: whoever watches the directory sees the file appear,
// complete, and no other; a crash could have left nothing else.
func TestWriteBesideShowsNothingElse(t *testing.T) {
	dir := t.TempDir()
	if fd, err := unix.Open(dir, unix.O_TMPFILE|unix.O_WRONLY, 0o600); err != nil {
		t.Skipf("needs a file system with O_TMPFILE: %v", err)
	} else {
		unix.Close(fd)
	}
	watch, err := unix.InotifyInit1(unix.IN_NONBLOCK | unix.IN_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(watch)
	if _, err := unix.InotifyAddWatch(watch, dir, unix.IN_CREATE|unix.IN_MOVED_TO|unix.IN_MOVED_FROM|unix.IN_DELETE); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "pid")
	if err := WriteBeside(path, []byte("42"), 0o644); err != nil {
		t.Fatal(err)
	}
	var buf [4096]byte
	n, err := unix.Read(watch, buf[:])
	if err != nil {
		t.Fatal(err)
	}
	name := strings.TrimRight(string(buf[unix.SizeofInotifyEvent:n]), "\x00")
	if mask := binary.NativeEndian.Uint32(buf[4:]); mask != unix.IN_CREATE || name != "pid" {
		t.Errorf("events: %#x of %q, want one of the file's creation", mask, name)
	}
}

// TestWriteBesideWithoutHelp: where the kernel cannot make files without names, or the name
// is taken, the file is written all the same.
func TestWriteBesideWithoutHelp(t *testing.T) {
	if err := place("/proc/self/pid", nil, 0o644); err != unix.EOPNOTSUPP {
		t.Errorf("place in a file system without O_TMPFILE: %v", err)
	}
	if err := WriteBeside("/proc/self/pid", nil, 0o644); err == nil || !strings.Contains(err.Error(), "/proc/self/") {
		t.Errorf("write to procfs: %v", err)
	}
	dir := t.TempDir()
	if err := os.Mkdir(dir+"/taken", 0o700); err != nil {
		t.Fatal(err)
	}
	if err := WriteBeside(dir+"/taken", nil, 0o644); err == nil {
		t.Error("a directory was replaced")
	}
	if entries, _ := os.ReadDir(dir); len(entries) != 1 {
		t.Errorf("left behind: %v", entries)
	}
}
