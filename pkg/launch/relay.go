package launch

import (
	"fmt"
	"os"
	"slices"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"

	"box/internal/errdefs"
)

// relayTo is the pidfd that the handlers send to, or -1; it is plain for their sake,
// and changed atomically.
var relayTo int32 = -1

// came says which signals the handlers have seen, by number.
var came [lastSignal + 1]uint32

// faultHandler is the Go runtime's own handler, for faults that are ours.
//
//lint:ignore U1000 read by the handlers in relay_*.s
var faultHandler uintptr

// sigaction is struct sigaction as the kernel has it (amd64, arm64).
type sigaction struct {
	handler  uintptr
	flags    uint64
	restorer uintptr
	mask     uint64
}

// lastSignal is the highest number of a signal.
const lastSignal = 64

// kept are signals that stay with the Go runtime: KILL and STOP have no handlers, URG
// is its scheduler's, a broken pipe and children are this process's own business.
var kept = []unix.Signal{unix.SIGKILL, unix.SIGSTOP, unix.SIGURG, unix.SIGPIPE, unix.SIGCHLD}

// faults are signals that the Go runtime turns into panics when the kernel sends them.
// Those that somebody else has sent are relayed.
var faults = []unix.Signal{unix.SIGSEGV, unix.SIGBUS, unix.SIGFPE, unix.SIGILL, unix.SIGTRAP}

// endings are signals that people and service managers end a program with.
var endings = []unix.Signal{unix.SIGHUP, unix.SIGINT, unix.SIGTERM}

// handled are the signals that have a handler of ours.
var handled unix.Sigset_t

// Hold has this process survive the signals that would end it, but for the kept ones:
// something is half made, and is to be finished or removed. A Relay that follows tells of
// them. As for Relay, there can be no os/signal beside it.
func Hold() error { return handle(true, harmless...) }

// harmless are signals that end nobody by default.
var harmless = []unix.Signal{unix.SIGWINCH, unix.SIGCONT, unix.SIGTSTP, unix.SIGTTIN, unix.SIGTTOU}

// Relay passes the signals that this process gets on to the process behind pidfd,
// but for the kept ones and except; when it returns, none is lost. Nobody else is
// told of them: it cannot be combined with os/signal for the same signals. There is
// one relay at a time, and StopRelay ends it before pidfd is closed. It fails with
// ErrUnavailable if a signal was held that asks for an end.
//
// The handler is a few machine instructions that call pidfd_send_signal(2). Through
// os/signal, the same took 130 changes between threads to ask for all the signals:
// a fourth of a short container's life.
func Relay(pidfd *os.File, except ...unix.Signal) error {
	if !atomic.CompareAndSwapInt32(&relayTo, -1, int32(pidfd.Fd())) {
		return errdefs.New(errdefs.ErrConflict, "relay signals: already relayed to another process")
	}
	for _, sig := range endings {
		if atomic.LoadUint32(&came[sig]) != 0 {
			return errdefs.New(errdefs.ErrUnavailable, "interrupted by %s", unix.SignalName(sig))
		}
	}
	if err := handle(false, except...); err != nil {
		return err
	}
	// The caller of this program may have left signals blocked. One thread that takes
	// them is enough.
	return unix.PthreadSigmask(unix.SIG_UNBLOCK, &handled, nil)
}

// handle sets the handlers that are not set yet. Those that this process was born to
// ignore can be left alone, for what it starts is to ignore them, too.
func handle(leaveIgnored bool, except ...unix.Signal) error {
	all, fault := relayHandlers()
	if all == 0 {
		return errdefs.New(errdefs.ErrUnsupported, "relay signals: not supported on %s", HostArch)
	}
	var action, old sigaction // SIGURG's is the Go runtime's, with its flags and return path
	if err := rtSigaction(unix.SIGURG, nil, &action); err != nil {
		return err
	}
	faultHandler = action.handler
	for sig := unix.Signal(1); sig <= lastSignal; sig++ {
		if handled.Val[0]>>(sig-1)&1 != 0 || slices.Contains(kept, sig) || slices.Contains(except, sig) {
			continue
		}
		action.handler = all
		if slices.Contains(faults, sig) {
			action.handler = fault
		}
		err := rtSigaction(sig, &action, &old)
		if err == nil && leaveIgnored && old.handler == ignored {
			err = rtSigaction(sig, &old, nil)
		} else {
			handled.Val[0] |= 1 << (sig - 1)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// ignored is SIG_IGN.
const ignored = 1

// StopRelay ends the passing on. The handlers stay and swallow the signals: what
// remains to be done is to clean up after the process, which none should interrupt.
func StopRelay() { atomic.StoreInt32(&relayTo, -1) }

func rtSigaction(sig unix.Signal, action, old *sigaction) error {
	_, _, errno := unix.RawSyscall6(unix.SYS_RT_SIGACTION, uintptr(sig),
		uintptr(unsafe.Pointer(action)), uintptr(unsafe.Pointer(old)), unsafe.Sizeof(action.mask), 0, 0)
	if errno != 0 {
		return fmt.Errorf("handle signal %d: %w", int(sig), errno)
	}
	return nil
}
