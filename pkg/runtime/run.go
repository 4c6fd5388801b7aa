package runtime

import (
	"context"
	"errors"
	"io"
	"os"
	"slices"
	"strconv"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"box/internal/admit"
	"box/internal/bare"
	"box/internal/errdefs"
)

// RunOptions is what run is asked for beside the spec.
type RunOptions struct {
	CreateOptions
	Detach      bool // return as soon as the command is executed
	Keep        bool // leave the state when the command has exited
	NoSubreaper bool // do not adopt orphans
}

// Run creates and starts a container in one go: without start hooks there is nobody
// to wait for between the two, so the program runs through. In the foreground it
// forwards signals, returns the command's exit code (128 + n for signal n) and
// deletes the container.
//
// A foreground container does not outlive us, however we die: its init has the
// parent-death signal KILL, and takes its pid namespace with it. Two cases are left
// out: processes beside the init where the pid namespace is shared, and commands that
// are set-user-id or have file capabilities, for their execve clears the signal.
func (r *Runtime) Run(ctx context.Context, id string, o RunOptions) (int, error) {
	o.stay = !o.Detach
	c, err := r.begin(id, &o.CreateOptions, true)
	if err != nil {
		return 0, err
	}
	defer c.close()
	c.facts.Stay = o.stay
	c.wait = c.spec.Hooks != nil && len(c.spec.Hooks.StartContainer) > 0
	c.child = !o.Detach && !c.wait
	if !o.Detach && !o.NoSubreaper {
		if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
			return 0, c.abandon(ctx, err)
		}
	}
	if err := c.build(ctx); err != nil {
		return 0, c.abandon(ctx, err)
	}
	if err := c.goOn(ctx); err != nil {
		return 0, c.abandon(ctx, err)
	}
	if o.Detach {
		return 0, nil
	}
	return c.foreground(ctx, c.proc.Pidfd, o.Keep)
}

// goOn waits for the execve of a program that runs through, or starts one that waits.
func (c *creation) goOn(ctx context.Context) error {
	if c.wait {
		return c.rt.start(ctx, c.container)
	}
	if _, err := c.proc.Report(); !errors.Is(err, io.EOF) {
		return c.built.Explain(err)
	}
	hooks := c.spec.Hooks
	if hooks == nil {
		hooks = &specs.Hooks{}
	}
	st := c.State
	st.Status = Running
	return runHooks(ctx, hookPoststart, hooks.Poststart, &st, hostRunner(c.Bundle))
}

// foreground waits for the command and cleans up after it. The lock is given back
// meanwhile: kill, exec and state are for running containers.
func (c *creation) foreground(ctx context.Context, pidfd *os.File, keep bool) (int, error) {
	c.unlock()
	admit.Leave()
	c.holdMounts(pidfd)
	code, err := c.tty.await(c.Pid)
	if err == nil {
		c.Pid = 0 // reaped: the number may be a stranger's soon
	}
	if keep {
		return code, err
	}
	lock, lockErr := c.rt.lock(c.ID)
	if errors.Is(lockErr, errdefs.ErrNotFound) {
		return code, err // somebody has deleted it already
	}
	if lockErr != nil {
		return code, errors.Join(err, lockErr)
	}
	c.lock = lock
	return code, errors.Join(err, c.rt.remove(ctx, c.container, c.Hooks))
}

// holdMounts keeps the container's mount namespace beyond the end of the command. Whoever
// is last in a mount namespace waits until the kernel has taken all mounts down (an RCU
// grace period, 0.2 ms): not the init, for whose end we wait, but a thread of ours, beside
// the cleanup. It waits for the same end, for which it would be woken first, and on our
// processor: it gets another one. Nobody waits for that thread, but our caller does: a
// process ends with its last thread.
func (c *creation) holdMounts(pidfd *os.File) {
	if c.Chroot { // the namespace is not the container's own
		return
	}
	fd, err := unix.Open("/proc/"+strconv.Itoa(c.Pid)+"/ns/mnt", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil { // the command has ended already, or may not be looked at
		return
	}
	calls := []*bare.Call{bare.Ended(pidfd), {Number: unix.SYS_CLOSE, First: bare.Value(uintptr(fd))}}
	if others := admit.Others(); others != nil {
		calls = slices.Insert(calls, 0, bare.On(others))
	}
	if _, err := bare.Start(calls...); err != nil {
		_ = unix.Close(fd)
	}
}
