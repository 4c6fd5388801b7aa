package runtime

import (
	"errors"
	"io"
	"os"
	"os/signal"
	"sync"
	"time"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

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
		return nil, errdefs.New(errdefs.ErrInvalid, "--console-socket: the process has no terminal")
	case !p.Terminal:
		return nil, nil
	case socket == "" && !stay:
		return nil, errdefs.New(errdefs.ErrInvalid, "cannot allocate tty: box-runtime will detach, and no --console-socket is set")
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

// add adds the terminal's steps. root is the root directory, or launch.Cwd where
// that is the working directory.
func (c *console) add(b *assembly, root launch.Arg, init bool, uid uint32) {
	if c == nil {
		return
	}
	terminal.Add(b.plan, terminal.Options{
		Root: root, Socket: c.fd, Console: init, UID: uid, Rows: c.rows, Cols: c.cols,
	})
}

// await waits for a process in the foreground, with its terminal connected to ours
// if it has one that we keep.
func (c *console) await(pid int, signals *forwarder) (int, error) {
	if c == nil || c.ours == nil {
		return await(pid)
	}
	master, err := terminal.Receive(c.ours)
	if err != nil {
		return 0, err
	}
	defer master.Close()
	if terminal.Is(os.Stdin) {
		restore, err := terminal.MakeRaw(os.Stdin)
		if err != nil {
			return 0, err
		}
		defer func() { _ = restore() }()
	}
	drained := connect(master)
	signals.onResize(func() { followSize(master) })
	code, err := await(pid)
	signals.stop() // before the master is closed
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

// followSize gives the size of our terminal to the container's.
func followSize(master *os.File) {
	if rows, cols, err := terminal.Size(os.Stdin); err == nil {
		_ = terminal.SetSize(master, rows, cols)
	}
}

// close gives back what is ours.
func (c *console) close() {
	if c != nil && c.ours != nil {
		c.ours.Close()
	}
}

// sendFile connects to a unix socket and sends a descriptor over it, with a name as
// the message: the protocol of --pidfd-socket.
func sendFile(socket, name string, f *os.File) error {
	conn, err := terminal.Dial(socket)
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

// forwarder passes the signals we get on to a process in the foreground. A nil
// forwarder does nothing.
type forwarder struct {
	mu     sync.Mutex
	pidfd  *os.File // nil when the process has ended
	resize func()   // for SIGWINCH, when we keep the process's terminal
}

// forward begins to pass signals on; when it returns, none is lost. The pidfd makes
// sure that none goes to a stranger who was given the pid after our process ended.
//
// Asking for all signals takes the Go runtime half a millisecond. The place for it is
// before the launch program is let go on, which is busy with its mounts meanwhile;
// afterwards would be too late: the Go runtime swallows a SIGUSR1 that nobody has
// asked for.
func forward(pidfd *os.File) *forwarder {
	f := &forwarder{pidfd: pidfd}
	ch := make(chan os.Signal, 64)
	signal.Notify(ch)
	go func() {
		for s := range ch {
			if sig, ok := s.(unix.Signal); ok {
				f.pass(sig)
			}
		}
	}()
	return f
}

func (f *forwarder) pass(sig unix.Signal) {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case f.pidfd == nil, sig == unix.SIGCHLD, sig == unix.SIGURG, sig == unix.SIGPIPE:
		// SIGURG is the Go scheduler's own; a broken pipe is ours, not the container's.
	case sig == unix.SIGWINCH && f.resize != nil:
		f.resize()
	default:
		_ = unix.PidfdSendSignal(int(f.pidfd.Fd()), sig, nil, 0)
	}
}

// onResize sets what SIGWINCH does.
func (f *forwarder) onResize(resize func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.resize = resize
}

// stop ends the passing on. The handlers stay: the process is about to exit, and to
// take out sixty of them would cost a tenth of a container's life.
func (f *forwarder) stop() {
	if f == nil {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.pidfd = nil
}
