package admit

import (
	"runtime"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// slack is the timer slack that we were started with, in nanoseconds, if the entry point
// has made it longer. Some of our threads have the longer one: which, the Go runtime
// decides.
var slack uintptr

// Starting readies the calling thread to start a program, or a thread that is not the Go
// runtime's: they inherit what it has. Its processors and its timer slack are again as
// they were given to us. The caller stays on the thread until it calls the function that
// Starting returns.
func Starting() (done func()) {
	runtime.LockOSThread()
	giveBack()
	return runtime.UnlockOSThread
}

// StartingAtOnce is Starting for who makes no system call before that the Go runtime hears
// of: for syscall.ForkExec and bare.Start, which make raw ones, and not for os/exec.
func StartingAtOnce() (done func()) {
	if !alone() {
		return Starting()
	}
	giveBack()
	return func() {}
}

func giveBack() {
	if size := atomic.LoadInt32(&kept); size != 0 {
		setAllowed(0, size)
	}
	if slack != 0 {
		// It cannot fail: it takes any number but 0, and our own thread.
		_, _, _ = unix.RawSyscall(unix.SYS_PRCTL, unix.PR_SET_TIMERSLACK, slack, 0)
	}
}

// alone says that nobody takes the caller's thread away outside of system calls: there is
// no other goroutine that could run meanwhile, nor a place where two could run at once. In
// a system call the watcher may give that place to another thread, on which the caller
// then goes on. To lock the thread is not free: the runtime starts another one then, a
// thirtieth of a container's start.
func alone() bool { return runtime.NumGoroutine() == 1 && runtime.GOMAXPROCS(0) == 1 }
