package legacy

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"box/internal/errdefs"
	"box/internal/sys"
	"box/pkg/cgroups/kernfs"
)

// The states of freezer.state (cgroup-v1/freezer-subsystem.rst).
const (
	thawed = "THAWED"
	frozen = "FROZEN"
)

// Frozen tells whether the group, or one above it, is frozen or about to be.
func (g *Group) Frozen() (bool, error) {
	m, ok := g.member("freezer")
	if !ok {
		return false, nil
	}
	state, err := kernfs.Read(m.file("freezer.state"))
	return err == nil && strings.TrimSpace(state) != thawed, err
}

// Freeze stops every process of the group, and returns when all have stopped. A
// process that forks meanwhile can keep the state at FREEZING until it is read or
// written again: hence the tries, and between them a thaw, without which two
// processes can wait for each other (a fork in the kernel waits for its child).
func (g *Group) Freeze(ctx context.Context) error {
	m, ok := g.member("freezer")
	if !ok {
		return errdefs.New(errdefs.ErrUnsupported, "freeze cgroup: this host has no freezer")
	}
	for pause := backOff; ; {
		if err := kernfs.Write(m.file("freezer.state"), frozen); err != nil {
			return err
		}
		state, err := kernfs.Read(m.file("freezer.state"))
		if err != nil || strings.TrimSpace(state) == frozen {
			return err
		}
		if err := pause.wait(ctx); err != nil {
			return errors.Join(fmt.Errorf("freeze cgroup %s: %w", m.path, err), g.Thaw())
		}
	}
}

// Thaw lets the processes of the group go on.
func (g *Group) Thaw() error {
	m, ok := g.member("freezer")
	if !ok {
		return nil
	}
	err := kernfs.Write(m.file("freezer.state"), thawed)
	if kernfs.Gone(err) {
		return nil
	}
	return err
}

// Procs returns the processes of the group in all hierarchies.
func (g *Group) Procs() ([]int, error) { return Members(g.Dirs()...) }

// Kill sends SIGKILL to every process of the group and below it. While they are
// frozen none of them forks; they die when they are thawed. Where the unified
// hierarchy has killed them before, nobody is left to freeze.
func (g *Group) Kill() error {
	pids, err := g.Procs()
	if err != nil || len(pids) == 0 {
		return errors.Join(err, g.Thaw())
	}
	ctx, cancel := context.WithTimeout(context.Background(), freezeLimit)
	defer cancel()
	// Without a freezer, or with a process that does not stop, who forks just now
	// may escape; whoever waits for the group to be empty then asks again.
	_ = g.Freeze(ctx)
	pids, err = g.Procs()
	for _, pid := range pids {
		if kerr := unix.Kill(pid, unix.SIGKILL); kerr != nil && !errors.Is(kerr, unix.ESRCH) {
			err = errors.Join(err, fmt.Errorf("kill process %d: %w", pid, kerr))
		}
	}
	return errors.Join(err, g.Thaw())
}

// freezeLimit bounds the wait for processes that do not freeze, in an
// uninterruptible sleep for example: they are killed all the same.
const freezeLimit = 500 * time.Millisecond

// Remove removes the group and those below it from every hierarchy, waiting for
// processes that were killed and are not gone yet.
func (g *Group) Remove(ctx context.Context) error {
	var errs []error
	for _, m := range g.members {
		if err := m.remove(ctx); err != nil {
			errs = append(errs, fmt.Errorf("remove cgroup %s of hierarchy %s: %w", m.path, m.name, err))
		}
	}
	return errors.Join(errs...)
}

// remove waits for the processes that it finds by their pidfds. A task that has
// ended is counted a moment longer than any file says, and nothing tells when it
// no longer is: hence the tries.
func (m member) remove(ctx context.Context) error {
	for pause := backOff; ; {
		err := kernfs.RemoveTree(m.dir())
		if !errors.Is(err, unix.EBUSY) {
			return err
		}
		pids, perr := kernfs.Procs(m.dir())
		if perr != nil {
			return perr
		}
		for _, pid := range pids {
			if err := awaitEnd(ctx, pid); err != nil {
				return err
			}
		}
		if perr := pause.wait(ctx); perr != nil {
			return fmt.Errorf("%w: %w", err, perr)
		}
	}
}

// awaitEnd waits for the end of a process, no longer than the context.
func awaitEnd(ctx context.Context, pid int) error {
	p, err := sys.PidfdOpen(pid)
	if errors.Is(err, unix.ESRCH) {
		return nil
	}
	if err != nil {
		return err
	}
	defer p.Close()
	millis := -1
	if deadline, ok := ctx.Deadline(); ok {
		millis = int(max(0, time.Until(deadline).Milliseconds()))
	}
	if exited, err := sys.PollPidfd(p, millis); err != nil || exited {
		return err
	}
	return errdefs.New(errdefs.ErrUnavailable, "process %d does not end", pid)
}

// interval is the time between tries where v1 has nothing to wait for.
type interval time.Duration

// backOff is the first interval; each is twice the one before, up to a limit.
const (
	backOff    = interval(100 * time.Microsecond)
	backOffMax = interval(20 * time.Millisecond)
)

func (i *interval) wait(ctx context.Context) error {
	timer := time.NewTimer(time.Duration(*i))
	defer timer.Stop()
	*i = min(2**i, backOffMax)
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
