package cgroups

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"box/internal/errdefs"
	"box/pkg/cgroups/kernfs"
	"box/pkg/cgroups/stats"
)

// Stats reads the figures of the group. Where the container has no group of its own
// nothing is counted: all figures are zero then, as with runc.
func (c *Cgroup) Stats() (*stats.Stats, error) {
	if c.none {
		return stats.Collect("", func(string) string { return "" })
	}
	dir := ""
	if c.root != "" {
		dir = c.Dir()
	}
	if !c.Exists() {
		return nil, errdefs.New(errdefs.ErrNotFound, "read figures of cgroup %s: it does not exist", c.path)
	}
	return stats.Collect(dir, c.legacy.Dir)
}

// OOMKills returns how many processes of the group and those below it were killed
// for want of memory. Without the memory controller it is ErrUnavailable.
func (c *Cgroup) OOMKills() (uint64, error) {
	file := "memory.events"
	if dir := c.legacy.Dir("memory"); dir != "" {
		file = filepath.Join(dir, "memory.oom_control") // oom_kill since Linux 4.13
	} else {
		file = filepath.Join(c.Dir(), file)
	}
	data, err := kernfs.Read(file)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, errdefs.New(errdefs.ErrUnavailable, "read %s of cgroup %s: the group has no memory controller", filepath.Base(file), c.path)
	}
	if err != nil {
		return 0, err
	}
	return kernfs.FlatKeyed(data)["oom_kill"], nil
}

// WatchOOM sends a value each time processes of the group were killed for want of
// memory (several at once may be one value), and closes the channel when the group
// has no process any more or the context ends. Without the memory controller there
// is nothing to send; without a group there is nothing to watch: ErrUnsupported.
func (c *Cgroup) WatchOOM(ctx context.Context) (<-chan struct{}, error) {
	if c.none {
		return nil, errdefs.New(errdefs.ErrUnsupported, "watch cgroup: the container has none of its own")
	}
	w := &oomWatch{group: c, events: -1, memory: -1}
	if err := w.open(); err != nil {
		w.close()
		return nil, fmt.Errorf("watch cgroup %s: %w", c.path, err)
	}
	cancelled, stop, err := descriptorOf(ctx)
	if err != nil {
		w.close()
		return nil, err
	}
	found := make(chan struct{})
	go func() {
		defer close(found)
		defer stop()
		defer w.close()
		w.run(ctx, cancelled, found)
	}()
	return found, nil
}

// oomWatch waits on two descriptors: one tells of the memory controller, one of
// the end of the last process.
type oomWatch struct {
	group  *Cgroup
	events int   // cgroup.events of the unified hierarchy, POLLPRI
	memory int   // memory.events, POLLPRI; or for v1 an eventfd, POLLIN
	ready  int16 // which of the two
	kills  uint64
}

func (w *oomWatch) open() (err error) {
	if w.group.root != "" {
		if w.events, err = openEvents(filepath.Join(w.group.Dir(), "cgroup.events")); err != nil {
			return err
		}
	}
	if dir := w.group.legacy.Dir("memory"); dir != "" {
		w.ready = unix.POLLIN
		if w.memory, err = listenLegacy(dir); err != nil {
			return err
		}
	} else if w.group.root != "" {
		w.ready = unix.POLLPRI
		w.memory, err = openEvents(filepath.Join(w.group.Dir(), "memory.events"))
		if errors.Is(err, fs.ErrNotExist) {
			return nil // the group has no memory controller
		}
	}
	w.kills, _ = w.group.OOMKills() // 0 without the controller
	return err
}

func openEvents(name string) (int, error) {
	fd, err := unix.Open(name, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, &os.PathError{Op: "open", Path: name, Err: err}
	}
	return fd, nil
}

// listenLegacy returns an eventfd that counts the times the group was out of memory
// (cgroup-v1/memory.rst, 10). It is also readable when the group is removed.
func listenLegacy(dir string) (int, error) {
	control, err := openEvents(filepath.Join(dir, "memory.oom_control"))
	if err != nil {
		return -1, err
	}
	defer unix.Close(control)
	fd, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		return -1, os.NewSyscallError("eventfd", err)
	}
	if err := kernfs.Write(filepath.Join(dir, "cgroup.event_control"), fmt.Sprintf("%d %d", fd, control)); err != nil {
		unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

func (w *oomWatch) close() {
	for _, fd := range []int{w.events, w.memory} {
		if fd >= 0 {
			unix.Close(fd)
		}
	}
}

// run sends until there is nothing to come. Looking comes before waiting, so that what
// happened before the first wait is not missed; and whether all have ended is asked before
// whether one was killed, which may be why.
func (w *oomWatch) run(ctx context.Context, cancelled int, found chan<- struct{}) {
	for {
		over := w.ended()
		if w.killed() {
			select {
			case found <- struct{}{}:
			case <-ctx.Done():
				return
			}
		}
		if over || ctx.Err() != nil || w.wait(cancelled) != nil {
			return
		}
	}
}

// killed tells whether processes were killed since it was last asked.
func (w *oomWatch) killed() bool {
	if w.memory < 0 {
		return false
	}
	if w.ready == unix.POLLIN {
		var count [8]byte
		n, err := unix.Read(w.memory, count[:]) // EAGAIN: nothing yet
		return err == nil && n == len(count) && binary.NativeEndian.Uint64(count[:]) > 0 && w.group.Exists()
	}
	events, err := readEvents(w.memory, "memory.events")
	more := err == nil && events["oom_kill"] > w.kills
	w.kills = max(w.kills, events["oom_kill"])
	return more
}

// ended tells whether the last process is gone.
func (w *oomWatch) ended() bool {
	if w.events < 0 {
		pids, err := w.group.Procs()
		return err != nil || len(pids) == 0
	}
	events, err := readEvents(w.events, "cgroup.events")
	return err != nil || events["populated"] == 0
}

func (w *oomWatch) wait(cancelled int) error {
	return pollFds(
		unix.PollFd{Fd: int32(w.events), Events: unix.POLLPRI},
		unix.PollFd{Fd: int32(w.memory), Events: w.ready},
		unix.PollFd{Fd: int32(cancelled), Events: unix.POLLIN},
	)
}

// trimmed is the content of an interface file without the line's end, "" if it
// cannot be read.
func trimmed(name string) string {
	data, _ := kernfs.Read(name)
	return strings.TrimSpace(data)
}
