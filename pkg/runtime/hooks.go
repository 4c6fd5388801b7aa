package runtime

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"box/internal/admit"
	"box/internal/errdefs"
	"box/internal/sys"
	"box/pkg/launch"
	"box/pkg/namespaces"
	"box/pkg/plan"
)

// Names of the hooks, as the OCI runtime spec and runc's messages have them.
const (
	hookPrestart        = "prestart"
	hookCreateRuntime   = "createRuntime"
	hookCreateContainer = "createContainer"
	hookStartContainer  = "startContainer"
	hookPoststart       = "poststart"
	hookPoststop        = "poststop"
)

// hookOutputLimit is how much of a failing hook's output the error repeats.
const hookOutputLimit = 4096

// runner executes one hook's command, with the state on stdin.
type runner func(ctx context.Context, h *specs.Hook, stdin []byte) (output []byte, err error)

// runHooks runs a list of hooks in order. The first failure ends it; the words
// are runc's, for engines look for them.
func runHooks(ctx context.Context, name string, hooks []specs.Hook, st *State, run runner) error {
	if len(hooks) == 0 {
		return nil
	}
	admit.Leave() // a hook may take its time, and may call us
	stdin, err := st.JSON()
	if err != nil {
		return err
	}
	for i := range hooks {
		if err := runHook(ctx, &hooks[i], stdin, run); err != nil {
			return fmt.Errorf("error running %s hook #%d: %w", name, i, err)
		}
	}
	return nil
}

func runHook(ctx context.Context, h *specs.Hook, stdin []byte, run runner) error {
	if h.Timeout != nil {
		limit := time.Duration(*h.Timeout) * time.Second
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, limit, fmt.Errorf("timed out after %v", limit))
		defer cancel()
	}
	output, err := run(ctx, h, stdin)
	if cause := context.Cause(ctx); err != nil && cause != nil {
		err = cause
	}
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w, output: %s", h.Path, err, strings.TrimSpace(string(output)))
}

// hostRunner runs hooks in the runtime's namespaces. They get their own
// environment and nothing else: neither ours nor, ever, the image's
// (CVE-2025-23266 was an LD_PRELOAD that an image gave to a hook).
func hostRunner(bundle string) runner {
	return func(ctx context.Context, h *specs.Hook, stdin []byte) ([]byte, error) {
		p := &hookProgram{Hook: plan.Hook{Path: h.Path, Args: h.Args, Env: h.Env, Dir: bundle}}
		return p.run(ctx, stdin)
	}
}

// hookFiles are the standard streams of a hook. Files instead of pipes: a hook that
// leaves a daemon behind with its output open does not hold us up, and one that writes
// gigabytes has no reader to fill.
type hookFiles struct{ in, out *os.File }

func openHookFiles(stdin []byte) (hookFiles, error) {
	in, err := memoryFile("hook-stdin", stdin)
	if err != nil {
		return hookFiles{}, err
	}
	out, err := memoryFile("hook-output", nil)
	if err != nil {
		in.Close()
		return hookFiles{}, err
	}
	return hookFiles{in, out}, nil
}

func (f hookFiles) close() {
	f.in.Close()
	f.out.Close()
}

