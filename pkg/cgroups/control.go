package cgroups

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"box/internal/errdefs"
	"box/pkg/cgroups/kernfs"
)

// Kill sends SIGKILL to every process in the group and below it. Processes that
// fork at the same time do not escape (cgroup.kill, Linux 5.14). A group that
// does not exist has nobody to kill.
func (c *Cgroup) Kill() error {
	if c.none {
		return nil
	}
	if c.root == "" {
		return c.legacy.Kill()
	}
	err := c.write("cgroup.kill", "1")
	// The kernel has no such file, or not for a threaded group.
	if kernfs.Gone(err) && unix.Access(c.Dir(), unix.F_OK) == nil || errors.Is(err, unix.EOPNOTSUPP) {
		err = c.killFrozen()
	}
	if kernfs.Gone(err) {
		err = nil
	}
	if c.legacy != nil {
		err = errors.Join(err, c.legacy.Kill())
	}
	return err
}

// killFrozen does the same process by process: nobody forks in a frozen group, and a
// deadly signal gets through to its processes.
func (c *Cgroup) killFrozen() error {
	if err := c.write("cgroup.freeze", "1"); err != nil {
		return err
	}
	pids, err := c.Procs()
	for _, pid := range pids {
		if kerr := unix.Kill(pid, unix.SIGKILL); kerr != nil && !errors.Is(kerr, unix.ESRCH) {
			err = errors.Join(err, fmt.Errorf("kill process %d: %w", pid, kerr))
		}
	}
	return errors.Join(err, c.write("cgroup.freeze", "0"))
}

// Freeze stops every process in the group, and returns when all have stopped.
func (c *Cgroup) Freeze(ctx context.Context) error {
	if c.none {
		return errdefs.New(errdefs.ErrUnsupported, "freeze cgroup: the container has none of its own")
	}
	if c.root == "" {
		return c.legacy.Freeze(ctx)
	}
	return c.setFrozen(ctx, "1", 1)
}

// Thaw lets the processes of the group go on, and returns when they do. It does
// not matter by which freezer they were stopped.
func (c *Cgroup) Thaw(ctx context.Context) error {
	if c.none {
		return nil
	}
	if c.legacy != nil {
		if err := c.legacy.Thaw(); err != nil || c.root == "" {
			return err
		}
	}
	return c.setFrozen(ctx, "0", 0)
}

// setFrozen returns when the kernel has done it, or somebody else has told it the contrary:
// who kills frozen processes thaws them, and does not wait for who is about to freeze them.
// The end of the last process wakes us then.
func (c *Cgroup) setFrozen(ctx context.Context, value string, want uint64) error {
	if err := c.write("cgroup.freeze", value); err != nil {
		return err
	}
	return c.await(ctx, func(events map[string]uint64) bool {
		if events["frozen"] == want {
			return true
		}
		now, err := c.read("cgroup.freeze")
		return err == nil && strings.TrimSpace(now) != value
	})
}

// Frozen tells whether the group was told to freeze, in its own right or by a
// group above it.
func (c *Cgroup) Frozen() (bool, error) {
	if c.none {
		return false, nil
	}
	if c.legacy != nil {
		if frozen, err := c.legacy.Frozen(); frozen || err != nil && !kernfs.Gone(err) || c.root == "" {
			return frozen, err
		}
	}
	return c.frozenUnified()
}

func (c *Cgroup) frozenUnified() (bool, error) {
	for dir := c.path; dir != "/"; dir = filepath.Dir(dir) {
		data, err := kernfs.Read(filepath.Join(c.root, dir, "cgroup.freeze"))
		if err != nil {
			return false, err
		}
		if strings.TrimSpace(data) == "1" {
			return true, nil
		}
	}
	return false, nil
}

// Remove removes the group and the groups below it. Processes that were killed
// and are not gone yet are waited for; it is the context's business how long. A
// group that does not exist is removed already.
func (c *Cgroup) Remove(ctx context.Context) error {
	if c.none {
		return nil
	}
	var stopped error
	if c.unit != nil {
		stopped = c.unit.stop()
	}
	if c.root != "" {
		if err := c.removeUnified(ctx); err != nil {
			return errors.Join(stopped, err)
		}
	}
	if c.legacy != nil {
		return errors.Join(stopped, c.legacy.Remove(ctx))
	}
	return stopped
}

func (c *Cgroup) removeUnified(ctx context.Context) error {
	for {
		err := kernfs.RemoveTree(c.Dir())
		if !errors.Is(err, unix.EBUSY) || ctx.Err() != nil {
			return err
		}
		// Waiting returns at once if the last process went in between.
		err = c.await(ctx, func(events map[string]uint64) bool { return events["populated"] == 0 })
		if err != nil && !kernfs.Gone(err) {
			return fmt.Errorf("remove cgroup %s: %w", c.path, err)
		}
	}
}

// events returns cgroup.events: whether there are processes, whether they stand
// still.
func (c *Cgroup) events() (map[string]uint64, error) {
	data, err := c.read("cgroup.events")
	return kernfs.FlatKeyed(data), err
}

// await returns when cgroup.events fulfils the condition. The kernel wakes whoever
// polls that file for POLLPRI after a change since the last read of it.
func (c *Cgroup) await(ctx context.Context, done func(map[string]uint64) bool) error {
	name := filepath.Join(c.Dir(), "cgroup.events")
	fd, err := unix.Open(name, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return &os.PathError{Op: "open", Path: name, Err: err}
	}
	defer unix.Close(fd)
	cancelled, stop, err := descriptorOf(ctx)
	if err != nil {
		return err
	}
	defer stop()
	for {
		events, err := readEvents(fd, name)
		if err != nil || done(events) {
			return err
		}
		err = pollFds(unix.PollFd{Fd: int32(fd), Events: unix.POLLPRI}, unix.PollFd{Fd: int32(cancelled), Events: unix.POLLIN})
		if err != nil {
			return err
		}
		if ctx.Err() != nil {
			return errdefs.New(errdefs.ErrUnavailable, "wait for cgroup %s: %w", c.path, context.Cause(ctx))
		}
	}
}

// readEvents reads the file from its start, which also marks its state as seen.
func readEvents(fd int, name string) (map[string]uint64, error) {
	buf := make([]byte, 256)
	n, err := unix.Pread(fd, buf, 0)
	if err != nil {
		return nil, &os.PathError{Op: "read", Path: name, Err: err}
	}
	return kernfs.FlatKeyed(string(buf[:n])), nil
}

// descriptorOf returns a descriptor that can be read when the context ends, -1
// if it never does.
func descriptorOf(ctx context.Context) (fd int, stop func(), err error) {
	if ctx.Done() == nil {
		return -1, func() {}, nil
	}
	fd, err = unix.Eventfd(0, unix.EFD_CLOEXEC)
	if err != nil {
		return -1, nil, os.NewSyscallError("eventfd", err)
	}
	finished := make(chan struct{})
	cancel := context.AfterFunc(ctx, func() {
		defer close(finished)
		_, _ = unix.Write(fd, []byte{1, 0, 0, 0, 0, 0, 0, 0}) // cannot fail: the counter is 0
	})
	return fd, func() {
		if !cancel() {
			<-finished // it runs: the number must not be somebody else's by then
		}
		unix.Close(fd)
	}, nil
}

// pollFds waits until one of the descriptors is ready; poll(2) skips those that
// are -1.
func pollFds(fds ...unix.PollFd) error {
	for {
		_, err := unix.Poll(fds, -1)
		if err == nil {
			return nil
		}
		if !errors.Is(err, unix.EINTR) {
			return os.NewSyscallError("poll", err)
		}
	}
}
