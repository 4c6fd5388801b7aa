package engine

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"box/pkg/terminal"
)

// pty makes a terminal for a client: the end that a person would sit at, and
// the one that the client reads and writes.
func pty(t *testing.T) (person, client *os.File) {
	t.Helper()
	fd, err := unix.Open("/dev/ptmx", unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err == nil {
		err = unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0)
	}
	if err != nil {
		t.Fatal(err)
	}
	person = os.NewFile(uintptr(fd), "ptmx")
	client, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = person.Close(); _ = client.Close() })
	return person, client
}

// expect reads until text has come.
func expect(t *testing.T, f *os.File, text string) string {
	t.Helper()
	var got bytes.Buffer
	buf := make([]byte, 1024)
	for !strings.Contains(got.String(), text) {
		n, err := f.Read(buf)
		if err != nil {
			t.Fatalf("waiting for %q: %v; got %q", text, err, got.String())
		}
		got.Write(buf[:n])
	}
	return got.String()
}

func TestTerminal(t *testing.T) {
	f := newFixture(t)
	person, client := pty(t)
	if err := terminal.SetSize(person, 33, 77); err != nil {
		t.Fatal(err)
	}
	before, err := unix.IoctlGetTermios(int(client.Fd()), unix.TCGETS)
	if err != nil {
		t.Fatal(err)
	}
	keys, err := ParseDetachKeys(DefaultDetachKeys)
	if err != nil {
		t.Fatal(err)
	}
	o := f.sh("stty size; test -t 0 && test -t 1 && test -t 2 && echo terminal; echo $TERM; read x; echo got $x; exit 3")
	o.Tty, o.OpenStdin, o.StdinOnce = true, true, true
	r, s, err := f.Run(t.Context(), o, Stdio{Stdin: client, Stdout: client, Stderr: client, DetachKeys: keys})
	if err != nil {
		t.Fatal(err)
	}
	if got, want := expect(t, person, "xterm"), "33 77\r\nterminal\r\nxterm"; !strings.HasSuffix(strings.TrimSpace(got), want) {
		t.Errorf("first lines: %q, want %q", got, want)
	}
	// ctrl-p ctrl-q leaves the container alone.
	if _, err := person.Write([]byte{16, 17}); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Wait(t.Context()); !errors.Is(err, ErrDetached) {
		t.Errorf("after the detach keys: %v", err)
	}
	after, err := unix.IoctlGetTermios(int(client.Fd()), unix.TCGETS)
	if err != nil || *after != *before {
		t.Errorf("the terminal was not restored (%v)", err)
	}
	s, err = f.Attach(t.Context(), r.ID, Stdio{Stdin: client, Stdout: client})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := person.WriteString("word\r"); err != nil {
		t.Fatal(err)
	}
	if code, err := s.Wait(t.Context()); code != 3 || err != nil {
		t.Errorf("wait: %d %v", code, err)
	}
	expect(t, person, "got word\r\n")
	if out, _ := f.logs(r.ID, LogOptions{}); !strings.Contains(out, "got word\r\n") {
		t.Errorf("log: %q", out)
	}
}

func TestTerminalFollowsWindow(t *testing.T) {
	f := newFixture(t)
	person, client := pty(t)
	o := f.sh("trap 'stty size; exit 0' WINCH; echo ready; while :; do usleep 10000; done")
	o.Tty, o.OpenStdin = true, true
	_, s, err := f.Run(t.Context(), o, Stdio{Stdin: client, Stdout: client})
	if err != nil {
		t.Fatal(err)
	}
	expect(t, person, "ready")
	if err := terminal.SetSize(person, 40, 100); err != nil {
		t.Fatal(err)
	}
	// The kernel would send this to the terminal's foreground group, of which a
	// test program need not be a member.
	if err := unix.Kill(os.Getpid(), unix.SIGWINCH); err != nil {
		t.Fatal(err)
	}
	if code, err := s.Wait(t.Context()); code != 0 || err != nil {
		t.Errorf("wait: %d %v", code, err)
	}
	expect(t, person, "40 100")
}

func TestDetachedTerminal(t *testing.T) {
	f := newFixture(t)
	o := f.sh("echo on a terminal; test -t 1; exit $?")
	o.Tty = true
	r := f.detached(o)
	if code := f.wait(r.ID); code != 0 {
		t.Errorf("code %d", code)
	}
	if out, _ := f.logs(r.ID, LogOptions{}); out != "on a terminal\r\n" {
		t.Errorf("log: %q", out)
	}
}

// A client that does not read slows the container down, and does not keep its
// own session from being closed or the container from being removed.
func TestClientThatDoesNotRead(t *testing.T) {
	f := newFixture(t)
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	o := f.sh("yes")
	rec, s, err := f.Run(t.Context(), o, Stdio{Stdout: w})
	if err != nil {
		t.Fatal(err)
	}
	_ = w.Close()
	if _, err := io.CopyN(io.Discard, r, 1<<20); err != nil {
		t.Fatal(err)
	}
	_ = s.Close()
	_ = r.Close()
	if err := f.Remove(t.Context(), rec.ID, RemoveOptions{Force: true}); err != nil {
		t.Error(err)
	}
}
