package record

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strconv"

	"golang.org/x/sys/unix"

	"box/internal/errdefs"
)

// maxPacket is larger than any message. maxFiles is what a request can carry.
const (
	maxPacket = 64 << 10
	maxFiles  = 3
)

// Conn is one end of a connection. One goroutine may read and one may write at
// the same time. The file is in Go's poller, so Close ends a blocked Read.
type Conn struct{ f *os.File }

// NewConn takes over fd, a SOCK_SEQPACKET socket.
func NewConn(fd int) (*Conn, error) {
	if err := unix.SetNonblock(fd, true); err != nil {
		return nil, fmt.Errorf("set up monitor connection: %w", err)
	}
	return &Conn{f: os.NewFile(uintptr(fd), "monitor connection")}, nil
}

// Pair makes a connection for a monitor that is about to be started: this
// process's end, and the file that the monitor inherits.
func Pair() (*Conn, *os.File, error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("make monitor connection: %w", err)
	}
	c, err := NewConn(fds[0])
	if err != nil {
		_ = unix.Close(fds[0])
		_ = unix.Close(fds[1])
		return nil, nil, err
	}
	return c, os.NewFile(uintptr(fds[1]), "monitor end"), nil
}

// Dial connects to the monitor of id. ErrNotFound means that none serves.
func (s *Store) Dial(id string) (*Conn, error) {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("make socket: %w", err)
	}
	err = withShortPath(s.SocketPath(id), func(path string) error {
		return unix.Connect(fd, &unix.SockaddrUnix{Name: path})
	})
	if err == nil {
		return NewConn(fd)
	}
	_ = unix.Close(fd)
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ECONNREFUSED) {
		return nil, errdefs.New(errdefs.ErrNotFound, "connect to the monitor of container %s: none is running", Short(id))
	}
	return nil, fmt.Errorf("connect to the monitor of container %s: %w", Short(id), err)
}

// Close ends the connection.
func (c *Conn) Close() error { return c.f.Close() }

// SendRequest sends a client's request with its files.
func (c *Conn) SendRequest(r Request, files ...*os.File) error { return c.send(r, files) }

// SendEvent sends a monitor's event, with at most one file.
func (c *Conn) SendEvent(e Event, files ...*os.File) error { return c.send(e, files) }

// ReadRequest reads a client's request. The files belong to the caller.
func (c *Conn) ReadRequest() (Request, []*os.File, error) {
	var r Request
	files, err := c.receive(&r)
	return r, files, err
}

// ReadEvent reads the next event; io.EOF when the monitor is gone.
func (c *Conn) ReadEvent() (Event, []*os.File, error) {
	var e Event
	files, err := c.receive(&e)
	return e, files, err
}

func (c *Conn) send(v any, files []*os.File) error {
	data, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("send message: %w", err)
	}
	var oob []byte
	if len(files) > 0 {
		fds, err := descriptors(files)
		if err != nil {
			return fmt.Errorf("send message: %w", err)
		}
		oob = unix.UnixRights(fds...)
		defer runtime.KeepAlive(files)
	}
	return c.each(true, func(fd int) error {
		// MSG_NOSIGNAL: a peer that is gone is an error, not the end of us.
		return unix.Sendmsg(fd, data, oob, nil, unix.MSG_NOSIGNAL)
	})
}

// descriptors does without File.Fd, which would take a pty or a pipe out of
// Go's poller.
func descriptors(files []*os.File) ([]int, error) {
	fds := make([]int, len(files))
	for i, f := range files {
		raw, err := f.SyscallConn()
		if err != nil {
			return nil, err
		}
		if err := raw.Control(func(fd uintptr) { fds[i] = int(fd) }); err != nil {
			return nil, err
		}
	}
	return fds, nil
}

