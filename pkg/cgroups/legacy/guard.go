package legacy

import (
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
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
func (g *Group) Hold() (release func(), err error) { return g.hold(changePatience) }

// hold takes the lock if that does not take too long. Without a directory there is nobody
// else.
func (g *Group) hold(patience time.Duration) (release func(), err error) {
	if g.guard == "" {
		return func() {}, nil
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
func awaitLock(fd int, name string, patience time.Duration) (release func(), err error) {
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
		return func() {}, nil
	}
}

// locked is the result of hold when flock(2) has given its own.
func locked(fd int, name string, err error) (release func(), _ error) {
	if err != nil {
		unix.Close(fd)
		return nil, &os.PathError{Op: "flock", Path: name, Err: err}
	}
	return func() { unix.Close(fd) }, nil
}
