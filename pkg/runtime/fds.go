package runtime

import (
	"math/bits"
	"os"
	"strconv"

	"golang.org/x/sys/unix"

	"box/internal/errdefs"
	"box/pkg/label"
)

// descriptors are the program's own, above stdio and what is passed on to the
// command. They are numbers in the program; Files says what is put there.
//
//	0 1 2                    stdio, inherited
//	3 … 3+N-1                --preserve-fds, inherited
//	report                   pipe to the parent: marks and failures
//	permit                   pipe from the parent: a word lets the program go on
//	start                    fifo of start, unless the command runs at once
//	… further ones           namespaces to join, detached mounts: see extra
type descriptors struct {
	free           int // lowest descriptor that the command must not see
	report, permit int
	start          int // 0 if the program does not wait for start
	files          []*os.File
	handed         []*os.File // those of files that we close after the fork
}

// firstPreserved is the descriptor after stdio, as with systemd's LISTEN_FDS.
const firstPreserved = 3

// CountInherited returns how many descriptors the caller has left open to us, from 3
// on without a gap. It is for the very beginning of a program, and tells them from
// those that the Go runtime has opened already by their not being close-on-exec: who
// is, would not have come through our own execve.
func CountInherited() int {
	n := 0
	for {
		flags, err := unix.FcntlInt(uintptr(firstPreserved+n), unix.F_GETFD, 0)
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
		return nil, errdefs.New(errdefs.ErrInvalid, "preserve descriptor %d: the caller has not opened it", firstPreserved+r.Inherited)
	}
	d := &descriptors{files: []*os.File{os.Stdin, os.Stdout, os.Stderr}}
	for n := firstPreserved; n < firstPreserved+preserve; n++ {
		d.files = append(d.files, os.NewFile(uintptr(n), "preserved descriptor "+strconv.Itoa(n)))
	}
	d.free = len(d.files)
	d.report = d.free
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
	d.permit = d.hand(os.NewFile(uintptr(fds[0]), "permit pipe"))
	return os.NewFile(uintptr(fds[1]), "permit pipe"), nil
}

// openStart opens the fifo of start for the program. Both ways, so that opening waits
// for nobody; it reads the word from it, and writes to it what fails after that.
func (d *descriptors) openStart(c *container) error {
	fd, err := unix.Open(c.path(startFifo), unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return &os.PathError{Op: "open", Path: c.path(startFifo), Err: err}
	}
	d.start = d.hand(os.NewFile(uintptr(fd), startFifo))
	return nil
}

// idle is the first descriptor after the channels between the program and us.
func (d *descriptors) idle() int { return max(d.report, d.permit, d.start) + 1 }

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

// facts are what planning needs to know of the host. They are gathered first, as a
// plain value, so that the plan is a pure function of the spec and of them.
type facts struct {
	held    uint64     // capabilities that we can hand on
	lastCap int        // highest capability that the kernel knows
	streams []stream   // stdio, as far as it is open and no device
	nulls   []int      // which of stdio are the host's /dev/null
	stay    bool       // the caller's own streams are used, and it uses them too (foreground)
	listen  int        // descriptors of socket activation (sd_listen_fds(3))
	modules label.Host // security modules, as far as somebody asks for one (lookFor)
}

func gatherFacts() facts {
	f := facts{lastCap: lastCapability(), listen: listenFDs()}
	f.streams, f.nulls = standardStreams()
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var sets [2]unix.CapUserData
	if err := unix.Capget(&header, &sets[0]); err == nil {
		f.held = uint64(sets[1].Permitted)<<32 | uint64(sets[0].Permitted)
	}
	return f
}

// stream is a pipe, a socket or a file at a standard descriptor.
type stream struct {
	fd   int
	uid  uint32 // its owner
	file bool   // it has a name, and is the caller's for longer than we run
}

// standardStreams looks at stdio: what of it can be given to the command's user, and
// which descriptors are the host's /dev/null. Other devices belong to the host, too.
func standardStreams() (streams []stream, nulls []int) {
	for fd := range firstPreserved {
		var st unix.Stat_t
		switch err := unix.Fstat(fd, &st); {
		case err != nil: // closed
		case st.Mode&unix.S_IFMT == unix.S_IFBLK:
		case st.Mode&unix.S_IFMT != unix.S_IFCHR:
			kind := st.Mode & unix.S_IFMT
			streams = append(streams, stream{fd, st.Uid, kind != unix.S_IFIFO && kind != unix.S_IFSOCK})
		case st.Rdev == unix.Mkdev(nullMajor, nullMinor):
			nulls = append(nulls, fd)
		}
	}
	return streams, nulls
}

// lastCapability asks the kernel for one capability after the other, beginning where
// our table ends: one or two calls.
func lastCapability() int {
	known := func(n int) bool {
		_, err := unix.PrctlRetInt(unix.PR_CAPBSET_READ, uintptr(n), 0, 0, 0)
		return err == nil
	}
	n := len(capabilityNames) - 1
	for n > 0 && !known(n) {
		n--
	}
	for n < bits.UintSize-1 && known(n+1) {
		n++
	}
	return n
}

// listenFDs is the number of descriptors that a service manager has passed to us:
// they are for the container.
func listenFDs() int {
	if os.Getenv("LISTEN_PID") != strconv.Itoa(os.Getpid()) {
		return 0
	}
	n, err := strconv.Atoi(os.Getenv("LISTEN_FDS"))
	if err != nil || n < 0 {
		return 0
	}
	return n
}