func (c *Conn) receive(v any) ([]*os.File, error) {
	data := make([]byte, maxPacket)
	oob := make([]byte, unix.CmsgSpace(maxFiles*4))
	var n, oobn, flags int
	err := c.each(false, func(fd int) (err error) {
		n, oobn, flags, _, err = unix.Recvmsg(fd, data, oob, unix.MSG_CMSG_CLOEXEC)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("receive message: %w", err)
	}
	files := rights(oob[:oobn])
	switch {
	case flags&(unix.MSG_TRUNC|unix.MSG_CTRUNC) != 0:
		err = errdefs.New(errdefs.ErrInvalid, "receive message: it is too large")
	case n == 0:
		err = io.EOF
	default:
		err = json.Unmarshal(data[:n], v)
	}
	if err != nil {
		closeAll(files)
		return nil, err
	}
	return files, nil
}

// each runs one socket call, waiting in Go's poller while it would block.
func (c *Conn) each(write bool, call func(fd int) error) error {
	raw, err := c.f.SyscallConn()
	if err != nil {
		return err
	}
	var callErr error
	try := func(fd uintptr) bool {
		for {
			callErr = call(int(fd))
			if !errors.Is(callErr, unix.EINTR) {
				return !errors.Is(callErr, unix.EAGAIN)
			}
		}
	}
	if write {
		err = raw.Write(try)
	} else {
		err = raw.Read(try)
	}
	return errors.Join(err, callErr)
}

// rights takes the files out of control data. Whatever does not parse carries
// none; the kernel made it, so that does not happen.
func rights(oob []byte) []*os.File {
	msgs, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return nil
	}
	var files []*os.File
	for i := range msgs {
		fds, err := unix.ParseUnixRights(&msgs[i])
		if err != nil {
			continue
		}
		for _, fd := range fds {
			files = append(files, os.NewFile(uintptr(fd), "received file"))
		}
	}
	return files
}

func closeAll(files []*os.File) {
	for _, f := range files {
		_ = f.Close() // received and never used
	}
}

// Listener accepts connections on monitor.sock.
type Listener struct {
	c    Conn
	path string
}

// Listen makes the socket of id, mode 0600. It is a path, not an abstract name,
// so that no container that shares the host's network can reach it
// (CVE-2020-15257). The caller holds the lock.
func (s *Store) Listen(id string) (*Listener, error) {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("make socket: %w", err)
	}
	l := &Listener{c: Conn{f: os.NewFile(uintptr(fd), "monitor socket")}, path: s.SocketPath(id)}
	_ = os.Remove(l.path) // of a monitor that was killed; we hold the lock
	if err := l.bind(fd); err != nil {
		_ = l.c.Close()
		return nil, fmt.Errorf("listen on %s: %w", l.path, err)
	}
	return l, nil
}

func (l *Listener) bind(fd int) error {
	// fchmod on an unbound socket sets the mode that bind creates the file with:
	// there is no moment at which others could connect.
	if err := unix.Fchmod(fd, 0o600); err != nil {
		return err
	}
	err := withShortPath(l.path, func(path string) error {
		return unix.Bind(fd, &unix.SockaddrUnix{Name: path})
	})
	if err != nil {
		return err
	}
	return unix.Listen(fd, 128)
}

// Accept waits for the next client of this user or root.
func (l *Listener) Accept() (*Conn, error) {
	for {
		var fd int
		err := l.c.each(false, func(s int) (err error) {
			fd, _, err = unix.Accept4(s, unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK)
			return err
		})
		if err != nil {
			return nil, err
		}
		if trusted(fd) {
			return &Conn{f: os.NewFile(uintptr(fd), "monitor connection")}, nil
		}
		_ = unix.Close(fd)
	}
}

// trusted is a second lock behind the file mode.
func trusted(fd int) bool {
	cred, err := unix.GetsockoptUcred(fd, unix.SOL_SOCKET, unix.SO_PEERCRED)
	return err == nil && (cred.Uid == 0 || int(cred.Uid) == os.Geteuid())
}

// Close stops listening; the run directory's removal takes the path away.
func (l *Listener) Close() error { return l.c.Close() }

// maxSocketPath is the size of sun_path less the closing zero (unix(7)).
const maxSocketPath = 107

// withShortPath calls f with a path that fits into a socket address: the
// socket's name below an open descriptor of its directory if need be.
func withShortPath(path string, f func(string) error) error {
	if len(path) <= maxSocketPath {
		return f(path)
	}
	dir, err := unix.Open(filepath.Dir(path), unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(dir)
	return f("/proc/self/fd/" + strconv.Itoa(dir) + "/" + filepath.Base(path))
}
