package sched

import (
	"errors"
	"fmt"
	"runtime"
	"strconv"
	"strings"
	"unsafe"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"box/internal/errdefs"
	"box/pkg/launch"
)

// maxCPUs is the largest number of CPUs that a kernel is built for (CONFIG_NR_CPUS with
// MAXSMP). The kernel cuts longer masks off.
const maxCPUs = 8192

// Mask is a set of CPUs or nodes as the kernel takes it: bit n of the little-endian
// words is number n. An empty mask stands for no wish.
type Mask []byte

// ParseList reads a list such as "0-3,7", as in cpuset(7), of numbers below limit.
// An empty list is an empty mask.
func ParseList(list string, limit int) (Mask, error) {
	if list == "" {
		return nil, nil
	}
	mask := make(Mask, (limit+63)/64*8)
	for part := range strings.SplitSeq(list, ",") {
		first, last, isRange := strings.Cut(strings.TrimSpace(part), "-")
		if !isRange {
			last = first
		}
		from, err1 := strconv.ParseUint(first, 10, 64)
		to, err2 := strconv.ParseUint(last, 10, 64)
		if err := errors.Join(err1, err2); err != nil || from > to {
			return nil, invalid("%q is no list of numbers and ranges", list)
		}
		if to >= uint64(limit) {
			return nil, invalid("%d is not below %d", to, limit)
		}
		for n := from; n <= to; n++ {
			mask[n/8] |= 1 << (n % 8)
		}
	}
	return mask, nil
}

// Count is how many numbers are in the mask.
func (m Mask) Count() int {
	n := 0
	for _, b := range m {
		for ; b != 0; b &= b - 1 {
			n++
		}
	}
	return n
}

// String is the mask as a hexadecimal number: 0x3 for the first two.
func (m Mask) String() string {
	digits := ""
	for i := len(m) - 1; i >= 0; i-- {
		digits += fmt.Sprintf("%02x", m[i])
	}
	if digits = strings.TrimLeft(digits, "0"); digits == "" {
		digits = "0"
	}
	return "0x" + digits
}

// Affinity is process.execCPUAffinity, read.
type Affinity struct {
	Initial Mask // for the runtime's own thread, before the process exists
	Final   Mask // for the process, once it is in its control group
}

// ParseAffinity reads process.execCPUAffinity; nil gives an empty one.
func ParseAffinity(a *specs.CPUAffinity) (Affinity, error) {
	if a == nil {
		return Affinity{}, nil
	}
	initial, err := ParseList(a.Initial, maxCPUs)
	if err != nil {
		return Affinity{}, errdefs.New(errdefs.ErrInvalid, "process.execCPUAffinity.initial: bad CPU list: %w", err)
	}
	final, err := ParseList(a.Final, maxCPUs)
	if err != nil {
		return Affinity{}, errdefs.New(errdefs.ErrInvalid, "process.execCPUAffinity.final: bad CPU list: %w", err)
	}
	return Affinity{initial, final}, nil
}

// SetCPUs lets a process (or thread; 0 is the calling one) run on these CPUs, as far as
// its cpuset has them.
func SetCPUs(pid int, cpus Mask) error {
	if err := setAffinity(pid, cpus); err != nil {
		return fmt.Errorf("set CPU affinity to %v: %w", cpus, err)
	}
	return nil
}

// ResetCPUs lets a process run on all CPUs of its cpuset, whatever it has inherited. New
// kernels remember what was set before a process came into a cpuset, and would keep a
// container to the CPUs of the service that has started it.
func ResetCPUs(pid int) error {
	all := everyCPU()
	if err := setAffinity(pid, all[:]); err != nil {
		return fmt.Errorf("reset CPU affinity: %w", err)
	}
	return nil
}

func everyCPU() (all [maxCPUs / 8]byte) {
	for i := range all {
		all[i] = 0xff
	}
	return all
}

// AddCPUReset adds the step by which a program does for itself what ResetCPUs does for
// others: one that waits for nobody would be at its work before they have done it. As
// there, it goes on where it may not.
func AddCPUReset(p *launch.Plan) {
	mask := everyCPU()
	p.Add(launch.Step{
		Name: "reset CPU affinity", Call: launch.SchedSetaffinity,
		Args:  launch.Args{launch.Int(0), launch.Int(len(mask)), launch.Bytes(mask[:], func() string { return "{every CPU}" })},
		Allow: []launch.Allow{{Errno: launch.AnyErrno}},
		Why:   "what keeps the caller to some CPUs is none of the container's business; a filter may forbid the call later",
	})
}

func setAffinity(pid int, cpus Mask) error {
	_, _, errno := unix.RawSyscall(unix.SYS_SCHED_SETAFFINITY, uintptr(pid), uintptr(len(cpus)), uintptr(unsafe.Pointer(unsafe.SliceData(cpus))))
	runtime.KeepAlive(cpus)
	if errno != 0 {
		return errno
	}
	return nil
}

// CPUs returns the CPUs that a process (or thread) may run on.
func CPUs(pid int) (Mask, error) {
	mask := make(Mask, maxCPUs/8)
	n, _, errno := unix.RawSyscall(unix.SYS_SCHED_GETAFFINITY, uintptr(pid), uintptr(len(mask)), uintptr(unsafe.Pointer(&mask[0])))
	if errno != 0 {
		return nil, fmt.Errorf("get CPU affinity: %w", errno)
	}
	return mask[:n], nil
}