// memoryFile makes a file in memory, positioned at its start.
func memoryFile(name string, data []byte) (*os.File, error) {
	fd, err := unix.MemfdCreate(name, unix.MFD_CLOEXEC)
	if err != nil {
		return nil, os.NewSyscallError("memfd_create", err)
	}
	f := os.NewFile(uintptr(fd), name)
	if _, err := f.WriteAt(data, 0); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// tail reads the last n bytes of a file.
func tail(f *os.File, n int64) []byte {
	st, err := f.Stat()
	if err != nil {
		return nil
	}
	from := max(0, st.Size()-n)
	data := make([]byte, st.Size()-from)
	got, _ := f.ReadAt(data, from)
	return data[:got]
}

// containerRunner runs createContainer hooks: programs of the host, found by their
// path before the container's root is pivoted, with our credentials.
func (c *creation) containerRunner() runner {
	return func(ctx context.Context, h *specs.Hook, stdin []byte) ([]byte, error) {
		p := c.inside(c.proc.Pidfd, h)
		p.Dir = c.Rootfs
		p.OOMScore = c.ownScore(c.spec.Process) // it counts as one of the container's
		p.tend = func(pid int) error { return setOOMScore(pid, c.withoutScore(c.spec.Process).OOMScoreAdj) }
		return p.run(ctx, stdin)
	}
}

// commandRunner runs startContainer hooks: programs of the container, and therefore
// with the credentials, the filter, the limits and the place in the kernel's queues that
// its command has. The image decides what they are.
func (c *container) commandRunner(r *Runtime) runner {
	return func(ctx context.Context, h *specs.Hook, stdin []byte) ([]byte, error) {
		config, err := c.config()
		if err != nil {
			return nil, err
		}
		f := gatherFacts()
		f.Streams, f.Nulls = nil, nil // our stdio is not the hook's
		lookForModules(&f, config.Process, "")
		p, err := plan.NewProcess(c.ID, config.Process, &f, c.Join&unix.CLONE_NEWUSER != 0)
		if err != nil {
			return nil, err
		}
		for _, note := range p.Notes {
			r.warn(note)
		}
		p.AddExtras(config.Linux)
		if p.Filter, err = c.filter(); err != nil {
			return nil, err
		}
		p.Flags = c.FilterFlags
		p.Visible = c.hides(p.Flags)
		if c.KeepKeyring {
			p.Keyring = ""
		}
		pidfd, err := c.pidfd()
		if err != nil {
			return nil, err
		}
		defer pidfd.Close()
		in := c.inside(pidfd, h)
		in.Process = p
		in.OOMScore = c.ownScore(config.Process)
		in.tend = func(pid int) error {
			return errors.Join(r.tend(pid, c.withoutScore(config.Process), pinned(config.Linux), nil), c.Resctrl.Add(pid))
		}
		if plan.Listens(p.Flags) {
			in.agent = newAgent(config.Linux.Seccomp, &c.State, specs.StateCreated)
		}
		if len(in.Env) == 0 {
			// A program of the container has the container's environment, as with runc.
			in.Env = environment(config.Process, c.rootLink())
		}
		return in.run(ctx, stdin)
	}
}

// hides reports whether a program that joins the container would hide its filter's listener
// from us: without privileges, we may take descriptors only from what is visible to us.
func (c *container) hides(flags uint) bool {
	return plan.Listens(flags) && c.Join&unix.CLONE_NEWUSER != 0 && os.Geteuid() != 0
}

// hookProgram is a hook as a launch program of its own. That is so for those outside of
// containers, too: os/exec returns when the program is executed and not before, so that
// the time for one on a file system that hangs would never be over.
type hookProgram struct {
	plan.Hook
	in    *container          // that it joins; nil is none
	pidfd *os.File            // of in's process
	tend  func(pid int) error // what the parent does to it in there
	agent *agent              // nil where no filter has a listener
}

// inside is a hook that joins the container, whose process is behind pidfd.
func (c *container) inside(pidfd *os.File, h *specs.Hook) *hookProgram {
	return &hookProgram{Hook: plan.Hook{Path: h.Path, Args: h.Args, Env: h.Env, Join: c.Join}, in: c, pidfd: pidfd}
}

// run starts the hook and waits for its end, no longer than ctx.
func (p *hookProgram) run(ctx context.Context, stdin []byte) (output []byte, err error) {
	files, err := openHookFiles(stdin)
	if err != nil {
		return nil, err
	}
	defer files.close()
	fds := &descriptors{files: []*os.File{files.in, files.out, files.out, nil}}
	defer fds.started()
	fds.Free, fds.Report = plan.FirstPreserved, plan.FirstPreserved
	if p.in != nil {
		p.Pidfd = fds.give(p.pidfd)
	}
	if p.Process != nil {
		if p.Root, err = p.in.openRoot(fds); err != nil {
			return nil, err
		}
	}
	var permit *os.File
	if p.tend != nil {
		if permit, err = fds.openPermit(); err != nil {
			return nil, err
		}
		defer permit.Close()
	}
	p.Layout = fds.Layout
	b, err := p.Assemble()
	if err != nil {
		return nil, err
	}
	proc, err := p.start(b, fds)
	fds.started()
	if err != nil {
		return nil, err
	}
	defer proc.Close()
	ended := killWith(ctx, proc)
	err = p.follow(proc, b, permit)
	ended()
	return tail(files.out, hookOutputLimit), err
}

// start starts the program: in the container's cgroup and, if it is to join one, in its
// pid namespace; or where we are.
func (p *hookProgram) start(b *plan.Assembly, fds *descriptors) (*launch.Process, error) {
	program, err := launch.NewProgram(b.Plan)
	if err != nil {
		return nil, err
	}
	defer program.Close()
	attr := launch.Attr{Files: fds.files, Dir: "/"}
	if p.in == nil {
		return program.Start(attr)
	}
	group, err := p.in.cgroup()
	if err != nil {
		return nil, err
	}
	var proc *launch.Process
	start := func() error {
		return group.Launch(&attr.Sys, p.in.Pid, starter(program, &attr, &proc))
	}
	if p.Join&unix.CLONE_NEWPID == 0 || plan.HookEnters(p.Join) {
		err = start()
	} else {
		err = namespaces.EnterPid(p.pidfd, start)
	}
	if err != nil {
		endStray(proc)
		return nil, err
	}
	return proc, nil
}

// endStray ends a program that was started, and then could not be brought into its
// cgroup; nil is none.
func endStray(proc *launch.Process) {
	if proc == nil {
		return
	}
	_ = proc.Kill()
	_, _ = proc.Wait()
	proc.Close()
}

// killWith kills the process when ctx ends, until the returned function is called.
func killWith(ctx context.Context, proc *launch.Process) (ended func()) {
	killed := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(killed)
		_ = sys.PidfdSendSignal(proc.Pidfd, unix.SIGKILL)
	})
	return func() {
		if !stop() {
			<-killed // it needs the pidfd
		}
	}
}

