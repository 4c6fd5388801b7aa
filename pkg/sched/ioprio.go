package sched

import (
	"fmt"
	"slices"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// Values of linux/ioprio.h: the number of a class is its place in the list, above the
// bits of the level.
var ioClasses = []specs.IOPriorityClass{"", specs.IOPRIO_CLASS_RT, specs.IOPRIO_CLASS_BE, specs.IOPRIO_CLASS_IDLE}

const (
	ioClassShift = 13
	ioLevels     = 8
	ioWhoProcess = 1 // IOPRIO_WHO_PROCESS
)

// CheckIOPriority checks process.ioPriority; nil is none.
func CheckIOPriority(p *specs.LinuxIOPriority) error {
	if p == nil {
		return nil
	}
	if p.Priority < 0 || p.Priority >= ioLevels {
		return invalid("process.ioPriority.priority: invalid ioPriority.Priority: %d", p.Priority)
	}
	if slices.Index(ioClasses, p.Class) < 1 {
		return invalid("process.ioPriority.class: invalid ioPriority.Class: %q", p.Class)
	}
	return nil
}

// ioValue is the argument of ioprio_set(2) for a checked priority.
func ioValue(p *specs.LinuxIOPriority) int {
	return slices.Index(ioClasses, p.Class)<<ioClassShift | p.Priority
}

// IOPriority gives a process its place in the queues of block devices; what it forks
// inherits it.
func IOPriority(pid int, p *specs.LinuxIOPriority) error {
	if err := CheckIOPriority(p); err != nil {
		return err
	}
	_, _, errno := unix.RawSyscall(unix.SYS_IOPRIO_SET, ioWhoProcess, uintptr(pid), uintptr(ioValue(p)))
	if errno != 0 {
		return fmt.Errorf("set io priority to %s, %d: %w", p.Class, p.Priority, errno)
	}
	return nil
}
