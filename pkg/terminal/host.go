package terminal

import (
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"

	"box/internal/errdefs"
	"box/internal/sys"
)

// Receive receives a terminal's master from a connected console socket. The other
// end closed without sending one is io.ErrUnexpectedEOF.
func Receive(socket *os.File) (*os.File, error) {
	n, files, err := sys.RecvFiles(int(socket.Fd()), make([]byte, 4096))
	if err != nil {
		return nil, fmt.Errorf("receive terminal: %w", err)
	}
	if len(files) != 1 {
		for _, f := range files {
			f.Close()
		}
		if n == 0 {
			return nil, fmt.Errorf("receive terminal: %w", io.ErrUnexpectedEOF)
		}
		return nil, errdefs.New(errdefs.ErrInvalid, "receive terminal: message has %d descriptors, not one", len(files))
	}
	return pollable(files[0])
}

// pollable gives the master back as a file that Go's poller serves, so that reads
// end when it is closed.
func pollable(f *os.File) (*os.File, error) {
	defer f.Close()
	fd, err := unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("receive terminal: %w", err)
	}
	if err := unix.SetNonblock(fd, true); err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("receive terminal: %w", err)
	}
	return os.NewFile(uintptr(fd), "terminal"), nil
}

// Is reports whether f is a terminal.
func Is(f *os.File) bool {
	return control(f, func(fd int) error {
		_, err := unix.IoctlGetTermios(fd, unix.TCGETS)
		return err
	}) == nil
}

// Size returns the window's size in characters.
func Size(f *os.File) (rows, cols uint16, err error) {
	err = control(f, func(fd int) error {
		ws, err := unix.IoctlGetWinsize(fd, unix.TIOCGWINSZ)
		if err == nil {
			rows, cols = ws.Row, ws.Col
		}
		return err
	})
	if err != nil {
		return 0, 0, fmt.Errorf("get size of terminal: %w", err)
	}
	return rows, cols, nil
}

// SetSize sets the window's size; the foreground processes get SIGWINCH if it
// changes.
func SetSize(f *os.File, rows, cols uint16) error {
	err := control(f, func(fd int) error {
		return unix.IoctlSetWinsize(fd, unix.TIOCSWINSZ, &unix.Winsize{Row: rows, Col: cols})
	})
	if err != nil {
		return fmt.Errorf("set size of terminal: %w", err)
	}
	return nil
}

// MakeRaw makes the user's terminal pass every key on as it is typed, as
// cfmakeraw(3) does. Restore brings back what was before; it may be called twice.
func MakeRaw(f *os.File) (restore func() error, err error) {
	return change(f, raw)
}

// MakeInputRaw is MakeRaw for what is typed only: the terminal goes on making a
// carriage return and a line feed of each newline that is written to it. It goes
// together with Options.KeepNewlines.
func MakeInputRaw(f *os.File) (restore func() error, err error) {
	return change(f, func(t *unix.Termios) {
		raw(t)
		t.Oflag |= unix.OPOST
	})
}

// change edits the terminal's settings; restore brings back those before.
func change(f *os.File, edit func(*unix.Termios)) (restore func() error, err error) {
	var before unix.Termios
	err = control(f, func(fd int) error {
		now, err := unix.IoctlGetTermios(fd, unix.TCGETS)
		if err != nil {
			return err
		}
		before = *now
		edit(now)
		return unix.IoctlSetTermios(fd, unix.TCSETS, now)
	})
	if err != nil {
		return nil, fmt.Errorf("change settings of terminal: %w", err)
	}
	return func() error {
		err := control(f, func(fd int) error { return unix.IoctlSetTermios(fd, unix.TCSETS, &before) })
		if err != nil {
			return fmt.Errorf("restore terminal: %w", err)
		}
		return nil
	}, nil
}

func raw(t *unix.Termios) {
	t.Iflag &^= unix.IGNBRK | unix.BRKINT | unix.PARMRK | unix.ISTRIP | unix.INLCR | unix.IGNCR | unix.ICRNL | unix.IXON
	t.Oflag &^= unix.OPOST
	t.Lflag &^= unix.ECHO | unix.ECHONL | unix.ICANON | unix.ISIG | unix.IEXTEN
	t.Cflag = t.Cflag&^(unix.CSIZE|unix.PARENB) | unix.CS8
	t.Cc[unix.VMIN], t.Cc[unix.VTIME] = 1, 0
}

// control calls f with the descriptor without taking the file out of Go's poller,
// as File.Fd would.
func control(file *os.File, f func(fd int) error) error {
	conn, err := file.SyscallConn()
	if err != nil {
		return err
	}
	var inner error
	if err := conn.Control(func(fd uintptr) { inner = f(int(fd)) }); err != nil {
		return err
	}
	return inner
}

// Closed reports whether err, from reading a master, says no more than that nobody
// has the slave open: EIO, or our own close.
func Closed(err error) bool {
	return errors.Is(err, unix.EIO) || errors.Is(err, io.EOF) || errors.Is(err, os.ErrClosed)
}
