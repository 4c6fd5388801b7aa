package monitor

import (
	"fmt"
	"os"
	"path/filepath"
	"sync"

	"golang.org/x/sys/unix"

	"box/internal/errdefs"
)

// console is the socket on which the runtime hands over the pty master.
type console struct {
	path string // as the runtime process can reach it
	file string
	dir  *os.File
	sock *os.File
	once sync.Once
}

// listenConsole makes the socket in dir. The path that the runtime gets goes by
// a descriptor of ours, because the real one may not fit into a socket address.
func listenConsole(dir string) (*console, error) {
	d, err := os.OpenFile(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("make console socket: %w", err)
	}
	const name = "console.sock"
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		_ = d.Close()
		return nil, fmt.Errorf("make console socket: %w", err)
	}
	c := &console{
		path: fmt.Sprintf("/proc/%d/fd/%d/%s", os.Getpid(), d.Fd(), name),
		file: filepath.Join(dir, name),
		dir:  d,
		sock: os.NewFile(uintptr(fd), "console socket"),
	}
	err = unix.Fchmod(fd, 0o600)
	if err == nil {
		err = unix.Bind(fd, &unix.SockaddrUnix{Name: fmt.Sprintf("/proc/self/fd/%d/%s", d.Fd(), name)})
	}
	if err == nil {
		err = unix.Listen(fd, 1)
	}
	if err != nil {
		c.close()
		return nil, fmt.Errorf("make console socket %s: %w", c.file, err)
	}
	return c, nil
}

func (c *console) close() {
	c.once.Do(func() {
		_ = c.sock.Close()
		_ = c.dir.Close()
		_ = os.Remove(c.file)
	})
}

// receive waits for the runtime and returns the master, in Go's poller.
func (c *console) receive() (*os.File, error) {
	var conn int
	err := wait(c.sock, func(fd int) (err error) {
		conn, _, err = unix.Accept4(fd, unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("receive terminal: %w", err)
	}
	f := os.NewFile(uintptr(conn), "console connection")
	defer f.Close()
	// The data is the name of the pty, which nobody needs.
	data, oob := make([]byte, 4096), make([]byte, unix.CmsgSpace(4))
	var oobn int
	err = wait(f, func(fd int) (err error) {
		_, oobn, _, _, err = unix.Recvmsg(fd, data, oob, unix.MSG_CMSG_CLOEXEC)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("receive terminal: %w", err)
	}
	return masterOf(oob[:oobn])
}

func masterOf(oob []byte) (*os.File, error) {
	none := errdefs.New(errdefs.ErrInvalid, "receive terminal: the runtime sent no descriptor")
	msgs, err := unix.ParseSocketControlMessage(oob)
	if err != nil || len(msgs) == 0 {
		return nil, none
	}
	fds, err := unix.ParseUnixRights(&msgs[0])
	if err != nil || len(fds) == 0 {
		return nil, none
	}
	if err := unix.SetNonblock(fds[0], true); err != nil {
		return nil, fmt.Errorf("receive terminal: %w", err)
	}
	return os.NewFile(uintptr(fds[0]), "pty master"), nil
}

// wait runs one call on a socket, in Go's poller while it would block.
func wait(f *os.File, call func(fd int) error) error {
	raw, err := f.SyscallConn()
	if err != nil {
		return err
	}
	var callErr error
	err = raw.Read(func(fd uintptr) bool {
		callErr = call(int(fd))
		return callErr != unix.EAGAIN && callErr != unix.EINTR
	})
	if err != nil {
		return err
	}
	return callErr
}
