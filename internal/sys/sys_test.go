package sys

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// tree makes a directory "root" with the given symlinks beside a directory
// "outside" that nothing may reach, and opens root.
func tree(t *testing.T, links map[string]string) (root *os.File, outside string) {
	t.Helper()
	dir := t.TempDir()
	rootDir, outside := filepath.Join(dir, "root"), filepath.Join(dir, "outside")
	for _, d := range []string{filepath.Join(rootDir, "real"), outside} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for name, target := range links {
		if err := os.Symlink(target, filepath.Join(rootDir, name)); err != nil {
			t.Fatal(err)
		}
	}
	root, err := os.Open(rootDir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { root.Close() })
	return root, outside
}

func TestMkdirAllInRootStaysInside(t *testing.T) {
	root, outside := tree(t, map[string]string{
		"rel": "../outside", "abs": "/real", "dangling": "/nowhere", "loop": "loop",
	})
	for _, c := range []struct {
		path string
		want error
		made string // below root
	}{
		{"a/b/c", nil, "a/b/c"},
		{"/a/b/./c//", nil, "a/b/c"},
		{"abs/x", nil, "real/x"},
		{"../../y", nil, "y"},
		{"rel/z", unix.ELOOP, ""}, // ../outside is /outside in root: dangling
		{"dangling/z", unix.ELOOP, ""},
		{"loop/z", unix.ELOOP, ""},
		{"", nil, "."},
	} {
		dir, err := MkdirAllInRoot(root, c.path, 0o755)
		if !errors.Is(err, c.want) {
			t.Errorf("MkdirAllInRoot(%q) = %v, want %v", c.path, err, c.want)
		}
		if err == nil {
			sameFile(t, dir, filepath.Join(root.Name(), c.made))
			dir.Close()
		}
	}
	if entries, _ := os.ReadDir(outside); len(entries) != 0 {
		t.Errorf("made outside of the root: %v", entries)
	}
}

func sameFile(t *testing.T, f *os.File, path string) {
	t.Helper()
	got, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	want, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if !os.SameFile(got, want) {
		t.Errorf("%s is not %s", f.Name(), path)
	}
}

func TestOpenRefusals(t *testing.T) {
	root, _ := tree(t, map[string]string{"abs": "/real", "up": ".."})
	proc, err := os.Open("/proc")
	if err != nil {
		t.Fatal(err)
	}
	defer proc.Close()
	for _, c := range []struct {
		name string
		open func() (*os.File, error)
		want error
	}{
		{"beneath: symlink", func() (*os.File, error) { return OpenBeneath(root, "abs", unix.O_PATH, 0) }, unix.ELOOP},
		{"beneath: dotdot", func() (*os.File, error) { return OpenBeneath(root, "../outside", unix.O_PATH, 0) }, unix.EXDEV},
		{"in root: magic link", func() (*os.File, error) { return OpenInRoot(proc, "self/root", unix.O_PATH, 0) }, unix.ELOOP},
		{"in root: absolute link", func() (*os.File, error) { return OpenInRoot(root, "abs", unix.O_PATH, 0) }, nil},
		{"in root: link up", func() (*os.File, error) { return OpenInRoot(root, "up/real", unix.O_PATH, 0) }, nil},
	} {
		f, err := c.open()
		if !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", c.name, err, c.want)
		}
		if err == nil {
			f.Close()
		}
	}
}

func TestOpenInRootCreatesWithMode(t *testing.T) {
	root, _ := tree(t, nil)
	f, err := OpenInRoot(root, "new", unix.O_CREAT|unix.O_EXCL|unix.O_WRONLY, 0o700|os.ModeSetuid)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	fi, err := f.Stat()
	if err != nil || fi.Mode() != 0o700|os.ModeSetuid {
		t.Errorf("mode = %v, %v", fi.Mode(), err)
	}
	flags, err := unix.FcntlInt(f.Fd(), unix.F_GETFD, 0)
	if err != nil || flags&unix.FD_CLOEXEC == 0 {
		t.Errorf("fd flags = %#x, %v; want close-on-exec", flags, err)
	}
}

func socketpair(t *testing.T, kind int) [2]int {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, kind|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fds[0]); unix.Close(fds[1]) })
	return fds
}

func TestFilesTravel(t *testing.T) {
	for _, kind := range []int{unix.SOCK_SEQPACKET, unix.SOCK_STREAM} {
		s := socketpair(t, kind)
		f, err := os.CreateTemp(t.TempDir(), "")
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		if err := SendFiles(s[0], []byte("hi"), f, f); err != nil {
			t.Fatal(err)
		}
		buf := make([]byte, 8)
		n, files, err := RecvFiles(s[1], buf)
		if err != nil || string(buf[:n]) != "hi" || len(files) != 2 {
			t.Fatalf("RecvFiles = %q, %d files, %v", buf[:n], len(files), err)
		}
		sameFile(t, files[0], f.Name())
		closeAll(files)
	}
}

func TestRecvFilesRefusesHalfAMessage(t *testing.T) {
	s := socketpair(t, unix.SOCK_SEQPACKET)
	if err := SendFiles(s[0], []byte("too long"), os.Stdin); err != nil {
		t.Fatal(err)
	}
	if _, files, err := RecvFiles(s[1], make([]byte, 2)); !errors.Is(err, unix.EMSGSIZE) || files != nil {
		t.Errorf("RecvFiles = %v, %v; want EMSGSIZE", files, err)
	}
}

func TestWaitPidfdStatus(t *testing.T) {
	for _, c := range []struct {
		script string
		want   unix.WaitStatus
	}{{"exit 7", 7 << 8}, {"exit 0", 0}, {"kill -9 $$", 9}} {
		cmd := exec.Command("/bin/sh", "-c", c.script)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		pidfd, err := PidfdOpen(cmd.Process.Pid)
		if err != nil {
			t.Fatal(err)
		}
		defer pidfd.Close()
		if exited, err := PollPidfd(pidfd, -1); !exited || err != nil {
			t.Errorf("PollPidfd = %t, %v", exited, err)
		}
		if got, err := WaitPidfd(pidfd); err != nil || got != c.want {
			t.Errorf("%s: status %#x, %v; want %#x", c.script, got, err, c.want)
		}
		if err := PidfdSendSignal(pidfd, 0); !errors.Is(err, unix.ESRCH) {
			t.Errorf("signal to the dead = %v, want ESRCH", err)
		}
		_ = cmd.Process.Release()
	}
}

func TestPidfdGetfdCopiesOwnFile(t *testing.T) {
	self, err := PidfdOpen(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	defer self.Close()
	f, err := os.CreateTemp(t.TempDir(), "")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	got, err := PidfdGetfd(self, int(f.Fd()))
	if err != nil {
		t.Fatal(err)
	}
	defer got.Close()
	sameFile(t, got, f.Name())
}
