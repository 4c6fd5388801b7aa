package runtime

import (
	"math/bits"
	"os"
	"strconv"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"box/internal/errdefs"
	"box/pkg/label"
	"box/pkg/plan"
	"box/pkg/spec/gen"
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

// gatherFacts looks at our own process and at the kernel.
func gatherFacts() plan.Facts {
	f := plan.Facts{LastCap: lastCapability()}
	f.Streams, f.Nulls = standardStreams()
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var sets [2]unix.CapUserData
	if err := unix.Capget(&header, &sets[0]); err == nil {
		f.Held = uint64(sets[1].Permitted)<<32 | uint64(sets[0].Permitted)
	}
	return f
}

// lookForModules adds to the facts what a wish for confinement depends on; without one,
// the look is saved. mounts is the label of mounts.
func lookForModules(f *plan.Facts, p *specs.Process, mounts string) {
	if p.ApparmorProfile+p.SelinuxLabel+mounts != "" {
		f.Modules = label.Look()
	}
}

// standardStreams looks at stdio: what of it can be given to the command's user, and
// which descriptors are the host's /dev/null. Other devices belong to the host, too.
func standardStreams() (streams []plan.Stream, nulls []int) {
	for fd := range plan.FirstPreserved {
		var st unix.Stat_t
		switch err := unix.Fstat(fd, &st); {
		case err != nil: // closed
		case st.Mode&unix.S_IFMT == unix.S_IFBLK:
		case st.Mode&unix.S_IFMT != unix.S_IFCHR:
			kind := st.Mode & unix.S_IFMT
			streams = append(streams, plan.Stream{FD: fd, UID: st.Uid, File: kind != unix.S_IFIFO && kind != unix.S_IFSOCK})
		case st.Rdev == unix.Mkdev(plan.NullMajor, plan.NullMinor):
			nulls = append(nulls, fd)
		}
	}
	return streams, nulls
}

// callersPipes are the names of our standard streams that are pipes, as procfs has them
// ("pipe:[INODE]", proc_pid_fd(5)): by number, "" for the others, nil if none is. It is
// written down for a checkpoint: what the container has put there by then may be a pipe
// of its own, and the caller's may have gone to another descriptor or process.
func callersPipes() []string {
	var names []string
	for fd := range plan.FirstPreserved {
		var st unix.Stat_t
		var fs unix.Statfs_t
		if unix.Fstat(fd, &st) != nil || st.Mode&unix.S_IFMT != unix.S_IFIFO || unix.Fstatfs(fd, &fs) != nil || fs.Type != unix.PIPEFS_MAGIC {
			continue // a fifo with a name has a file of its own, which criu opens again
		}
		if names == nil {
			names = make([]string, plan.FirstPreserved)
		}
		names[fd] = "pipe:[" + strconv.FormatUint(st.Ino, 10) + "]"
	}
	return names
}

// lastCapability asks the kernel for one capability after the other, beginning where
// our table ends: one or two calls.
func lastCapability() int {
	known := func(n int) bool {
		_, err := unix.PrctlRetInt(unix.PR_CAPBSET_READ, uintptr(n), 0, 0, 0)
		return err == nil
	}
	n := len(plan.Capabilities()) - 1
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

// home looks a user up in the passwd of a root directory; "/" if it is not there,
// or if the file is none that we would read (it belongs to the image).
func home(root string, uid uint32) string {
	fd, err := unix.Open(root, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return "/"
	}
	dir := os.NewFile(uintptr(fd), root)
	defer dir.Close()
	_, home, err := gen.ResolveUser(dir, strconv.FormatUint(uint64(uid), 10))
	if err != nil || home == "" {
		return "/"
	}
	return home
}

// environment is plan.Environment with the home directory from the passwd of a root
// directory.
func environment(p *specs.Process, root string) []string {
	return plan.Environment(p, func(uid uint32) string { return home(root, uid) })
}
