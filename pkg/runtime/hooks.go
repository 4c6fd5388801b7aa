package runtime

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"time"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"box/internal/errdefs"
	"box/internal/sys"
	"box/pkg/launch"
	"box/pkg/namespaces"
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
	stdin, err := json.Marshal(st)
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
		in, err := memoryFile("hook-stdin", stdin)
		if err != nil {
			return nil, err
		}
		defer in.Close()
		out, err := memoryFile("hook-output", nil)
		if err != nil {
			return nil, err
		}
		defer out.Close()
		cmd.Stdin, cmd.Stdout, cmd.Stderr = in, out, out
		err = cmd.Run()
		return tail(out, hookOutputLimit), err
	}
}

// memoryFile makes a file in memory, positioned at its start. Files instead of
// pipes: a hook that leaves a daemon behind with its output open does not hold us
// up, and one that writes gigabytes has no reader to fill.
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

// This file runs hooks in a container's namespaces: each is a launch program of its
// own that joins by pidfd.

// containerRunner runs createContainer hooks: programs of the host, found by their
// path before the container's root is pivoted, with our credentials.
func (c *creation) containerRunner() runner {
	return func(ctx context.Context, h *specs.Hook, stdin []byte) ([]byte, error) {
		return c.runInside(ctx, c.proc.Pidfd, h, stdin, nil)
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
		f.streams, f.nulls = nil, nil // our stdio is not the hook's
		f.lookFor(config.Process, "")
		p, err := newProcess(r, config.Process, &f, c.ID, c.Join&unix.CLONE_NEWUSER != 0)
		if err != nil {
			return nil, err
		}
		if p.filter, err = c.filter(); err != nil {
			return nil, err
		}
		p.flags = c.FilterFlags
		if c.KeepKeyring {
			p.keyring = ""
		}
		pidfd, err := c.pidfd()
		if err != nil {
			return nil, err
		}
		defer pidfd.Close()
		if listens(p.flags) {
			p.agent = newAgent(config.Linux.Seccomp, &c.State, specs.StateCreated)
		}
		own := *h
		if len(own.Env) == 0 {
			// A program of the container has the container's environment, as with runc.
			own.Env = withHome(config.Process, "/proc/"+strconv.Itoa(c.Pid)+"/root")
		}
		return c.runInside(ctx, pidfd, &own, stdin, p)
	}
}

// runInside starts a hook that joins the process behind pidfd, and waits for it.
func (c *container) runInside(ctx context.Context, pidfd *os.File, h *specs.Hook, stdin []byte, p *process) ([]byte, error) {
	in, err := memoryFile("hook-stdin", stdin)
	if err != nil {
		return nil, err
	}
	defer in.Close()
	out, err := memoryFile("hook-output", nil)
	if err != nil {
		return nil, err
	}
	defer out.Close()
	fds := &descriptors{files: []*os.File{in, out, out, nil}, free: firstPreserved, report: firstPreserved}
	target := fds.give(pidfd)
	var permit *os.File
	if p != nil && p.agent != nil {
		if permit, err = fds.openPermit(); err != nil {
			return nil, err
		}
		defer permit.Close()
		p.permit = fds.permit
	}
	b, err := hookPlan(h, fds, target, &c.record, p)
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
		if err := p.agent.introduce(proc, permit); err != nil {
			_ = proc.Kill()
			_, _ = proc.Wait()
			return nil, b.explain(err)
		}
	}
	err = waitHook(ctx, proc, b)
	return tail(out, hookOutputLimit), err
}

// hookPlan is the plan of a hook in the container: join, become, execute.
func hookPlan(h *specs.Hook, fds *descriptors, pidfd int, c *record, p *process) (*assembly, error) {
	b := newAssembly(fds.report)
	if p != nil {
		b.confine(p)
	}
	b.begin()
	namespaces.AddEnter(b.plan, launch.Int(pidfd), c.Join&^unix.CLONE_NEWPID) // born in that one (startInside)
	args := h.Args
	if len(args) == 0 {
		args = []string{h.Path}
	}
	if p != nil {
		named := *p.spec
		named.Args, named.Cwd = []string{h.Path}, "/"
		p.spec, p.firstFree, p.firstIdle = &named, fds.free, fds.idle()
		if err := b.becomeUser(p); err != nil {
			return nil, err
		}
	} else {
		b.command = b.plan.Slot("hook")
		b.add(launch.Step{
			Name: "choose " + h.Path, Call: launch.Set, Args: []launch.Arg{launch.Text(h.Path)}, Into: b.command,
			Why: "the path counts in the runtime's file system, which is still the root here",
		}, launch.Step{
			Name: "enter " + c.Rootfs, Call: launch.Chdir, Args: []launch.Arg{launch.Text(c.Rootfs)},
			Why: "hooks of this kind change the container's root before it is one, and find it here under runc and crun",
		}, launch.Step{
			Name: "close descriptors", Call: launch.CloseRange,
			Args: []launch.Arg{launch.Int(fds.free), launch.Int(1<<32 - 1), launch.Int(unix.CLOSE_RANGE_CLOEXEC)},
			Why:  "the hook has no use for ours",
		})
	}
	b.execute(args, h.Env)
	return b, nil
}

func (c *container) startInside(b *assembly, fds *descriptors, pidfd *os.File) (*launch.Process, error) {
	program, err := launch.NewProgram(b.plan)
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
	if c.Join&unix.CLONE_NEWPID == 0 {
		return proc, start()
	}
	err = namespaces.EnterPid(pidfd, start)
	return proc, err
}

// waitHook waits for a hook's execve and then for its end, no longer than ctx.
func waitHook(ctx context.Context, proc *launch.Process, b *assembly) error {
	_, err := proc.Report()
	if !errors.Is(err, io.EOF) {
		_, _ = proc.Wait()
		return b.explain(err)
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
