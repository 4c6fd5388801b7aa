package runtime

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"

	"golang.org/x/sys/unix"

	"box/internal/errdefs"
	"box/internal/sys"
	"box/pkg/cgroups"
)

// Kill sends a signal to a container's init process or, with all, to each of its
// processes. With all it also succeeds on a stopped container: where a pid namespace
// is shared, processes outlive the init, and engines clear them away so. For the same
// reason SIGKILL without all kills every process of a container that has no pid
// namespace of its own, with which the kernel would do that.
func (r *Runtime) Kill(ctx context.Context, id string, sig unix.Signal, all bool) error {
	c, err := r.load(id)
	if err != nil {
		return err
	}
	if all {
		return c.signalAll(sig)
	}
	if sig == unix.SIGKILL && c.SharedPid {
		return c.killAll()
	}
	pidfd, err := c.pidfd()
	if err != nil {
		return err
	}
	defer pidfd.Close()
	err = sys.PidfdSendSignal(pidfd, sig)
	if errors.Is(err, unix.ESRCH) {
		return c.notRunning()
	}
	if err != nil || sig != unix.SIGKILL || !c.frozen() {
		return err
	}
	return c.thaw(ctx)
}

// killAll kills every process in the container's cgroup. If that is gone, or out of
// our reach (rootless containers may have to do without), the init process is all
// that we know of.
func (c *container) killAll() error {
	group, err := c.cgroup()
	if err == nil && group.Exists() {
		return group.Kill()
	}
	if _, ok := c.process(); !ok {
		return c.notRunning()
	}
	return errors.Join(err, c.killInit())
}

// thaw lets the processes of a paused container go on, so that they die of the signal
// they have got: a frozen group of cgroup v1 holds even those back that SIGKILL is for.
func (c *container) thaw(ctx context.Context) error {
	group, err := c.cgroup()
	if err != nil {
		return err
	}
	if err := group.Thaw(ctx); err != nil && group.Exists() { // or somebody has removed it meanwhile
		return err
	}
	return nil
}

// notRunning are the words by which callers know that there is nothing to signal.
func (c *container) notRunning() error {
	return errdefs.New(errdefs.ErrNotFound, "container not running: %s", c.ID)
}

// pidfd opens the init process. It is checked after opening: before, the pid could
// have passed on to a stranger.
func (c *container) pidfd() (*os.File, error) {
	if c.Pid <= 0 {
		return nil, c.notRunning()
	}
	f, err := sys.PidfdOpen(c.Pid)
	if errors.Is(err, unix.ESRCH) || errors.Is(err, unix.EINVAL) {
		return nil, c.notRunning()
	}
	if err != nil {
		return nil, err
	}
	if _, ok := c.process(); !ok {
		f.Close()
		return nil, c.notRunning()
	}
	return f, nil
}

// signalAll signals every process in the container's cgroup. SIGKILL goes to all at
// once; for others the list is read once: who forks meanwhile may be missed.
func (c *container) signalAll(sig unix.Signal) error {
	group, err := c.cgroup()
	if err != nil {
		return err
	}
	if sig == unix.SIGKILL {
		return group.Kill()
	}
	pids, err := group.Procs()
	if err != nil {
		return err
	}
	for some := range slices.Chunk(pids, signalledAtOnce) {
		if err := signalMembers(group, some, sig); err != nil {
			return fmt.Errorf("signal the processes of container %s: %w", c.ID, err)
		}
	}
	return nil
}

// signalledAtOnce is how many descriptors are opened at a time to send signals.
const signalledAtOnce = 256

// signalMembers signals processes that were listed in a group. They are opened first, and
// then the group is asked again, for a number may have passed on to a stranger meanwhile.
func signalMembers(group *cgroups.Cgroup, pids []int, sig unix.Signal) error {
	opened := make(map[int]*os.File, len(pids))
	defer func() {
		for _, f := range opened {
			f.Close()
		}
	}()
	for _, pid := range pids {
		f, err := sys.PidfdOpen(pid)
		switch {
		case errors.Is(err, unix.ESRCH), errors.Is(err, unix.EINVAL): // it has ended, or is 0: in a pid namespace that we do not see
		case err != nil:
			return err
		default:
			opened[pid] = f
		}
	}
	now, err := group.Procs()
	if err != nil {
		return err
	}
	for pid, f := range opened {
		if !slices.Contains(now, pid) {
			continue
		}
		if err := sys.PidfdSendSignal(f, sig); err != nil && !errors.Is(err, unix.ESRCH) {
			return fmt.Errorf("process %d: %w", pid, err)
		}
	}
	return nil
}

// Pids lists the container's processes, those of exec included, by the pids that the
// caller sees.
func (r *Runtime) Pids(id string) ([]int, error) {
	c, err := r.load(id)
	if err != nil {
		return nil, err
	}
	group, err := c.cgroup()
	if err != nil {
		return nil, err
	}
	return group.Procs()
}

