package runtime

import (
	"bytes"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"box/internal/errdefs"
)

// status looks up where the container stands. Nothing of it is stored: a stored
// status is wrong as soon as a process dies.
func (r *Runtime) status(c *container) Status {
	switch {
	case !c.alive():
		if c.Pid == 0 && r.locked(c.ID) {
			return Creating
		}
		return Stopped
	case c.waiting():
		return Created
	case c.frozen():
		return Paused
	}
	return Running
}

// alive reports whether the init process is still the one that was started, and
// not a zombie: its exit has happened even if nobody has collected it.
func (c *container) alive() bool {
	if c.Pid <= 0 || c.BootID != bootID() {
		return false
	}
	start, zombie, err := processStart(c.Pid)
	return err == nil && !zombie && start == c.StartTime
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

// processStart reads when a process started (clock ticks since boot) and whether
// it is a zombie, from /proc/PID/stat (proc_pid_stat(5)). The command name is in
// parentheses and may itself hold anything, so fields count from the last ")".
func processStart(pid int) (start uint64, zombie bool, err error) {
	data, err := readFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return 0, false, err
	}
	fields := strings.Fields(string(data[bytes.LastIndexByte(data, ')')+1:]))
	const state, starttime = 3 - 3, 22 - 3
	if len(fields) <= starttime {
		return 0, false, errdefs.New(errdefs.ErrCorrupt, "parse /proc/%d/stat: %d fields", pid, len(fields))
	}
	start, err = strconv.ParseUint(fields[starttime], 10, 64)
	return start, fields[state] == "Z" || fields[state] == "X", err
}

// bootID names this boot of the kernel; "" where /proc does not tell.
func bootID() string {
	data, _ := readFile("/proc/sys/kernel/random/boot_id")
	return strings.TrimSpace(string(data))
}
