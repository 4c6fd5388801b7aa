package record

import (
	"errors"
	"io"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"box/internal/errdefs"
)

func TestErrorsKeepClassCodeAndHint(t *testing.T) {
	was := errdefs.WithHint(errdefs.New(errdefs.ErrConflict, "port 80 is taken"), "choose another")
	err := Failed(was, 125).Err()
	var start *StartError
	if !errors.As(err, &start) || start.Code != 125 || err.Error() != "port 80 is taken" || !errors.Is(err, errdefs.ErrConflict) || errdefs.Hint(err) != "choose another" {
		t.Errorf("got %#v: %v", err, err)
	}
	if err := (Event{Kind: EventExited}).Err(); err != nil {
		t.Errorf("an exit is no error: %v", err)
	}
	long := Failed(errors.New(strings.Repeat("x", 1<<20)), 125)
	if len(long.Message) > maxErrorText {
		t.Errorf("message of %d bytes", len(long.Message))
	}
}

func TestRequestCarriesFiles(t *testing.T) {
	s := newStore(t)
	id := NewID()
	lock, err := s.TryLock(id)
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Unlock()
	l, err := s.Listen(id)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if fi, err := os.Stat(s.SocketPath(id)); err != nil || fi.Mode().Perm() != 0o600 {
		t.Errorf("socket: %v %v, want mode 0600", fi, err)
	}
	client, err := s.Dial(id)
	if err != nil {
		t.Fatal(err)
	}
	monitor, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := client.SendRequest(Request{Op: OpAttach, Stdout: true}, w); err != nil {
		t.Fatal(err)
	}
	_ = w.Close()
	req, files, err := monitor.ReadRequest()
	if err != nil || req.Op != OpAttach || !req.Stdout || len(files) != 1 {
		t.Fatalf("got %+v, %d files, %v", req, len(files), err)
	}
	if flags, err := unix.FcntlInt(files[0].Fd(), unix.F_GETFD, 0); err != nil || flags&unix.FD_CLOEXEC == 0 {
		t.Error("a received file would reach the container")
	}
	if _, err := files[0].WriteString("through"); err != nil {
		t.Fatal(err)
	}
	_ = files[0].Close()
	if data, err := io.ReadAll(r); err != nil || string(data) != "through" {
		t.Errorf("read %q %v", data, err)
	}
	_ = monitor.Close()
	if _, _, err := client.ReadEvent(); !errors.Is(err, io.EOF) {
		t.Errorf("after the monitor's end: %v, want EOF", err)
	}
	_ = client.Close()
}

func TestDialWithoutMonitor(t *testing.T) {
	s := newStore(t)
	if _, err := s.Dial(NewID()); !errors.Is(err, errdefs.ErrNotFound) {
		t.Errorf("no run directory: %v", err)
	}
	id := NewID()
	lock, err := s.TryLock(id)
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Unlock()
	l, err := s.Listen(id)
	if err != nil {
		t.Fatal(err)
	}
	_ = l.Close() // as when the monitor is killed: the path stays
	if _, err := s.Dial(id); !errors.Is(err, errdefs.ErrNotFound) {
		t.Errorf("socket of a dead monitor: %v", err)
	}
}

func TestDamagedMessageIsAnErrorAndKeepsNoFile(t *testing.T) {
	a, b, err := Pair()
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	defer b.Close()
	if _, err := unix.Write(int(b.Fd()), []byte("{")); err != nil {
		t.Fatal(err)
	}
	if _, files, err := a.ReadEvent(); err == nil || files != nil {
		t.Errorf("half a message: %v %v", files, err)
	}
	if _, err := unix.Write(int(b.Fd()), make([]byte, maxPacket+1)); err != nil {
		t.Fatal(err)
	}
	if _, _, err := a.ReadEvent(); !errors.Is(err, errdefs.ErrInvalid) {
		t.Errorf("oversized message: %v", err)
	}
}
