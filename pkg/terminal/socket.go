package terminal

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"box/internal/sys"
)

// Listener is a console socket that waits for a runtime to connect. (Package net
// would serve too, and would cost box-runtime, which links this package, a tenth of
// its start.)
type Listener struct {
	file *os.File
	path string
}

// Listen makes a console socket at path, which must not exist and be shorter than
// 108 bytes.
func Listen(path string) (*Listener, error) {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("create console socket: %w", err)
	}
	f := os.NewFile(uintptr(fd), path)
	if err := unix.Bind(fd, &unix.SockaddrUnix{Name: path}); err != nil {
		f.Close()
		return nil, fmt.Errorf("bind console socket %s: %w", path, err)
	}
	if err := unix.Listen(fd, 1); err != nil {
		f.Close()
		os.Remove(path)
		return nil, fmt.Errorf("listen on console socket %s: %w", path, err)
	}
	return &Listener{f, path}, nil
}

// Accept waits for the one connection that a runtime makes, and receives the master.
// Close, from another goroutine, ends the wait with os.ErrClosed.
func (l *Listener) Accept() (*os.File, error) {
	conn, err := l.file.SyscallConn()
	if err != nil {
		return nil, fmt.Errorf("accept on console socket %s: %w", l.path, err)
	}
	fd := -1
	var inner error
	err = conn.Read(func(listening uintptr) (done bool) {
		fd, _, inner = unix.Accept4(int(listening), unix.SOCK_CLOEXEC)
		return !errors.Is(inner, unix.EAGAIN)
	})
	if err != nil { // the poller fails only when the file is closed, in words of its own
		inner = os.ErrClosed
	}
	if inner != nil {
		return nil, fmt.Errorf("accept on console socket %s: %w", l.path, inner)
	}
	f := os.NewFile(uintptr(fd), "console socket")
	defer f.Close()
	return Receive(f)
}

// Close stops listening and removes the socket from the file system.
func (l *Listener) Close() error {
	return errors.Join(l.file.Close(), os.Remove(l.path))
}

// Dial connects to the console socket at path: the runtime's side, whose descriptor
// the program gets.
func Dial(path string) (*os.File, error) {
	f, err := sys.DialUnix(path)
	if err != nil {
		return nil, fmt.Errorf("console socket: %w", err)
	}
	return f, nil
}

// Pair makes a connected pair of sockets, for a runtime that keeps the master itself:
// ours to Receive from, theirs for the program.
func Pair() (ours, theirs *os.File, err error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("create console sockets: %w", err)
	}
	return os.NewFile(uintptr(fds[0]), "console socket"), os.NewFile(uintptr(fds[1]), "console socket"), nil
}
