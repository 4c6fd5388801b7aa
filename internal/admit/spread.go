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

// Others are the processors that this process was given, in the form of
// sched_setaffinity(2), without the one that the caller is on: for a thread that is to
// work beside the caller. It is nil if there is no other one, or the process is not kept
// to one.
func Others() []byte {
	size := atomic.LoadInt32(&kept)
	var cpu uint32
	if _, _, errno := unix.RawSyscall(unix.SYS_GETCPU, uintptr(unsafe.Pointer(&cpu)), 0, 0); size == 0 || errno != 0 || int(cpu) >= 64*len(allowed) {
		return nil
	}
	others := allowed
	others[cpu/64] &^= 1 << (cpu % 64)
	if others == [len(others)]uint64{} {
		return nil
	}
	return unsafe.Slice((*byte)(unsafe.Pointer(&others)), size)
}
