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
	"box/internal/sys"
)

const lockFile = "lock"

// Lock is the right to change one container. It comes with the container's
// run directory, which exists as long as the lock is held. It is held by one
// engine or monitor, and for the moment of a start by both.
type Lock struct {
	dir  string
	file *os.File
}

// ErrLocked says that somebody else holds the lock: a monitor, or a command
// that creates, starts or removes the container at this moment.
var ErrLocked = errdefs.New(errdefs.ErrConflict, "container is in use")

// TryLock takes the lock of id, or returns ErrLocked.
func (s *Store) TryLock(id string) (*Lock, error) {
	return s.lock(id, func(f *os.File) error { return try(f, byHolder) })
}

// ErrRunning says that the holder of the lock is the monitor of a container
// that runs.
var ErrRunning = errdefs.New(errdefs.ErrConflict, "container is running")

// LockAtRest waits for everybody who holds the lock of id for a moment. If that
// turns out to be the start of the container it returns ErrRunning, and does
// not wait for its end.
func (s *Store) LockAtRest(ctx context.Context, id string) (*Lock, error) {
	lock, err := s.TryLock(id)
	if !errors.Is(err, ErrLocked) {
		return lock, err
	}
	saved, err := sys.Watch(s.Dir(id), unix.IN_MOVED_TO) // as Save does
	if errors.Is(err, os.ErrNotExist) {
		return s.LockContext(ctx, id) // it is being removed
	}
	if err != nil {
		return nil, err
	}
	ctx, running := context.WithCancelCause(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		if s.awaitRunning(id, saved) {
			running(ErrRunning)
		}
	}()
	lock, err = s.LockContext(ctx, id)
	_ = saved.Close()
	<-done
	running(nil)
	return lock, err
}

// awaitRunning waits until the record of id says that it runs; false when saved
// was closed before.
func (s *Store) awaitRunning(id string, saved *os.File) bool {
	for buf := make([]byte, sys.WatchBuffer); ; {
		if r, err := s.Load(id); err == nil && r.State.Status == Running {
			return true
		}
		if _, err := saved.Read(buf); err != nil {
			return false
		}
	}
}

// LockContext waits until the lock of id is free or ctx ends.
func (s *Store) LockContext(ctx context.Context, id string) (*Lock, error) {
	return s.lock(id, func(f *os.File) error { return wait(ctx, f, byHolder) })
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

// Open file description locks (fcntl(2), "Open file description locks") behave as
// flock(2) does, and can also be asked about without being taken. The lock file
// has two:
var (
	byHolder  = unix.Flock_t{Type: unix.F_WRLCK, Start: 0, Len: 1} // the Lock
	byRuntime = unix.Flock_t{Type: unix.F_WRLCK, Start: 1, Len: 1} // see RuntimeFile
)

func try(f *os.File, lk unix.Flock_t) error {
	return unix.FcntlFlock(f.Fd(), unix.F_OFD_SETLK, &lk)
}

// wait waits in a thread of its own, since the wait cannot be
// interrupted by closing the file. When ctx ends first the thread stays until
// the lock is released, gets it, and gives it back.
func wait(ctx context.Context, f *os.File, lk unix.Flock_t) error {
	if err := try(f, lk); !errors.Is(err, unix.EAGAIN) {
		return err
	}
	dup, err := unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return err
	}
	done := make(chan error, 1)
	go func() {
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

// RuntimeFile returns a file that the runtime is to inherit. It is how AwaitRuntime
// knows of a runtime that outlives the holder of the lock by a moment. The Lock
// itself would not do: runtimes pass open files on to the process that becomes
// the container's, which waits for ever for its start if they are killed.
func (l *Lock) RuntimeFile() (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(l.dir, lockFile), os.O_RDWR, 0)
	if err != nil {
		return nil, fmt.Errorf("lock for the runtime: %w", err)
	}
	if err := try(f, byRuntime); err != nil {
		return nil, errors.Join(fmt.Errorf("lock for the runtime %s: %w", f.Name(), err), f.Close())
	}
	return f, nil
}

// AwaitRuntime waits until nobody has the RuntimeFile of an earlier holder open.
func (l *Lock) AwaitRuntime(ctx context.Context) error {
	f, err := os.OpenFile(filepath.Join(l.dir, lockFile), os.O_RDWR, 0)
	if err != nil {
		return fmt.Errorf("wait for the runtime: %w", err)
	}
	defer f.Close()
	if err := wait(ctx, f, byRuntime); err != nil {
		return fmt.Errorf("wait for the runtime: %w", err)
	}
	return nil
}

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

// Orphans lists the run directories whose lock is free: those of containers (IsID)
// whose monitor, creator or remover was killed, and those of others who work in
// the run root, such as the steps of a build.
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
		case !s.Locked(name):
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
	lk := byHolder
	return unix.FcntlFlock(f.Fd(), unix.F_OFD_GETLK, &lk) == nil && lk.Type != unix.F_UNLCK
}
