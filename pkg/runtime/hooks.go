package runtime

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
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
		cmd := exec.CommandContext(ctx, h.Path)
		if len(h.Args) > 0 {
			cmd.Args = h.Args
		}
		cmd.Env = append([]string{}, h.Env...) // not nil: nil would inherit ours
		cmd.Dir = bundle
		files, err := openHookFiles(stdin)
		if err != nil {
			return nil, err
		}
		defer files.close()
		cmd.Stdin, cmd.Stdout, cmd.Stderr = files.in, files.out, files.out
		err = cmd.Run()
		return tail(files.out, hookOutputLimit), err
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

// The hooks from here on run in a container's namespaces: each is a launch program of its
// own that joins by pidfd.

// containerRunner runs createContainer hooks: programs of the host, found by their
// path before the container's root is pivoted, with our credentials.
func (c *creation) containerRunner() runner {
	return func(ctx context.Context, h *specs.Hook, stdin []byte) ([]byte, error) {
		return c.runInside(ctx, c.proc.Pidfd, h, stdin, nil, nil)
	}
}

// commandRunner runs startContainer hooks: programs of the container, and therefore
// with the credentials, the filter and the bounding set of its command. The image
// decides what they are.
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
		var a *agent
		if plan.Listens(p.Flags) {
			a = newAgent(config.Linux.Seccomp, &c.State, specs.StateCreated)
		}
		own := *h
		if len(own.Env) == 0 {
			// A program of the container has the container's environment, as with runc.
			own.Env = environment(config.Process, c.rootLink())
		}
		return c.runInside(ctx, pidfd, &own, stdin, p, a)
	}
}

// hides reports whether a program that joins the container would hide its filter's listener
// from us: without privileges, we may take descriptors only from what is visible to us.
func (c *container) hides(flags uint) bool {
	return plan.Listens(flags) && c.Join&unix.CLONE_NEWUSER != 0 && os.Geteuid() != 0
}

// runInside starts a hook that joins the process behind pidfd, and waits for it. p is nil
// for programs of the host, a where no filter has a listener.
func (c *container) runInside(ctx context.Context, pidfd *os.File, h *specs.Hook, stdin []byte, p *plan.Process, a *agent) ([]byte, error) {
	files, err := openHookFiles(stdin)
	if err != nil {
		return nil, err
	}
	defer files.close()
	fds := &descriptors{files: []*os.File{files.in, files.out, files.out, nil}}
	defer fds.started()
	fds.Free, fds.Report = plan.FirstPreserved, plan.FirstPreserved
	target := fds.give(pidfd)
	var permit *os.File
	if a != nil {
		if permit, err = fds.openPermit(); err != nil {
			return nil, err
		}
		defer permit.Close()
	}
	b, err := (&plan.Hook{
		Path: h.Path, Args: h.Args, Env: h.Env, Process: p, Rootfs: c.Rootfs, Join: c.Join, Pidfd: target, Layout: fds.Layout,
	}).Assemble()
	if err != nil {
		return nil, err
	}
	proc, err := c.startInside(b, fds, pidfd)
	fds.started()
	if err != nil {
		return nil, err
	}
	defer proc.Close()
	if permit != nil {
		if err := a.introduce(proc, permit); err != nil {
			_ = proc.Kill()
			_, _ = proc.Wait()
			return nil, b.Explain(err)
		}
	}
	err = waitHook(ctx, proc, b)
	return tail(files.out, hookOutputLimit), err
}

// startInside starts the program in the container's cgroup and, if it is to join one, in
// its pid namespace.
func (c *container) startInside(b *plan.Assembly, fds *descriptors, pidfd *os.File) (*launch.Process, error) {
	program, err := launch.NewProgram(b.Plan)
	if err != nil {
		return nil, err
	}
	defer program.Close()
	group, err := c.cgroup()
	if err != nil {
		return nil, err
	}
	var proc *launch.Process
	attr := launch.Attr{Files: fds.files, Dir: "/"}
	start := func() error {
		return group.Launch(&attr.Sys, c.Pid, starter(program, &attr, &proc))
	}
	if c.Join&unix.CLONE_NEWPID == 0 || plan.HookEnters(c.Join) {
		return proc, start()
	}
	err = namespaces.EnterPid(pidfd, start)
	return proc, err
}

// waitHook waits for a hook's execve and then for its end, no longer than ctx.
func waitHook(ctx context.Context, proc *launch.Process, b *plan.Assembly) error {
	_, err := proc.Report()
	if !errors.Is(err, io.EOF) {
		_, _ = proc.Wait()
		return b.Explain(err)
	}
	exited, err := sys.PollPidfd(proc.Pidfd, remaining(ctx))
	if err != nil {
		return err
	}
	if !exited {
		_ = proc.Kill()
	}
	ws, err := proc.Wait()
	switch {
	case err != nil:
		return err
	case !exited:
		return context.DeadlineExceeded
	case ws.Signaled():
		return errdefs.New(errdefs.ErrInvalid, "signal: %v", ws.Signal())
	case ws.ExitStatus() != 0:
		return errdefs.New(errdefs.ErrInvalid, "exit status %d", ws.ExitStatus())
	}
	return nil
}

// remaining is the time until the context's deadline in milliseconds; -1 is forever.
func remaining(ctx context.Context) int {
	deadline, ok := ctx.Deadline()
	if !ok {
		return -1
	}
	return int(max(0, time.Until(deadline).Milliseconds()))
}
