package atomicfile

import (
	"context"
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// Lock is an exclusive or shared flock(2) on a file. The kernel releases it when
// the last copy of its descriptor is closed, so a killed holder never blocks others;
// the descriptor is close-on-exec, so a child does not hold it by accident.
type Lock struct{ f *os.File }

// LockFile takes the exclusive lock on path, waiting as long as it takes. The file
// is made (mode 0600) if it is missing.
func LockFile(path string) (*Lock, error) {
	return lock(path, unix.LOCK_EX)
}

// LockShared takes a lock on path that other shared holders may hold too.
func LockShared(path string) (*Lock, error) {
	return lock(path, unix.LOCK_SH)
}

// TryLock takes the exclusive lock on path if nobody holds it, and says whether it did.
func TryLock(path string) (*Lock, bool, error) {
	l, err := lock(path, unix.LOCK_EX|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		return nil, false, nil
	}
	return l, err == nil, err
}

// LockContext is LockFile that gives up when ctx ends. flock(2) itself cannot be
// interrupted safely, so the attempt is left behind and unlocks as soon as it succeeds.
func LockContext(ctx context.Context, path string) (*Lock, error) {
	return lockWith(path, func(f *os.File) error {
		err := flock(f, unix.LOCK_EX|unix.LOCK_NB)
		if !errors.Is(err, unix.EWOULDBLOCK) {
			return err
		}
		return flockContext(ctx, f)
	})
}

// flockContext waits for the lock in a goroutine with a descriptor of its own, so
// that closing f after giving up leaves that goroutine an open file to wait on.
func flockContext(ctx context.Context, f *os.File) error {
	fd, err := unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return err
	}
	done := make(chan error, 1)
	go func() {
		dup := os.NewFile(uintptr(fd), f.Name())
		done <- flock(dup, unix.LOCK_EX)
		dup.Close() // the lock lives on in f, unless that has been closed
	}()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// Unlock releases the lock. The file stays: removing it is safe only for the holder
// of the exclusive lock, before Unlock (waiters notice and lock the new file).
func (l *Lock) Unlock() error {
	return l.f.Close()
}

// File is the locked file, for handing the lock to a child process: the lock lives
// as long as any copy of this descriptor.
func (l *Lock) File() *os.File { return l.f }

func lock(path string, how int) (*Lock, error) {
	return lockWith(path, func(f *os.File) error { return flock(f, how) })
}

// lockWith opens and locks path until what it has locked is what path names: the
// previous holder may have removed the file while we waited.
func lockWith(path string, take func(*os.File) error) (*Lock, error) {
	for {
		f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|unix.O_CLOEXEC|unix.O_NOFOLLOW, 0o600)
		if err != nil {
			return nil, fmt.Errorf("lock %s: %w", path, err)
		}
		if err := take(f); err != nil {
			f.Close()
			return nil, fmt.Errorf("lock %s: %w", path, err)
		}
		if current(f, path) {
			return &Lock{f}, nil
		}
		f.Close()
	}
}

func flock(f *os.File, how int) error {
	for {
		err := unix.Flock(int(f.Fd()), how)
		if !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}

// current reports whether path still names the open file f.
func current(f *os.File, path string) bool {
	var open, named unix.Stat_t
	if unix.Fstat(int(f.Fd()), &open) != nil || unix.Lstat(path, &named) != nil {
		return false
	}
	return open.Dev == named.Dev && open.Ino == named.Ino
}
