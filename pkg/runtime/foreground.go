package runtime

import (
	"os"
	"os/signal"

	"golang.org/x/sys/unix"
)

// signalled is added to a signal's number to make an exit code, as shells do.
const signalled = 128

// await forwards the signals we get to the process and waits for its end. It
// returns the exit code. extra is called for SIGWINCH (nil without a terminal).
//
// As a subreaper we may be handed orphans of a container that shares the host's
// pid namespace; they are collected on the way.
func await(pid int, pidfd *os.File, resize func()) (int, error) {
	stop := forward(pidfd, resize)
	defer stop()
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

// forward passes every signal on that a process can pass on. The pidfd makes sure
// that none goes to a stranger who was given the pid after our process ended.
func forward(pidfd *os.File, resize func()) (stop func()) {
	ch := make(chan os.Signal, 64)
	signal.Notify(ch)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for s := range ch {
			sig, ok := s.(unix.Signal)
			switch {
			case !ok, sig == unix.SIGCHLD, sig == unix.SIGURG, sig == unix.SIGPIPE:
				// SIGURG is the Go scheduler's own; a broken pipe is ours, not the container's.
			case sig == unix.SIGWINCH && resize != nil:
				resize()
			default:
				_ = unix.PidfdSendSignal(int(pidfd.Fd()), sig, nil, 0)
			}
		}
	}()
	return func() {
		signal.Stop(ch)
		close(ch)
		<-done
	}
}
