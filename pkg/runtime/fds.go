package runtime

import (
	"os"
	"strconv"

	"golang.org/x/sys/unix"

	"box/internal/errdefs"
	"box/pkg/plan"
)

// descriptors are the program's own, above stdio and what is passed on to the
// command: their numbers, and what is put there.
type descriptors struct {
	plan.Layout
	files  []*os.File // by number; nil is left to launch
	handed []*os.File // those of files that we close after the fork
}

// CountInherited returns how many descriptors the caller has left open to us, from 3
// on without a gap. It is for the very beginning of a program, and tells them from
// those that the Go runtime has opened already by their not being close-on-exec: who
// is, would not have come through our own execve.
func CountInherited() int {
	n := 0
	for {
		flags, err := unix.FcntlInt(uintptr(plan.FirstPreserved+n), unix.F_GETFD, 0)
		if err != nil || flags&unix.FD_CLOEXEC != 0 {
			return n
		}
		n++
	}
}

// newDescriptors lays out stdio and the preserved descriptors, and makes room for
// the report pipe, which launch puts there itself.
func (r *Runtime) newDescriptors(preserve int) (*descriptors, error) {
	if preserve > r.Inherited {
		return nil, errdefs.New(errdefs.ErrInvalid, "preserve descriptor %d: the caller has not opened it", plan.FirstPreserved+r.Inherited)
	}
	d := &descriptors{files: []*os.File{os.Stdin, os.Stdout, os.Stderr}}
	for n := plan.FirstPreserved; n < plan.FirstPreserved+preserve; n++ {
		d.files = append(d.files, os.NewFile(uintptr(n), "preserved descriptor "+strconv.Itoa(n)))
	}
	d.Free = len(d.files)
	d.Report = d.Free
	d.files = append(d.files, nil)
	return d, nil
}

// give puts a file at the next descriptor and returns its number.
func (d *descriptors) give(f *os.File) int {
	d.files = append(d.files, f)
	return len(d.files) - 1
}

// openPermit makes the pipe by which the parent lets the program go on, and returns
// its writing end.
func (d *descriptors) openPermit() (*os.File, error) {
	var fds [2]int
	if err := unix.Pipe2(fds[:], unix.O_CLOEXEC); err != nil {
		return nil, os.NewSyscallError("pipe2", err)
	}
	d.Permit = d.hand(os.NewFile(uintptr(fds[0]), "permit pipe"))
	return os.NewFile(uintptr(fds[1]), "permit pipe"), nil
}

// openStart opens the fifo of start for the program. Both ways, so that opening waits
// for nobody; it reads the word from it, and writes to it what fails after that.
func (d *descriptors) openStart(c *container) error {
	fd, err := unix.Open(c.path(startFifo), unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return &os.PathError{Op: "open", Path: c.path(startFifo), Err: err}
	}
	d.Start = d.hand(os.NewFile(uintptr(fd), startFifo))
	return nil
}

// hand puts a file at the next descriptor and leaves it to started to close it.
func (d *descriptors) hand(f *os.File) int {
	d.handed = append(d.handed, f)
	return d.give(f)
}

// started closes our copies of what only the program needs. It must come soon after
// the fork: the end of a pipe is only seen when no copy is left.
func (d *descriptors) started() {
	for _, f := range d.handed {
		f.Close()
	}
	d.handed = nil
}
