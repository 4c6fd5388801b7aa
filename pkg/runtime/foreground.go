package runtime

import (
	"os"
	"os/signal"
	"sync"

	"golang.org/x/sys/unix"
)

// signalled is added to a signal's number to make an exit code, as shells do.
const signalled = 128

// await waits for the end of a child and returns its exit code. As a subreaper we
// may be handed orphans of a container that shares the host's pid namespace; they
// are collected on the way.
func await(pid int) (int, error) {
	for {
		var ws unix.WaitStatus
		got, err := unix.Wait4(-1, &ws, 0, nil)
		switch {
		case err == unix.EINTR:
			continue
		case err != nil:
			return 0, os.NewSyscallError("wait4", err)
		case got == pid && ws.Signaled():
			return signalled + int(ws.Signal()), nil
		case got == pid && ws.Exited():
			return ws.ExitStatus(), nil
		}
	}
}

// forwarder passes the signals we get on to a process in the foreground. A nil
// forwarder does nothing.
type forwarder struct {
	mu     sync.Mutex
	pidfd  *os.File // nil when the process has ended
	resize func()   // for SIGWINCH, when we keep the process's terminal
}

// forward begins to pass signals on. The pidfd makes sure that none goes to a
// stranger who was given the pid after our process ended.
//
// Asking for all signals takes the Go runtime half a millisecond, so it is done
// beside the launch program's work; a signal that comes before has its default
// effect, which ends us and with us the program.
func forward(pidfd *os.File) *forwarder {
	f := &forwarder{pidfd: pidfd}
	go func() {
		ch := make(chan os.Signal, 64)
		signal.Notify(ch)
		for s := range ch {
			if sig, ok := s.(unix.Signal); ok {
				f.pass(sig)
			}
		}
	}()
	return f
}

func (f *forwarder) pass(sig unix.Signal) {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case f.pidfd == nil, sig == unix.SIGCHLD, sig == unix.SIGURG, sig == unix.SIGPIPE:
		// SIGURG is the Go scheduler's own; a broken pipe is ours, not the container's.
	case sig == unix.SIGWINCH && f.resize != nil:
		f.resize()
	default:
		_ = unix.PidfdSendSignal(int(f.pidfd.Fd()), sig, nil, 0)
	}
}

// onResize sets what SIGWINCH does.
func (f *forwarder) onResize(resize func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.resize = resize
}

// stop ends the passing on. The handlers stay: the process is about to exit, and to
// take out sixty of them would cost a tenth of a container's life.
func (f *forwarder) stop() {
	if f == nil {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.pidfd = nil
}
