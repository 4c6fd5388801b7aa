package namespaces

import (
	"errors"
	"fmt"
	"os"
	"runtime"

	"golang.org/x/sys/unix"

	"box/internal/errdefs"
)

// Opened holds the namespace files of a Set.
type Opened struct {
	files  []*os.File // of Set.Joins
	ahead  *Ahead     // the first of them, if some were made ahead and not yet waited for
	parent []opened
}

type opened struct {
	file *os.File
	join Join
}

// Open opens the namespaces that the set joins, and checks that each is a namespace
// of the type the configuration says. The caller closes the result.
func (s *Set) Open() (*Opened, error) {
	joins, o := s.Joins, &Opened{}
	o.ahead = s.takeOver()
	for _, j := range joins {
		f, err := s.open(j)
		if err != nil {
			o.Close()
			return nil, err
		}
		o.files = append(o.files, f)
	}
	for _, j := range s.ParentJoins {
		f, err := j.open()
		if err != nil {
			o.Close()
			return nil, err
		}
		o.parent = append(o.parent, opened{f, j})
	}
	return o, nil
}

// open opens one of the program's joins, or makes it.
func (s *Set) open(j Join) (*os.File, error) {
	if j.Path == madeForIt {
		return s.makeUser()
	}
	return j.open()
}

func (j Join) open() (*os.File, error) {
	f, err := os.OpenFile(j.Path, os.O_RDONLY|unix.O_CLOEXEC|unix.O_NONBLOCK, 0) // non-blocking: it may turn out to be a fifo
	if err != nil {
		return nil, fmt.Errorf("open %s namespace: %w", j.Type, err)
	}
	flag, err := unix.IoctlRetInt(int(f.Fd()), unix.NS_GET_NSTYPE)
	if err != nil || uintptr(flag) != j.kind.flag {
		f.Close()
		return nil, errdefs.New(errdefs.ErrInvalid, "open %s namespace: %s is not one", j.Type, j.Path)
	}
	return f, nil
}

// Files returns the files of Set.Joins, in order, to be handed to the program. It waits
// for those that are being made ahead. They stay the Opened's own.
func (o *Opened) Files() ([]*os.File, error) {
	if a := o.ahead; a != nil {
		o.ahead = nil
		made, err := a.wait()
		if err != nil {
			return nil, err
		}
		o.files = append(made, o.files...)
	}
	return o.files, nil
}

// Close closes the files. Closing a nil Opened does nothing.
func (o *Opened) Close() {
	if o == nil {
		return
	}
	o.ahead.Drop()
	for _, f := range o.files {
		f.Close()
	}
	for _, p := range o.parent {
		p.file.Close()
	}
}

// Enter runs f, which forks, on a thread that has entered Set.ParentJoins. It is a
// plain call of f when there are none.
func (o *Opened) Enter(f func() error) error {
	if len(o.parent) == 0 {
		return f()
	}
	return onThread(func() error {
		for _, p := range o.parent {
			if err := p.enter(); err != nil {
				return err
			}
		}
		return f()
	})
}

func (p opened) enter() error {
	if p.join.kind.flag == unix.CLONE_NEWNS {
		// Threads share root and working directory, which forbids setns.
		if err := unix.Unshare(unix.CLONE_FS); err != nil {
			return fmt.Errorf("unshare working directory: %w", err)
		}
	}
	if err := unix.Setns(int(p.file.Fd()), int(p.join.kind.flag)); err != nil {
		return fmt.Errorf("join %s namespace %s: %w", p.join.Type, p.join.Path, err)
	}
	return nil
}

// EnterPid runs f, which forks, on a thread whose children are born in the pid
// namespace of the process behind pidfd.
func EnterPid(pidfd *os.File, f func() error) error {
	return enterOne(pidfd, unix.CLONE_NEWPID, "pid", f)
}

// EnterNetwork runs f on a thread in the network namespace of the process behind pidfd.
func EnterNetwork(pidfd *os.File, f func() error) error {
	return enterOne(pidfd, unix.CLONE_NEWNET, "network", f)
}

func enterOne(pidfd *os.File, flag int, name string, f func() error) error {
	return onThread(func() error {
		err := unix.Setns(int(pidfd.Fd()), flag)
		if errors.Is(err, unix.ESRCH) {
			return errdefs.New(errdefs.ErrConflict, "join %s namespace: process is gone: %w", name, err)
		}
		if err != nil {
			return fmt.Errorf("join %s namespace: %w", name, err)
		}
		return f()
	})
}

// onThread runs f on a thread of its own that no other goroutine will ever use: a
// goroutine that ends while locked takes its thread with it. (A parent-death signal
// asked for in f would therefore come at once.)
func onThread(f func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		if unix.Gettid() != unix.Getpid() {
			done <- f()
			return
		}
		// The first thread never ends, and /proc/self shows its namespaces. While we
		// hold it, f gets another one.
		done <- onThread(f)
		runtime.UnlockOSThread()
	}()
	return <-done
}
