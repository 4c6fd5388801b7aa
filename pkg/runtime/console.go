package runtime

import (
	"errors"
	"io"
	"os"
	"os/signal"
	"time"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"box/internal/admit"
	"box/internal/errdefs"
	"box/internal/sys"
	"box/pkg/launch"
	"box/pkg/terminal"
)

// console is the terminal of one process under way. A nil console is none.
type console struct {
	fd   int      // the program's end of the socket that takes the master
	ours *os.File // our end of it in the foreground; nil if the caller takes the master
	rows uint16
	cols uint16
}

// openConsole prepares a terminal if the process has one: with a console socket the
// caller gets the master, without one we keep it, which needs us to stay.
func openConsole(p *specs.Process, socket string, stay bool, fds *descriptors) (*console, error) {
	switch {
	case !p.Terminal && socket != "":
		return nil, errdefs.New(errdefs.ErrInvalid, "cannot use console socket if box-runtime will not detach or allocate tty: the process has no terminal")
	case !p.Terminal:
		return nil, nil
	case socket == "" && !stay:
		return nil, errdefs.New(errdefs.ErrInvalid, "cannot allocate tty if box-runtime will detach without setting console socket")
	}
	c := &console{}
	if p.ConsoleSize != nil {
		c.rows, c.cols = uint16(p.ConsoleSize.Height), uint16(p.ConsoleSize.Width)
	}
	if socket != "" {
		f, err := terminal.Dial(socket)
		if err != nil {
			return nil, err
		}
		c.fd = fds.hand(f)
		return c, nil
	}
	if rows, cols, err := terminal.Size(os.Stdin); err == nil {
		c.rows, c.cols = rows, cols
	}
	ours, theirs, err := terminal.Pair()
	if err != nil {
		return nil, err
	}
	c.ours, c.fd = ours, fds.hand(theirs)
	return c, nil
}

// options is what the plan says of the terminal; nil for none.
func (c *console) options() *terminal.Options {
	if c == nil {
		return nil
	}
	return &terminal.Options{Socket: c.fd, Rows: c.rows, Cols: c.cols, KeepNewlines: c.kept()}
}

// await waits for a process in the foreground, with its terminal connected to ours
// if it has one that we keep.
func (c *console) await(pid int) (int, error) {
	admit.Spread() // we stay
	if !c.kept() {
		return await(pid)
	}
	master, err := terminal.Receive(c.ours)
	if err != nil {
		return 0, err
	}
	defer master.Close()
	if terminal.Is(os.Stdin) {
		restore, err := terminal.MakeInputRaw(os.Stdin)
		if err != nil {
			return 0, err
		}
		defer func() { _ = restore() }()
	}
	drained := connect(master)
	unfollow := follow(master)
	code, err := await(pid)
	unfollow() // before the master is closed
	// What was written before the end is still to be shown; who keeps the terminal
	// open after it is not waited for.
	_ = master.SetReadDeadline(time.Now().Add(drainTime))
	return code, errors.Join(err, <-drained)
}

// drainTime is how long a terminal may stay silent after its process has ended.
const drainTime = 100 * time.Millisecond

// connect copies between the terminal and our standard streams. The channel tells
// when its output has ended. The copy of the input ends with us.
func connect(master *os.File) <-chan error {
	go func() { _, _ = io.Copy(master, os.Stdin) }()
	drained := make(chan error, 1)
	go func() {
		_, err := io.Copy(os.Stdout, master)
		if terminal.Closed(err) || errors.Is(err, os.ErrDeadlineExceeded) {
			err = nil
		}
		drained <- err
	}()
	return drained
}

// close gives back what is ours.
func (c *console) close() {
	if c.kept() {
		c.ours.Close()
	}
}

// sendFile connects to a unix socket and sends a descriptor over it, with a name as
// the message: the protocol of --pidfd-socket.
func sendFile(socket, name string, f *os.File) error {
	conn, err := sys.DialUnix(socket)
	if err != nil {
		return err
	}
	defer conn.Close()
	return sys.SendFiles(int(conn.Fd()), []byte(name), f)
}

// signalled is added to a signal's number to make an exit code, as shells do.
const signalled = 128

// await waits for the end of a child and returns its exit code. As a subreaper we
// may be handed orphans of a container that shares the host's pid namespace; they
// are collected on the way.
func await(pid int) (int, error) {
	for {
		var ws unix.WaitStatus
		got, err := unix.Wait4(-1, &ws, 0, nil)
		switch {
		case err == unix.EINTR:
			continue
		case err != nil:
			return 0, os.NewSyscallError("wait4", err)
		case got == pid && ws.Signaled():
			return signalled + int(ws.Signal()), nil
		case got == pid && ws.Exited():
			return ws.ExitStatus(), nil
		}
	}
}

// relay begins to pass the signals we get on to a process in the foreground; when it
// returns, none is lost. The place for it is before the launch program is let go on:
// the Go runtime swallows a SIGUSR1 that nobody has asked for. A terminal that we
// keep takes SIGWINCH for itself.
func (c *console) relay(pidfd *os.File) error {
	if c.kept() {
		return launch.Relay(pidfd, unix.SIGWINCH)
	}
	return launch.Relay(pidfd)
}

// kept reports whether the process's terminal stays with us.
func (c *console) kept() bool { return c != nil && c.ours != nil }

// follow gives the size of our terminal to the container's whenever it changes, until
// the returned function is called.
func follow(master *os.File) (stop func()) {
	resized := make(chan os.Signal, 1)
	signal.Notify(resized, unix.SIGWINCH)
	select { // it may have changed since the terminal was made
	case resized <- unix.SIGWINCH:
	default: // and has told so
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for range resized {
			if rows, cols, err := terminal.Size(os.Stdin); err == nil {
				_ = terminal.SetSize(master, rows, cols)
			}
		}
	}()
	return func() {
		signal.Stop(resized)
		close(resized)
		<-done
	}
}
