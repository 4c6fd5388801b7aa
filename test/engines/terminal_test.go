package engines

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"box/pkg/terminal"
)

// session is a command on a terminal, with a user who types and reads.
type session struct {
	t      *testing.T
	master *os.File
	cmd    *exec.Cmd
	ended  chan error

	mu     sync.Mutex
	screen bytes.Buffer // all that was printed and not expected yet
}

// terminal starts a command on a terminal of 24 rows and 80 columns.
func (c client) terminal(args ...string) *session {
	c.t.Helper()
	master, slave := openTerminal(c.t)
	defer slave.Close()
	s := &session{t: c.t, master: master, ended: make(chan error, 1)}
	full := append(c.base[:len(c.base):len(c.base)], args...)
	s.cmd = exec.Command(full[0], full[1:]...)
	s.cmd.Stdin, s.cmd.Stdout, s.cmd.Stderr = slave, slave, slave
	s.cmd.Env, s.cmd.Dir = append(os.Environ(), append(c.env, "TERM=dumb")...), c.dir
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	s.resize(24, 80)
	if err := s.cmd.Start(); err != nil {
		c.t.Fatal(err)
	}
	go s.read()
	go func() { s.ended <- s.cmd.Wait() }()
	c.t.Cleanup(func() {
		_ = s.cmd.Process.Kill() // if it has not ended
		_ = s.master.Close()
	})
	return s
}

// openTerminal makes a pty whose master Go's poller can interrupt.
func openTerminal(t *testing.T) (master, slave *os.File) {
	t.Helper()
	fd, err := unix.Open("/dev/ptmx", unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	master = os.NewFile(uintptr(fd), "master")
	if err := unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	number, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	if slave, err = os.OpenFile(fmt.Sprint("/dev/pts/", number), os.O_RDWR|unix.O_NOCTTY, 0); err != nil {
		t.Fatal(err)
	}
	return master, slave
}

func (s *session) read() {
	chunk := make([]byte, 4096)
	for {
		n, err := s.master.Read(chunk)
		s.mu.Lock()
		s.screen.Write(chunk[:n])
		s.mu.Unlock()
		if err != nil {
			return // the last one on the slave has gone
		}
	}
}

// types sends keys.
func (s *session) types(keys string) {
	s.t.Helper()
	if _, err := s.master.WriteString(keys); err != nil {
		s.t.Fatal(err)
	}
}

// reads waits until text is on the screen, and takes it and what stood before it
// away.
func (s *session) reads(text string) {
	s.t.Helper()
	deadline := time.Now().Add(patience)
	for {
		s.mu.Lock()
		before, _, found := strings.Cut(s.screen.String(), text)
		if found {
			s.screen.Next(len(before) + len(text))
		}
		seen := s.screen.String()
		s.mu.Unlock()
		if found {
			return
		}
		if time.Now().After(deadline) {
			s.t.Fatalf("%q does not appear on the terminal: %q", text, seen)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

func (s *session) resize(rows, cols uint16) {
	s.t.Helper()
	if err := terminal.SetSize(s.master, rows, cols); err != nil {
		s.t.Fatal(err)
	}
}

// ends waits for the command's end, which must have this code.
func (s *session) ends(code int) {
	s.t.Helper()
	select {
	case <-s.ended:
	case <-time.After(patience):
		s.t.Fatalf("the command does not end; on the terminal: %q", s.screen.String())
	}
	if got := s.cmd.ProcessState.ExitCode(); got != code {
		s.t.Errorf("exit code %d, want %d; on the terminal: %q", got, code, s.screen.String())
	}
}
