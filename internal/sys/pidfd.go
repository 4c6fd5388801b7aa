package sys

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// PidfdOpen opens a descriptor that stays bound to the process pid names now, so
// that later signals cannot reach a stranger with a recycled number.
func PidfdOpen(pid int) (*os.File, error) {
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return nil, fmt.Errorf("open pidfd of process %d: %w", pid, err)
	}
	return file(fd, fmt.Sprintf("pidfd of %d", pid)), nil
}

// PidfdSendSignal sends sig to the process behind pidfd; signal 0 only asks whether
// it is there. A process that is gone gives unix.ESRCH.
func PidfdSendSignal(pidfd *os.File, sig unix.Signal) error {
	if err := unix.PidfdSendSignal(int(pidfd.Fd()), sig, nil, 0); err != nil {
		return fmt.Errorf("signal %s: %w", pidfd.Name(), err)
	}
	return nil
}

// PidfdGetfd copies descriptor fd out of the process behind pidfd. It needs ptrace
// rights over that process.
func PidfdGetfd(pidfd *os.File, fd int) (*os.File, error) {
	n, err := unix.PidfdGetfd(int(pidfd.Fd()), fd, 0)
	if err != nil {
		return nil, fmt.Errorf("copy fd %d from %s: %w", fd, pidfd.Name(), err)
	}
	return file(n, fmt.Sprintf("fd %d of %s", fd, pidfd.Name())), nil
}

// PollPidfd waits until the process behind pidfd has exited or millis milliseconds
// have passed (-1: no limit), and reports whether it has exited. It works for
// processes that are not our children and reaps nothing.
func PollPidfd(pidfd *os.File, millis int) (exited bool, err error) {
	fds := []unix.PollFd{{Fd: int32(pidfd.Fd()), Events: unix.POLLIN}}
	var n int
	err = ignoringEINTR(func() error { n, err = unix.Poll(fds, millis); return err })
	if err != nil {
		return false, fmt.Errorf("wait for %s: %w", pidfd.Name(), err)
	}
	return n > 0, nil
}

// WaitPidfd waits for the child behind pidfd, reaps it and returns how it ended.
// Only its parent can.
func WaitPidfd(pidfd *os.File) (unix.WaitStatus, error) {
	var info siginfoChild
	err := ignoringEINTR(func() error { return waitid(unix.P_PIDFD, int(pidfd.Fd()), &info, unix.WEXITED) })
	if err != nil {
		return 0, fmt.Errorf("wait for %s: %w", pidfd.Name(), err)
	}
	return info.waitStatus(), nil
}