// follow waits for a hook's execve and then for its end.
func (p *hookProgram) follow(proc *launch.Process, b *plan.Assembly, permit *os.File) error {
	if p.tend != nil {
		if err := p.settle(proc, permit); err != nil {
			_ = proc.Kill()
			_, _ = proc.Wait()
			return b.Explain(err)
		}
	}
	_, err := proc.Report()
	if !errors.Is(err, io.EOF) {
		_, _ = proc.Wait()
		return b.Explain(err)
	}
	ws, err := proc.Wait()
	switch {
	case err != nil:
		return err
	case ws.Signaled():
		return errdefs.New(errdefs.ErrInvalid, "signal: %v", ws.Signal())
	case ws.ExitStatus() != 0:
		return errdefs.New(errdefs.ErrInvalid, "exit status %d", ws.ExitStatus())
	}
	return nil
}

// settle does to a hook in a container what only the parent can do, and lets it go on.
func (p *hookProgram) settle(proc *launch.Process, permit *os.File) error {
	mark, err := proc.Report()
	switch {
	case errors.Is(err, io.EOF):
		return nil // it was killed: its end will tell
	case err != nil:
		return err
	case mark != plan.MarkEntered:
		return fmt.Errorf("hook %s: reached %q before %q", p.Path, mark, plan.MarkEntered)
	}
	if err := p.tend(proc.Pid); err != nil {
		return err
	}
	if err := permitted(permit); err != nil || p.agent == nil {
		return err
	}
	return p.agent.introduce(proc, permit)
}
