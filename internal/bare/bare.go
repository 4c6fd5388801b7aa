// Package bare makes a few system calls on a thread that the Go runtime knows nothing
// of, beside what the caller does meanwhile.
//
// A goroutine that is locked to its thread can do the same, but in a program that lives
// four milliseconds it costs more than it brings: the Go runtime starts two more
// threads for it, and needs a tenth of a millisecond until the first call is made.
// Here it is one clone(2).
//
// The thread has no stack and no Go code; its calls are data, and it makes one after
// the other. All signals are blocked in it.
package bare

import (
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Call is one system call of at most three arguments; a fourth is 0.
type Call struct {
	Number        uintptr  // unix.SYS_…
	First         *uintptr // the argument, which may be the Result of an earlier call
	Second, Third uintptr
	Result        uintptr // to be read after Wait

	Name  string // verb and object, for the error
	Keep  []byte // memory that an argument points to and nobody else may keep
	Close bool   // the result is a descriptor that Wait closes
}

// Value is a first argument that is known.
func Value(v uintptr) *uintptr { return &v }

// Ended waits until the process has ended that a pidfd, which is not closed meanwhile, is
// bound to.
func Ended(pidfd *os.File) *Call {
	poll := &unix.PollFd{Fd: int32(pidfd.Fd()), Events: unix.POLLIN}
	memory := unsafe.Slice((*byte)(unsafe.Pointer(poll)), unsafe.Sizeof(*poll))
	return &Call{Name: "wait for process", Number: unix.SYS_PPOLL, First: Value(uintptr(unsafe.Pointer(poll))), Second: 1, Keep: memory}
}

// On keeps the thread to processors, a mask as sched_setaffinity(2) takes it.
func On(processors []byte) *Call {
	mask := uintptr(unsafe.Pointer(unsafe.SliceData(processors)))
	return &Call{Name: "choose processors", Number: unix.SYS_SCHED_SETAFFINITY, First: Value(0), Second: uintptr(len(processors)), Third: mask, Keep: processors}
}

// Thread is a thread that was started.
type Thread struct {
	alive uint32 // the kernel clears it (set_tid_address(2)), and wakes who waits
	calls []*Call
}

// started keeps what threads work on from the garbage collector, for good: it is little,
// and who starts one need not wait for it.
var started struct {
	sync.Mutex
	threads []*Thread
}

// Start starts a thread that makes the calls in order, up to the first that fails. The
// error is that of clone(2).
func Start(calls ...*Call) (*Thread, error) {
	t := &Thread{alive: 1, calls: calls}
	if r := spawn(&calls[0], len(calls), &t.alive); r < 0 {
		return nil, fmt.Errorf("start thread: %w", unix.Errno(-r))
	}
	started.Lock()
	defer started.Unlock()
	started.threads = append(started.threads, t)
	return t, nil
}

// Wait waits for the end of the thread. The error is that of the call that failed.
func (t *Thread) Wait() error {
	const futexWait = 0 // FUTEX_WAIT, not private: so the kernel wakes
	for atomic.LoadUint32(&t.alive) != 0 {
		_, _, _ = unix.Syscall6(unix.SYS_FUTEX, uintptr(unsafe.Pointer(&t.alive)), futexWait, 1, 0, 0, 0)
	}
	var err error
	for _, c := range t.calls {
		if e := -int(c.Result); e > 0 && e < 4096 {
			err = fmt.Errorf("%s: %w", c.Name, unix.Errno(e))
			break
		}
		if c.Close {
			c.Close = false
			_ = unix.Close(int(c.Result))
		}
	}
	return err
}