// Pause freezes every process of a running container.
func (r *Runtime) Pause(ctx context.Context, id string) error {
	return r.change(id, &verbPause, func(c *container) error {
		group, err := c.cgroup()
		if err != nil {
			return err
		}
		return group.Freeze(ctx)
	})
}

// Resume lets a paused container go on.
func (r *Runtime) Resume(ctx context.Context, id string) error {
	return r.change(id, &verbResume, func(c *container) error {
		group, err := c.cgroup()
		if err != nil {
			return err
		}
		return group.Thaw(ctx)
	})
}

// Delete removes what a stopped container has left: its cgroup and its state. A
// created container, which has nothing to lose yet, is killed first; with force any
// is, and an unknown id is no error, for engines delete twice.
func (r *Runtime) Delete(ctx context.Context, id string, force bool) error {
	if force {
		r.interrupt(id)
	}
	lock, err := r.lock(id)
	if force && errors.Is(err, errdefs.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	defer lock.Close()
	c, err := r.load(id)
	if errors.Is(err, errdefs.ErrNotFound) {
		// The directory is there, for we hold the lock on it: its create was killed before it
		// had anything else, or its delete when it had nothing else any more.
		return removeState(r.dir(id))
	}
	if err != nil {
		return err
	}
	if !force {
		if err := verbDelete.allows(id, c.status()); err != nil {
			return err
		}
	}
	return r.remove(ctx, c, c.Hooks)
}

// interrupt kills the processes of a container whose create may still be under way
// and hold the lock, in a hook that never ends for example: without its process,
// create fails and lets go.
func (r *Runtime) interrupt(id string) {
	c, err := r.load(id)
	if err != nil || !r.locked(id) {
		return
	}
	if group, err := c.cgroup(); err == nil {
		_ = group.Kill()
	}
}

// remove ends what is left of the container and forgets it. The caller holds the
// lock. The record goes last: until then, delete can be repeated.
func (r *Runtime) remove(ctx context.Context, c *container, poststop bool) error {
	if err := c.end(ctx); err != nil {
		return err
	}
	if poststop {
		r.poststop(ctx, c)
	}
	r.debugf("container %s: processes and cgroup are gone", c.ID)
	return removeState(c.dir)
}

// end kills every process of the container, waits for their end and removes the cgroup.
func (c *container) end(ctx context.Context) error {
	if err := c.killInit(); err != nil {
		return err
	}
	group, err := c.cgroup() // which may be none: then there is nobody in it
	if err != nil {
		return err
	}
	if err := group.Kill(); err != nil {
		return err
	}
	return errors.Join(group.Remove(ctx), c.Resctrl.Remove())
}

// killInit kills the init process and waits until it is dead (a zombie is).
func (c *container) killInit() error {
	pidfd, err := c.pidfd()
	if errors.Is(err, errdefs.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	defer pidfd.Close()
	if err := sys.PidfdSendSignal(pidfd, unix.SIGKILL); err != nil && !errors.Is(err, unix.ESRCH) {
		return err
	}
	if c.frozen() { // which holds it back in cgroup v1
		if err := c.thaw(context.Background()); err != nil {
			return err
		}
	}
	return c.awaitEnd(pidfd)
}

// How long the end of a killed process is waited for, in milliseconds: until it would
// take a look whether it cannot end, and until it is given up.
const (
	usualEnd = 1000
	lastEnd  = 10_000
)

// awaitEnd waits for the end of the killed init process. The first process of a pid
// namespace only ends when all others are reaped, and those that came by exec may be
// children of our caller, who waits for us: with nothing of it left but that wait, it is
// dead enough.
func (c *container) awaitEnd(pidfd *os.File) error {
	ended, err := sys.PollPidfd(pidfd, usualEnd)
	if ended || err != nil {
		return err
	}
	if p, ok := c.process(); ok && p.exiting {
		return nil
	}
	if ended, err = sys.PollPidfd(pidfd, lastEnd-usualEnd); ended || err != nil {
		return err
	}
	return errdefs.New(errdefs.ErrUnavailable, "container init still running: process %d of %s does not end", c.Pid, c.ID)
}

// poststop runs the hooks that follow a container's end. A failure is a warning:
// the container is gone, and engines must be able to delete it.
func (r *Runtime) poststop(ctx context.Context, c *container) {
	config, err := c.config()
	if err == nil && config.Hooks != nil {
		st := c.State
		st.Status, st.Pid = Stopped, 0
		for i := range config.Hooks.Poststop { // one by one: a failing hook does not stop the others
			err = errors.Join(err, runHooks(ctx, hookPoststop, config.Hooks.Poststop[i:i+1], &st, hostRunner(c.Bundle)))
		}
	}
	if err != nil {
		r.warn(err.Error())
	}
}
