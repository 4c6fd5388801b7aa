package runtime

import (
	"context"
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"box/internal/errdefs"
	"box/internal/sys"
)

// Kill sends a signal to a container's init process or, with all, to each of its
// processes. With all it also succeeds on a stopped container: where a pid namespace
// is shared, processes outlive the init, and engines clear them away so.
func (r *Runtime) Kill(_ context.Context, id string, sig unix.Signal, all bool) error {
	c, err := r.load(id)
	if err != nil {
		return err
	}
	if all {
		return c.signalAll(sig)
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
	return err
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
	if !c.alive() {
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
	for _, pid := range pids {
		if err := unix.Kill(pid, sig); err != nil && err != unix.ESRCH {
			return fmt.Errorf("signal process %d of container %s: %w", pid, c.ID, err)
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
	c, err := r.load(id)
	if err != nil {
		return err
	}
	if st := r.status(c); st != Running && st != Created {
		return errdefs.New(errdefs.ErrConflict, "container not running or created: %s", st)
	}
	group, err := c.cgroup()
	if err != nil {
		return err
	}
	return group.Freeze(ctx)
}

// Resume lets a paused container go on.
func (r *Runtime) Resume(ctx context.Context, id string) error {
	c, err := r.load(id)
	if err != nil {
		return err
	}
	if st := r.status(c); st != Paused {
		return errdefs.New(errdefs.ErrConflict, "container not paused: %s", st)
	}
	group, err := c.cgroup()
	if err != nil {
		return err
	}
	return group.Thaw(ctx)
}
