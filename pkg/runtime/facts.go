package runtime

import (
	"math/bits"
	"os"
	"strconv"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"box/pkg/label"
	"box/pkg/plan"
	"box/pkg/spec/gen"
)

// This file looks at the host, so that planning need not: see plan.Facts.

// gatherFacts looks at our own process and at the kernel.
func gatherFacts() plan.Facts {
	f := plan.Facts{LastCap: lastCapability(), Confined: InUserNamespace()}
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
