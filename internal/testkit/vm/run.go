package vm

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"

	"golang.org/x/sys/unix"
)

// Exit statuses of [Run] that are not the command's own. A command that was not
// found gives 127, one that could not be executed 126, one that signal n ended 128+n.
const (
	// TimedOut is the status when [Config.Timeout] ended the machine.
	TimedOut = 124
	// Failed is the status when the machine failed, not the command.
	Failed = 125
)

// errTimeout is the cause when the time is over.
var errTimeout = errors.New("time is over")

// Run runs argv in a new machine and returns its exit status. The error says why
// a machine failed or was ended; the console's last lines are in it. A command that fails is
// no error.
func Run(ctx context.Context, c Config, argv []string) (status int, err error) {
	c = c.fill()
	if err := c.check(argv); err != nil {
		return Failed, fmt.Errorf("run VM: %w", err)
	}
	m, err := newMachine(ctx, c, argv)
	if err != nil {
		return Failed, fmt.Errorf("run VM: %w", err)
	}
	defer func() { err = errors.Join(err, m.remove()) }()
	// The parent-death signal of a child is bound to the thread that started it.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	ctx, cancel := context.WithTimeoutCause(ctx, c.Timeout, errTimeout)
	defer cancel()
	status, err = m.run(ctx)
	m.showConsole()
	switch {
	case err == nil:
		return status, nil
	case context.Cause(ctx) == errTimeout:
		return TimedOut, fmt.Errorf("run VM: %w after %v%s", errTimeout, c.Timeout, m.console())
	default:
		return Failed, fmt.Errorf("run VM: %w%s", err, m.console())
	}
}

// machine is one run: its directory and its two processes.
type machine struct {
	config  Config
	dir     string
	port    *os.File   // the host's end
	far     []*os.File // the processes' ends
	server  *exec.Cmd
	machine *exec.Cmd
}

// newMachine prepares everything that needs no process.
func newMachine(ctx context.Context, c Config, argv []string) (_ *machine, err error) {
	m := &machine{config: c}
	defer func() {
		if err != nil {
			err = errors.Join(err, m.remove())
		}
	}()
	k, err := findKernel(ctx)
	if err != nil {
		return nil, err
	}
	if m.dir, err = os.MkdirTemp("", "box-vm-"); err != nil {
		return nil, err
	}
	if err := m.writeFiles(k, argv); err != nil {
		return nil, err
	}
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, os.NewSyscallError("socketpair", err)
	}
	// The host's end goes to Go's poller, so that closing it ends a read.
	if err := unix.SetNonblock(pair[0], true); err != nil {
		return nil, err
	}
	far := os.NewFile(uintptr(pair[1]), "port")
	m.port, m.far = os.NewFile(uintptr(pair[0]), "port"), append(m.far, far)
	m.machine = emulator(c, k.image, m.dir, far)
	listener, err := listen(filepath.Join(m.dir, "files"))
	if err != nil {
		return nil, err
	}
	m.far = append(m.far, listener)
	m.server = share(m.program(), listener, filepath.Join(m.dir, "root"), c.Writable)
	return m, nil
}

// program is the binary for the guest's init and for the server.
func (m *machine) program() string {
	if m.config.Program != "" {
		return m.config.Program
	}
	return "/proc/self/exe"
}

// writeFiles makes the disk, the initial file system and the directory for the
// view of the host.
func (m *machine) writeFiles(k *kernel, argv []string) error {
	if err := os.Mkdir(filepath.Join(m.dir, "root"), 0o755); err != nil {
		return err
	}
	modules, err := k.bootOrder()
	if err != nil {
		return err
	}
	c := m.config
	job := Job{Mode: c.Mode, Args: argv, Env: c.Env, Dir: c.Dir, Writable: c.Writable, ModulesDir: k.modules}
	files, err := initrd(m.program(), job, modules)
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(m.dir, "initrd"), files, 0o600); err != nil {
		return err
	}
	return makeDisk(filepath.Join(m.dir, "disk"))
}

// run starts both processes and talks with the guest until it says a status.
func (m *machine) run(ctx context.Context) (int, error) {
	defer m.stop()
	noise, err := os.OpenFile(filepath.Join(m.dir, "noise"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return 0, err
	}
	defer noise.Close()
	for _, cmd := range []*exec.Cmd{m.server, m.machine} {
		cmd.Stdout, cmd.Stderr = noise, noise
		if err := cmd.Start(); err != nil {
			return 0, fmt.Errorf("start %s: %w", cmd.Path, err)
		}
	}
	m.closeFar() // so that the port ends with QEMU
	defer context.AfterFunc(ctx, func() { m.port.Close() })()
	go m.feed()
	return m.listen()
}

// feed sends the input. Its errors need no word: the guest is gone, and whoever
// listens hears of that.
func (m *machine) feed() {
	frames := NewFrameWriter(m.port)
	if m.config.Stdin != nil {
		if err := frames.Copy(Stdin, m.config.Stdin); err != nil {
			return
		}
	}
	_ = frames.Write(Stdin, nil)
}

// listen passes the output on until the guest says how it ended.
func (m *machine) listen() (int, error) {
	for {
		f, err := ReadFrame(m.port)
		if err != nil {
			return 0, fmt.Errorf("listen to the guest: %w", err)
		}
		switch f.Kind {
		case Stdout:
			_, err = m.config.Stdout.Write(f.Data)
		case Stderr:
			_, err = m.config.Stderr.Write(f.Data)
		case Status:
			return strconv.Atoi(string(f.Data))
		case Trouble:
			return 0, errors.New(string(f.Data))
		default:
			err = fmt.Errorf("frame %q: unknown", f.Kind)
		}
		if err != nil {
			return 0, err
		}
	}
}

// stop ends both processes. The guest has synced before it said its status, and
// its disk is thrown away, so there is nothing to shut down.
func (m *machine) stop() {
	for _, cmd := range []*exec.Cmd{m.machine, m.server} {
		if cmd.Process != nil {
			_ = cmd.Process.Kill()
			_ = cmd.Wait()
		}
	}
}

// remove closes and removes what the machine was made of.
func (m *machine) remove() error {
	m.closeFar()
	if m.port != nil {
		m.port.Close()
	}
	if m.dir == "" {
		return nil
	}
	return os.RemoveAll(m.dir)
}

// closeFar closes the ends that belong to the two processes.
func (m *machine) closeFar() {
	for _, f := range m.far {
		f.Close()
	}
	m.far = nil
}

// showConsole writes the whole console to whom it may concern.
func (m *machine) showConsole() {
	if m.config.Console != nil {
		text, _ := os.ReadFile(filepath.Join(m.dir, "console"))
		_, _ = m.config.Console.Write(text)
	}
}

// consoleTail is how much of the console an error shows, in bytes.
const consoleTail = 3000

// console is the end of the console and what the processes said, for an error.
func (m *machine) console() string {
	text, _ := os.ReadFile(filepath.Join(m.dir, "console"))
	noise, _ := os.ReadFile(filepath.Join(m.dir, "noise"))
	text = bytes.TrimSpace(append(text, noise...))
	if len(text) > consoleTail {
		text = text[len(text)-consoleTail:]
	}
	if len(text) == 0 {
		return ""
	}
	return "\n" + string(text)
}
