package ocirt

import (
	"context"
	"errors"
	"os"
	"strconv"
	"syscall"
)

// IO is the container's stdio, inherited as it is; nil stands for /dev/null.
// With a console socket the files serve the runtime's own messages only.
type IO struct {
	Stdin, Stdout, Stderr *os.File
}

// CreateOptions are the options of create, and of run.
type CreateOptions struct {
	IO
	ConsoleSocket string     // unix socket that receives the pty master; needs process.terminal
	PidFile       string     // gets the pid of the container's first process
	NoNewKeyring  bool       // do not give the container a session keyring of its own
	Inherit       []*os.File // open in the runtime process, not in the container's command; see record.Lock.RuntimeFile
}

// Create sets the container up and leaves it waiting for Start. The calling
// process should be a subreaper: the container becomes its child.
func (r Runtime) Create(ctx context.Context, id, bundle string, o CreateOptions) error {
	c := r.create(ctx, "create", nil, id, bundle, o)
	return c.run()
}

func (r Runtime) create(ctx context.Context, verb string, flags []string, id, bundle string, o CreateOptions) *call {
	args := append([]string{verb, "--bundle", bundle}, flags...)
	if o.ConsoleSocket != "" {
		args = append(args, "--console-socket", o.ConsoleSocket)
	}
	if o.PidFile != "" {
		args = append(args, "--pid-file", o.PidFile)
	}
	if o.NoNewKeyring {
		args = append(args, "--no-new-keyring")
	}
	c := r.command(ctx, append(args, id)...)
	c.stdio(o.IO)
	c.dieWithParent()
	c.cmd.Dir = bundle
	c.cmd.ExtraFiles = append(c.cmd.ExtraFiles, o.Inherit...)
	return c
}

// RunDetached is Create and Start in one process: it returns when the command
// has been started. Failed or cancelled, the caller ends with Delete(force).
func (r Runtime) RunDetached(ctx context.Context, id, bundle string, o CreateOptions) error {
	return r.create(ctx, "run", []string{"--detach"}, id, bundle, o).run()
}

// RunOptions are the options of Run.
type RunOptions struct {
	CreateOptions
	Started func(pid int) // called once the runtime process runs; its pid, not the container's
}

// Run runs the container in the foreground and returns the exit code of its
// command, 128+n if signal n killed it. The error is nil whatever the code is,
// unless the runtime itself failed.
//
// When ctx ends the container is killed through the runtime; Run returns
// context.Cause(ctx). The runtime process also dies with the calling thread.
// After an error the caller ends with Delete(force).
func (r Runtime) Run(ctx context.Context, id, bundle string, o RunOptions) (int, error) {
	c := r.create(ctx, "run", nil, id, bundle, o.CreateOptions)
	c.cmd.Cancel = func() error {
		// The context is over, but the kill must still happen. SIGKILL to the
		// runtime alone could leave the container running.
		err := r.Kill(context.WithoutCancel(ctx), id, syscall.SIGKILL, false)
		if err != nil {
			return c.cmd.Process.Kill()
		}
		return nil
	}
	if err := c.start(); err != nil {
		return -1, err
	}
	if o.Started != nil {
		o.Started(c.cmd.Process.Pid)
	}
	return c.outcome(ctx)
}

// outcome tells the command's exit code from the runtime's own failure: only
// the latter leaves an error line in the log.
func (c *call) outcome(ctx context.Context) (int, error) {
	status, err := c.wait()
	if cause := context.Cause(ctx); cause != nil {
		return status, cause
	}
	var e *Error
	if errors.As(err, &e) && e.Message == "" && e.Status >= 0 {
		return status, nil
	}
	return status, err
}

// ExecOptions are the options of Exec.
type ExecOptions struct {
	IO
	ProcessFile   string // JSON of a runtime-spec process; may be /proc/self/fd/N with N from 4 counting Inherit
	Tty           bool   // in the foreground, on the caller's terminal
	Detach        bool
	ConsoleSocket string
	PidFile       string
	Inherit       []*os.File
}

// Exec runs a further process in a running container. In the foreground it
// returns the process's exit code; detached, 0 as soon as it runs.
func (r Runtime) Exec(ctx context.Context, id string, o ExecOptions) (int, error) {
	c := r.command(ctx, append(o.args(), id)...)
	c.stdio(o.IO)
	c.cmd.ExtraFiles = append(c.cmd.ExtraFiles, o.Inherit...)
	if err := c.start(); err != nil {
		return -1, err
	}
	return c.outcome(ctx)
}

func (o ExecOptions) args() []string {
	args := []string{"exec", "--process", o.ProcessFile}
	if o.Tty {
		args = append(args, "--tty")
	}
	if o.Detach {
		args = append(args, "--detach")
	}
	if o.ConsoleSocket != "" {
		args = append(args, "--console-socket", o.ConsoleSocket)
	}
	if o.PidFile != "" {
		args = append(args, "--pid-file", o.PidFile)
	}
	return args
}

// InheritedPath is the path by which the runtime process opens the i-th file
// of Inherit: fd 3 is the log.
func InheritedPath(i int) string {
	return "/proc/self/fd/" + strconv.Itoa(4+i)
}
