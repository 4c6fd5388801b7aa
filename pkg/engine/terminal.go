package engine

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// isTerminal tells whether f is a terminal.
func isTerminal(f *os.File) bool {
	return control(f, func(fd int) error {
		_, err := unix.IoctlGetTermios(fd, unix.TCGETS)
		return err
	}) == nil
}

// windowSize is the size of f's terminal in characters; 0, 0 if it has none.
func windowSize(f *os.File) (rows, cols uint16) {
	_ = control(f, func(fd int) error {
		ws, err := unix.IoctlGetWinsize(fd, unix.TIOCGWINSZ)
		if err == nil {
			rows, cols = ws.Row, ws.Col
		}
		return err
	})
	return rows, cols
}

// SetWindowSize sets the size of the terminal f, master or slave.
func SetWindowSize(f *os.File, rows, cols uint16) error {
	err := control(f, func(fd int) error {
		return unix.IoctlSetWinsize(fd, unix.TIOCSWINSZ, &unix.Winsize{Row: rows, Col: cols})
	})
	if err != nil {
		return fmt.Errorf("set window size: %w", err)
	}
	return nil
}

// rawTerminal remembers how a terminal was before makeRaw.
type rawTerminal struct {
	f      *os.File
	before unix.Termios
}

// makeRaw passes every key on as it is typed, as cfmakeraw(3) does.
func makeRaw(f *os.File) (*rawTerminal, error) {
	t := &rawTerminal{f: f}
	err := control(f, func(fd int) error {
		now, err := unix.IoctlGetTermios(fd, unix.TCGETS)
		if err != nil {
			return err
		}
		t.before = *now
		now.Iflag &^= unix.IGNBRK | unix.BRKINT | unix.PARMRK | unix.ISTRIP | unix.INLCR | unix.IGNCR | unix.ICRNL | unix.IXON
		now.Oflag &^= unix.OPOST
		now.Lflag &^= unix.ECHO | unix.ECHONL | unix.ICANON | unix.ISIG | unix.IEXTEN
		now.Cflag = now.Cflag&^(unix.CSIZE|unix.PARENB) | unix.CS8
		now.Cc[unix.VMIN], now.Cc[unix.VTIME] = 1, 0
		return unix.IoctlSetTermios(fd, unix.TCSETS, now)
	})
	if err != nil {
		return nil, fmt.Errorf("set terminal to raw mode: %w", err)
	}
	return t, nil
}

func (t *rawTerminal) restore() {
	// The terminal may have been hung up: then nobody is left to tell.
	_ = control(t.f, func(fd int) error { return unix.IoctlSetTermios(fd, unix.TCSETS, &t.before) })
}

// control calls f with the descriptor without taking the file out of Go's
// poller, as File.Fd would.
func control(file *os.File, f func(fd int) error) error {
	raw, err := file.SyscallConn()
	if err != nil {
		return err
	}
	var callErr error
	if err := raw.Control(func(fd uintptr) { callErr = f(int(fd)) }); err != nil {
		return err
	}
	return callErr
}
