package legacy

import (
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// guardFile is locked (flock(2)) by whoever changes the limit of processes, for good or
// for the moment of a fork: of two that put back what they have found, one would put back
// what the other had changed. The directory of the group would do, too, but for those who
// see it and could lock it: every user of the host, and the container itself.
const guardFile = "limits.lock"

// Guard names the directory for the lock, which is private to those who change limits,
// and is there for as long as the group is. It may be asked of nil.
func (g *Group) Guard(dir string) {
	if g != nil {
		g.guard = dir
	}
}

// Hold takes the lock, until release. Without a directory there is nobody else.
func (g *Group) Hold() (release func(), err error) {
	if g.guard == "" {
		return func() {}, nil
	}
	name := filepath.Join(g.guard, guardFile)
	fd, err := unix.Open(name, unix.O_RDWR|unix.O_CREAT|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: name, Err: err}
	}
	for {
		switch err := unix.Flock(fd, unix.LOCK_EX); err {
		case nil:
			return func() { unix.Close(fd) }, nil
		case unix.EINTR:
		default:
			unix.Close(fd)
			return nil, &os.PathError{Op: "flock", Path: name, Err: err}
		}
	}
}
