package testkit

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// found tells whether Traces reports something that contains text.
func found(t *testing.T, text string, dirs ...string) bool {
	t.Helper()
	return strings.Contains(strings.Join(Traces(t, dirs...), "\n"), text)
}

func TestTracesSeeProcesses(t *testing.T) {
	dir := t.TempDir()
	cmd := exec.Command("cat", "-u", "-")
	cmd.Dir = dir
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	// The kernel knows the arguments a moment after the execve that Start waits for.
	_, err = in.Write([]byte("x"))
	if _, rerr := out.Read(make([]byte, 1)); err != nil || rerr != nil {
		t.Fatal(err, rerr)
	}
	seen := found(t, "cat -u -", dir)
	in.Close()
	if err := cmd.Wait(); err != nil {
		t.Fatal(err)
	}
	if after := found(t, "cat -u -", dir); !seen || after {
		t.Errorf("seen while it ran: %v, after its end: %v", seen, after)
	}
}

func TestTracesSeeMounts(t *testing.T) {
	RequireRoot(t)
	dir := t.TempDir()
	target := filepath.Join(dir, "a b")
	if err := os.Mkdir(target, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("none", target, "tmpfs", 0, ""); err != nil {
		t.Skipf("may not mount: %v", err)
	}
	seen := found(t, "mount "+dir, dir)
	if err := unix.Unmount(target, 0); err != nil {
		t.Fatal(err)
	}
	if !seen || found(t, "mount "+dir, dir) {
		t.Errorf("seen while mounted: %v", seen)
	}
}

func TestNewFiles(t *testing.T) {
	before := openFiles(t)
	f, err := os.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	if got := newFiles(t, before); len(got) != 1 || !strings.Contains(got[0], f.Name()) {
		t.Errorf("with one more file open: %q", got)
	}
	f.Close()
	if got := newFiles(t, before); len(got) != 0 {
		t.Errorf("after closing it: %q", got)
	}
}

func TestSettledWaitsForTheEnd(t *testing.T) {
	n := 3
	if got := settled(func() []string { n--; return make([]string, n) }); got != nil {
		t.Errorf("got %q", got)
	}
}

func TestLeaksIsQuietWithoutLeaks(t *testing.T) {
	Leaks(t, t.TempDir())
}

func TestKindOf(t *testing.T) {
	for target, want := range map[string]string{
		"pipe:[12]": "pipe", "socket:[3]": "socket", "anon_inode:[eventpoll]": "anon_inode:[eventpoll]", "/dev/null": "/dev/null", "anon_inode:bpf-prog": "anon_inode:bpf-prog",
	} {
		if got := kindOf(target); got != want {
			t.Errorf("%s: %q, want %q", target, got, want)
		}
	}
}
