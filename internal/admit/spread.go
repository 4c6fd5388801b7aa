package admit

import (
	"strconv"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The entry point writes down here which processors we were allowed when we were
// started, and the length of that mask in bytes if it has kept us to one of them.
var (
	allowed [16]uint64
	kept    int32
)

// Spread lets all threads of this process use all processors again that it was given: it
// is for who stays, or wants another choice of processors for those whom it starts. The
// Go runtime goes on to run one goroutine at a time: there is no work for more that
// runtime.SetDefaultGOMAXPROCS would not cost.
func Spread() {
	size := atomic.SwapInt32(&kept, 0)
	if size == 0 {
		return
	}
	dir, err := unix.Open("/proc/self/task", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		setAllowed(0, size) // at least our own thread
		return
	}
	defer unix.Close(dir)
	var entries [1024]byte
	for {
		n, err := unix.Getdents(dir, entries[:])
		if n <= 0 || err != nil {
			return
		}
		_, _, names := unix.ParseDirent(entries[:n], -1, nil)
		for _, name := range names {
			if tid, err := strconv.Atoi(name); err == nil {
				setAllowed(tid, size)
			}
		}
	}
}

// setAllowed gives thread tid (0: the caller's) back what it had. That may fail only
// where the processors have gone meanwhile, and then the kernel has seen to it.
func setAllowed(tid int, size int32) {
	_, _, _ = unix.RawSyscall(unix.SYS_SCHED_SETAFFINITY, uintptr(tid), uintptr(size), uintptr(unsafe.Pointer(&allowed)))
}
