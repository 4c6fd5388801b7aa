package record

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"box/internal/errdefs"
)

const lockFile = "lock"

// Lock is the right to change one container. It comes with the container's
// run directory, which exists as long as the lock is held.
type Lock struct {
	dir  string
	file *os.File
}

// ErrLocked says that somebody else holds the lock: a monitor, or a command
// that creates, starts or removes the container at this moment.
var ErrLocked = errdefs.New(errdefs.ErrConflict, "container is in use")

// TryLock takes the lock of id, or returns ErrLocked.
func (s *Store) TryLock(id string) (*Lock, error) {
	return s.lock(id, tryExclusive)
}

// LockContext waits until the lock of id is free or ctx ends.
func (s *Store) LockContext(ctx context.Context, id string) (*Lock, error) {
	return s.lock(id, func(f *os.File) error { return waitExclusive(ctx, f) })
}

// lock opens the lock file, making the run directory if needed, and takes the
// lock. A holder removes the file before it lets go, so after the wait the
// file may be nobody's any more: then it starts again.
func (s *Store) lock(id string, take func(*os.File) error) (*Lock, error) {
	dir := s.RunDir(id)
	for {
		f, err := openLock(dir)
		if errors.Is(err, os.ErrNotExist) {
			continue // removed between mkdir and open
		}
		if err != nil {
			return nil, fmt.Errorf("lock container %s: %w", id, err)
		}
		err = take(f)
		if err == nil && current(f) {
			return &Lock{dir: dir, file: f}, nil
		}
		_ = f.Close() // nothing was written
		switch {
		case err == nil, errors.Is(err, unix.EINTR):
		case errors.Is(err, unix.EAGAIN):
			return nil, ErrLocked
		default:
			return nil, fmt.Errorf("lock container %s: %w", id, err)
		}
	}
}

func openLock(dir string) (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(dir, lockFile), os.O_RDWR|os.O_CREATE, 0o600)
	if !errors.Is(err, os.ErrNotExist) {
		return f, err
	}

	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, os.ErrExist) {
		return nil, pathError(err)
	}
	return os.OpenFile(filepath.Join(dir, lockFile), os.O_RDWR|os.O_CREATE, 0o600)
}

// pathError hides ENOENT of a missing parent, which would make lock loop.
func pathError(err error) error {
	if errors.Is(err, os.ErrNotExist) {
		return errdefs.New(errdefs.ErrInvalid, "%s", err.Error())
	}
	return err
}

// An open file description lock (fcntl(2), "Open file description locks")
// behaves as flock(2) does, and can also be asked about without being taken.
var exclusive = unix.Flock_t{Type: unix.F_WRLCK, Whence: 0}

func tryExclusive(f *os.File) error {
	lk := exclusive
	return unix.FcntlFlock(f.Fd(), unix.F_OFD_SETLK, &lk)
}

// waitExclusive waits in a thread of its own, since the wait cannot be
// interrupted by closing the file. When ctx ends first the thread stays until
// the lock is released, gets it, and gives it back.
func waitExclusive(ctx context.Context, f *os.File) error {
	if err := tryExclusive(f); !errors.Is(err, unix.EAGAIN) {
		return err
	}
	dup, err := unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return err
	}
	done := make(chan error, 1)
	go func() {
		lk := exclusive
		err := unix.FcntlFlock(uintptr(dup), unix.F_OFD_SETLKW, &lk)
		// Before the answer: the lock lasts as long as any descriptor, and must
		// end when the caller closes his.
		_ = unix.Close(dup)
		done <- err
	}()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// current tells whether f is still the file that the path names.
func current(f *os.File) bool {
	var held, named unix.Stat_t
	if unix.Fstat(int(f.Fd()), &held) != nil || unix.Stat(f.Name(), &named) != nil {
		return false
	}
	return held.Ino == named.Ino && held.Dev == named.Dev
}

// Inherited wraps the lock that a parent process holds and passed on as an
// open file.
func (s *Store) Inherited(id string, f *os.File) *Lock {
	return &Lock{dir: s.RunDir(id), file: f}
}

// File is the open lock file, to be passed on to a child. The lock belongs to
// the open file: it ends when the last process closes it.
func (l *Lock) File() *os.File { return l.file }

// Dir is the run directory.
func (l *Lock) Dir() string { return l.dir }

// Unlock removes the run directory and lets the lock go. The directory is
// renamed first, so that nobody can take a new lock in it while its files go.
func (l *Lock) Unlock() error {
	gone := l.dir + goneSuffix
	err := os.Rename(l.dir, gone)
	if errors.Is(err, os.ErrExist) || errors.Is(err, unix.ENOTEMPTY) {
		_ = os.RemoveAll(gone) // left by one who was killed at the next line
		err = os.Rename(l.dir, gone)
	}
	if err == nil {
		err = os.RemoveAll(gone)
	}
	return errors.Join(err, l.file.Close())
}

const goneSuffix = ".gone"

// Abandon lets go of this process's share without touching the run directory:
// after the lock has been passed on.
func (l *Lock) Abandon() error { return l.file.Close() }

// Orphans lists the ids whose run directory exists while the lock is free: of
// containers whose monitor, creator or remover was killed.
func (s *Store) Orphans() ([]string, error) {
	dir := filepath.Join(s.runRoot, "containers")
	entries, err := os.ReadDir(dir)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list run directories: %w", err)
	}
	var ids []string
	for _, e := range entries {
		switch name := e.Name(); {
		case strings.HasSuffix(name, goneSuffix):
			_ = os.RemoveAll(filepath.Join(dir, name))
		case IsID(name) && !s.Locked(name):
			ids = append(ids, name)
		}
	}
	return ids, nil
}

// Locked tells whether somebody holds the lock of id, without taking it.
func (s *Store) Locked(id string) bool {
	f, err := os.OpenFile(filepath.Join(s.RunDir(id), lockFile), os.O_RDWR, 0)
	if err != nil {
		return false
	}
	defer f.Close()
	lk := exclusive
	return unix.FcntlFlock(f.Fd(), unix.F_OFD_GETLK, &lk) == nil && lk.Type != unix.F_UNLCK
}
