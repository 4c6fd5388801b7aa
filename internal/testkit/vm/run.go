package vm

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"time"
)

// Exit statuses of [Run] that are not the command's own. A command that was not
// found gives 127, one that could not be executed 126, one that signal n ended 128+n.
const (
	// TimedOut is the status when [Config.Timeout] ended the machine.
	TimedOut = 124
	// Failed is the status when the machine failed, not the command.
	Failed = 125
)

// ErrTimeout is the cause when the time is over. A context that was cancelled with it
// ends a machine in the same way as [Config.Timeout] does.
var ErrTimeout = errors.New("time is over")

// Run runs argv in a new machine and returns its exit status. The error says why
// a machine failed or was ended; the console's last lines are in it, and after
// [Config.Timeout] what the guest was at. A command that fails is no error.
func Run(ctx context.Context, c Config, argv []string) (status int, err error) {
	c = c.fill()
	if err := c.check(argv); err != nil {
		return Failed, fmt.Errorf("run VM: %w", err)
	}
	m, err := newMachine(ctx, c, argv)
	if err != nil {
		return Failed, fmt.Errorf("run VM: %w", err)
	}
	defer m.close()
	// The parent-death signal of a child is bound to the thread that started it.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	status, err = m.run(ctx)
	m.showConsole()
	switch {
	case err == nil:
		return status, nil
	case errors.Is(err, ErrTimeout):
		return TimedOut, fmt.Errorf("run VM: %w", err)
	default:
		return Failed, fmt.Errorf("run VM: %w%s", err, m.lastWords())
	}
}

// machine is one run: its two processes and the near ends of their channels.
type machine struct {
	config  Config
	port    *os.File // frames from and to the guest
	serial  *os.File // the kernel's console
	monitor *os.File // QEMU's control
	console record   // what came from serial
	noise   record   // what the processes said
	far     []*os.File
	server  *exec.Cmd
	machine *exec.Cmd
}

// newMachine prepares everything that needs no process. Nothing of it has a name in the
// file system, so nothing is left, however this process ends.
func newMachine(ctx context.Context, c Config, argv []string) (_ *machine, err error) {
	m := &machine{config: c}
	m.console.news = make(chan struct{}, 1)
	defer func() {
		if err != nil {
			m.close()
		}
	}()
	k, err := findKernel(ctx)
	if err != nil {
		return nil, err
	}
	parts, err := m.makeParts(k, argv)
	if err != nil {
		return nil, err
	}
	listener, client, err := listen()
	if err != nil {
		return nil, err
	}
	m.far = append(m.far, listener, client)
	parts.files = client
	m.machine = emulator(c, k.image, parts)
	m.server = share(m.program(), listener, c.Writable)
	return m, nil
}

// program is the binary for the guest's init and for the server.
func (m *machine) program() string {
	if m.config.Program != "" {
		return m.config.Program
	}
	return "/proc/self/exe"
}

// makeParts makes the channels, the disk and the initial file system.
func (m *machine) makeParts(k *kernel, argv []string) (p parts, err error) {
	for _, channel := range []struct{ near, far **os.File }{{&m.port, &p.port}, {&m.serial, &p.serial}, {&m.monitor, &p.monitor}} {
		if *channel.near, *channel.far, err = pair(); err != nil {
			return p, err
		}
		m.far = append(m.far, *channel.far)
	}
	modules, err := k.bootOrder()
	if err != nil {
		return p, err
	}
	c := m.config
	job := Job{Mode: c.Mode, Args: argv, Env: c.Env, Dir: c.Dir, Writable: c.Writable, ModulesDir: k.modules}
	image, err := initrd(m.program(), job, modules)
	if err != nil {
		return p, err
	}
	if p.initrd, err = memory("initrd", image); err != nil {
		return p, err
	}
	m.far = append(m.far, p.initrd)
	if p.disk, err = makeDisk(); err != nil {
		return p, err
	}
	m.far = append(m.far, p.disk)
	return p, nil
}

// run starts both processes and talks with the guest until it says a status.
func (m *machine) run(ctx context.Context) (int, error) {
	defer m.stop()
	for _, cmd := range []*exec.Cmd{m.server, m.machine} {
		cmd.Stdout, cmd.Stderr = &m.noise, &m.noise
		if err := cmd.Start(); err != nil {
			return 0, fmt.Errorf("start %s: %w", cmd.Path, err)
		}
	}
	m.closeFar() // so that the channels end with QEMU
	ctx, cancel := context.WithTimeoutCause(ctx, m.config.Timeout, ErrTimeout)
	defer cancel()
	defer context.AfterFunc(ctx, func() { _ = m.port.SetReadDeadline(time.Unix(1, 0)) })()
	go m.console.fill(m.serial)
	go m.feed()
	status, err := m.listen()
	if !errors.Is(err, os.ErrDeadlineExceeded) {
		return status, err
	}
	if err := context.Cause(ctx); err != ErrTimeout {
		return 0, err
	}
	return 0, fmt.Errorf("%w after %v%s", ErrTimeout, m.config.Timeout, m.interrogate())
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

// close closes what the machine was made of.
func (m *machine) close() {
	m.closeFar()
	for _, f := range []*os.File{m.port, m.serial, m.monitor} {
		if f != nil {
			f.Close()
		}
	}
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
		_, _ = m.config.Console.Write([]byte(m.console.since(0)))
	}
}

// consoleTail is how much of the console an error shows, in bytes.
const consoleTail = 3000

// lastWords is the end of the console and what the processes said, for an error.
func (m *machine) lastWords() string {
	text := strings.TrimSpace(m.console.since(0) + m.noise.since(0))
	if len(text) > consoleTail {
		text = text[len(text)-consoleTail:]
	}
	if text == "" {
		return ""
	}
	return "\n" + text
}
