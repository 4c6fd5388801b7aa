package runtime

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"box/internal/errdefs"
	"box/pkg/launch"
)

// status looks up where the container stands. Nothing of it is stored: a stored
// status is wrong as soon as a process dies.
func (r *Runtime) status(c *container) Status {
	st := c.status()
	switch {
	case st == Stopped && c.Pid == 0 && r.locked(c.ID):
		return Creating
	case (st == Created || st == Running && launch.MayBegin(c.image)) && c.outside():
		return Creating
	}
	return st
}

// outside reports whether the container's process has not come to its root yet, but still
// has that of its creator, which is ours. Whoever joined it then would find the host's
// files. It is asked only about what can be the launch program.
func (c *container) outside() bool {
	var root, ours, its unix.Stat_t
	if unix.Stat(c.rootLink(), &root) != nil || unix.Stat("/", &ours) != nil || !sameFile(&root, &ours) {
		return false
	}
	// A container may have the host's root on purpose.
	return unix.Stat(c.Rootfs, &its) != nil || !sameFile(&its, &ours)
}

func sameFile(a, b *unix.Stat_t) bool { return a.Dev == b.Dev && a.Ino == b.Ino }

// status is for who holds the container's lock: then nobody is creating it any more.
func (c *container) status() Status {
	// In this order: a dying program closes the fifo after the kernel has marked it as
	// exiting, and before it is a zombie.
	waiting := c.waiting()
	p, ok := c.process()
	c.image = p.image
	switch {
	case !ok || p.exiting:
		return Stopped
	case c.frozen(): // also one that waits for start, which could not begin
		return Paused
	case waiting:
		return Created
	}
	return Running
}

// process looks up the init process; not ok if it is gone, or a zombie: its exit has
// happened even if nobody has collected it.
func (c *container) process() (stat, bool) {
	if c.Pid <= 0 || c.BootID != bootID() {
		return stat{}, false
	}
	p, err := processStat(c.Pid)
	return p, err == nil && !p.zombie && p.start == c.StartTime
}

// waiting reports whether init is still the launch program: then, and only then,
// somebody has the start fifo open for reading, for it is close-on-exec. That the
// fifo exists would not do: start may be killed between letting the program go
// and unlinking it.
func (c *container) waiting() bool {
	fd, err := unix.Open(c.path(startFifo), unix.O_WRONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return false
	}
	unix.Close(fd)
	return true
}

// stat is what we read of a process.
type stat struct {
	start   uint64 // clock ticks since boot
	zombie  bool
	exiting bool   // the kernel is taking it down, or has
	image   uint64 // where its code begins; 0 or 1 for who may not know
}

// processStat reads /proc/PID/stat (proc_pid_stat(5)).
func processStat(pid int) (stat, error) {
	data, err := readFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return stat{}, err
	}
	p, err := parseStat(data)
	if err != nil {
		return stat{}, fmt.Errorf("parse /proc/%d/stat: %w", pid, err)
	}
	return p, nil
}

// parseStat reads the text of a stat file. The command name is in parentheses and may
// itself hold anything, so fields count from the last ")".
func parseStat(data []byte) (stat, error) {
	fields := strings.Fields(string(data[bytes.LastIndexByte(data, ')')+1:]))
	const state, flags, starttime, startcode = 0, 6, 19, 23 // fields 3, 9, 22 and 26 of the manual page; the cut took two
	const exiting = 0x4                                     // PF_EXITING (include/linux/sched.h)
	if len(fields) <= startcode {
		return stat{}, errdefs.New(errdefs.ErrCorrupt, "%d fields", len(fields))
	}
	bits, err := strconv.ParseUint(fields[flags], 10, 64)
	start, err2 := strconv.ParseUint(fields[starttime], 10, 64)
	image, err3 := strconv.ParseUint(fields[startcode], 10, 64)
	zombie := fields[state] == "Z" || fields[state] == "X"
	return stat{start, zombie, zombie || bits&exiting != 0, image}, errors.Join(err, err2, err3)
}

// bootID names this boot of the kernel; "" where /proc does not tell.
var bootID = sync.OnceValue(func() string {
	data, _ := readFile("/proc/sys/kernel/random/boot_id")
	return strings.TrimSpace(string(data))
})

// readFile is os.ReadFile for the small files of procfs and of our own state,
// without the half dozen calls by which package os asks the poller about each: a
// start reads ten of them.
func readFile(path string) ([]byte, error) {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: path, Err: err}
	}
	defer unix.Close(fd)
	data := make([]byte, 0, 512)
	for {
		if len(data) == cap(data) {
			data = append(data, 0)[:len(data)]
		}
		n, err := unix.Read(fd, data[len(data):cap(data)])
		switch {
		case err == unix.EINTR:
		case err != nil:
			return nil, &os.PathError{Op: "read", Path: path, Err: err}
		case n == 0:
			return data, nil
		default:
			data = data[:len(data)+n]
		}
	}
}

// writeThere writes to a file that is there, in one write.
func writeThere(path, value string) error {
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = f.WriteString(value)
	return err
}

// writeNew writes a file that does not exist yet. It is for files that nobody looks
// for before the record, which is written later and atomically.
func writeNew(path string, data []byte) error {
	fd, err := unix.Open(path, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return &os.PathError{Op: "create", Path: path, Err: err}
	}
	for len(data) > 0 {
		n, err := unix.Write(fd, data)
		if err != nil && err != unix.EINTR {
			unix.Close(fd)
			return &os.PathError{Op: "write", Path: path, Err: err}
		}
		data = data[max(n, 0):]
	}
	if err := unix.Close(fd); err != nil {
		return &os.PathError{Op: "close", Path: path, Err: err}
	}
	return nil
}

// removeState removes a state directory with the files we put there; anything else
// in it (a temporary file of a killed process) takes the longer way. The record comes
// first: who misses another file looks whether there is one (container.missing).
func removeState(dir string) error {
	for _, name := range []string{recordFile, startFifo, filterFile, configFile} {
		_ = unix.Unlink(dir + "/" + name)
	}
	if err := unix.Rmdir(dir); err == nil || err == unix.ENOENT {
		return nil
	}
	return os.RemoveAll(dir)
}
