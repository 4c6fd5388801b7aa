package legacy

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"box/pkg/cgroups/kernfs"
)

// guardFile is locked (flock(2)) by whoever changes the limit of processes, for good or
// for the moment of a fork: of two that put back what they have found, one would put back
// what the other had changed. The directory of the group would do, too, but for those who
// see it and could lock it: every user of the host, and the container itself.
const guardFile = "limits.lock"

// How long the lock is waited for. A fork takes a millisecond, unless the child is frozen
// on its way: then whoever would let it go on must not wait, nor anybody for whom he may be
// waiting. Who forks, too, is waited for by nobody.
const (
	changePatience = 100 * time.Millisecond
	forkPatience   = 10 * time.Second
)

// Guard names the directory for the lock, which is private to those who change limits,
// and is there for as long as the group is. It may be asked of nil.
func (g *Group) Guard(dir string) {
	if g != nil {
		g.guard = dir
	}
}

// Hold takes the lock to change the limit of processes, until release, or does without
// after a moment: then the change stays all the same.
func (g *Group) Hold() (release func(), err error) {
	l, err := g.hold(changePatience)
	return l.release, err
}

// lock is the lock, held. Nil is none: there is nobody else, or it was not waited for.
type lock struct{ fd int }

// hold takes the lock if that does not take too long, and puts right what the last who held
// it was killed over. Without a directory there is nobody else.
func (g *Group) hold(patience time.Duration) (*lock, error) {
	if g.guard == "" {
		return nil, nil //nolint:nilnil // the nil lock is one that nobody needs
	}
	name := filepath.Join(g.guard, guardFile)
	fd, err := unix.Open(name, unix.O_RDWR|unix.O_CREAT|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: name, Err: err}
	}
	err = unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB)
	if err == unix.EWOULDBLOCK {
		return awaitLock(fd, name, patience)
	}
	return locked(fd, name, err)
}

// awaitLock waits its turn for the lock. What comes after the patience is over is given
// back at once.
func awaitLock(fd int, name string, patience time.Duration) (*lock, error) {
	got := make(chan error, 1)
	go func() {
		err := unix.Flock(fd, unix.LOCK_EX)
		for err == unix.EINTR {
			err = unix.Flock(fd, unix.LOCK_EX)
		}
		got <- err
	}()
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case err := <-got:
		return locked(fd, name, err)
	case <-timer.C:
		go func() {
			<-got
			unix.Close(fd)
		}()
		return nil, nil //nolint:nilnil // the nil lock is one that was not waited for
	}
}

// locked is the result of hold when flock(2) has given its own.
func locked(fd int, name string, err error) (*lock, error) {
	if err != nil {
		unix.Close(fd)
		return nil, &os.PathError{Op: "flock", Path: name, Err: err}
	}
	l := &lock{fd}
	if r, ok := l.noted(); ok {
		if err := r.undo(); err != nil {
			unix.Close(fd)
			return nil, err
		}
		l.forget()
	}
	return l, nil
}

// forget takes a note back.
func (l *lock) forget() {
	if l != nil {
		_ = unix.Ftruncate(l.fd, 0) // which needs no space
	}
}

// release gives the lock back.
func (l *lock) release() {
	if l != nil {
		unix.Close(l.fd)
	}
}

// raise is a limit of processes that is one higher for a moment.
type raise struct {
	file  string // pids.max of a group
	limit uint64 // as it was
}

func (r raise) do() error { return kernfs.Write(r.file, strconv.FormatUint(r.limit+1, 10)) }

func (r raise) undo() error {
	now, limited, err := processLimit(r.file)
	if kernfs.Gone(err) {
		return nil
	}
	if err != nil || !limited || now != r.limit+1 { // somebody who did not wait has changed it
		return err
	}
	return kernfs.Write(r.file, strconv.FormatUint(r.limit, 10))
}

// note writes down what is to be undone, for the next who holds the lock, if we are killed
// before we do that. Where there is no space for it we had better not be killed.
func (l *lock) note(r raise) {
	if l != nil {
		_, _ = unix.Pwrite(l.fd, fmt.Append(nil, r.limit, " ", r.file), 0)
	}
}

// noted reads what a note says that nobody has taken back.
func (l *lock) noted() (r raise, ok bool) {
	var text [unix.PathMax + 32]byte
	n, err := unix.Pread(l.fd, text[:], 0)
	if n <= 0 || err != nil {
		return raise{}, false
	}
	limit, file, _ := strings.Cut(string(text[:n]), " ")
	r.file = file
	r.limit, err = strconv.ParseUint(limit, 10, 63)
	return r, err == nil && filepath.IsAbs(file)
}

// processLimit reads pids.max, which may be "max".
func processLimit(file string) (limit uint64, limited bool, err error) {
	data, err := kernfs.Read(file)
	if err != nil {
		return 0, false, err
	}
	limit, err = strconv.ParseUint(strings.TrimSpace(data), 10, 63)
	return limit, err == nil, nil
}
