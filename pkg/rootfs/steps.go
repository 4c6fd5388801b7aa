package rootfs

import (
	"strconv"

	"golang.org/x/sys/unix"

	"box/pkg/launch"
)

// The words of the steps are often the same for hundreds of steps; what differs is
// the name. These make the calls readable where they are used.

const emptyPath = launch.Text("")

func itoa(n int) string { return strconv.Itoa(n) }

// lookup is an openat2 of path below dir.
type lookup struct {
	dir     launch.Arg
	path    string
	flags   uint64 // O_PATH and O_CLOEXEC are added
	resolve uint64 // inRoot if zero
}

// open makes the step that carries the look-up out.
func (r *Rootfs) open(l lookup, into launch.Slot, name, why string, allow ...launch.Allow) launch.Step {
	if l.resolve == 0 {
		l.resolve = inRoot
	}
	return launch.Step{
		Name: name, Why: why, Call: launch.Openat2, Into: into,
		Allow: append(allow, launch.Allow{Errno: unix.EAGAIN, To: launch.Again}),
		Args:  launch.Args{l.dir, launch.Text(rel(l.path)), r.how(l.flags|unix.O_PATH|unix.O_CLOEXEC, l.resolve), launch.Int(launch.OpenHowSize)},
	}
}

// how shares equal open_how structures between steps.
func (r *Rootfs) how(flags, resolve uint64) *launch.Data {
	key := [2]uint64{flags, resolve}
	if r.hows == nil {
		r.hows = map[[2]uint64]*launch.Data{}
	}
	if r.hows[key] == nil {
		r.hows[key] = launch.OpenHow(flags, 0, resolve)
	}
	return r.hows[key]
}

// attach makes the step that puts the detached mount from on the directory or file to.
func attach(from, to launch.Slot, name, why string) launch.Step {
	return launch.Step{
		Name: name, Why: why, Call: launch.MoveMount,
		Args: launch.Args{from, emptyPath, to, emptyPath, launch.Int(unix.MOVE_MOUNT_F_EMPTY_PATH | unix.MOVE_MOUNT_T_EMPTY_PATH)},
	}
}

// clone makes the step that copies what lies at the open path from, as a detached
// mount of its own.
func clone(from, into launch.Slot, flags int, name, why string, allow ...launch.Allow) launch.Step {
	return launch.Step{
		Name: name, Why: why, Call: launch.OpenTree, Into: into, Allow: allow,
		Args: launch.Args{from, emptyPath, launch.Int(unix.OPEN_TREE_CLONE | unix.OPEN_TREE_CLOEXEC | unix.AT_EMPTY_PATH | flags)},
	}
}

// setattr makes the step that changes the attributes of the mount behind fd.
func setattr(fd launch.Slot, all bool, attr unix.MountAttr, name, why string) launch.Step {
	flags := unix.AT_EMPTY_PATH
	if all {
		flags |= unix.AT_RECURSIVE
	}
	return launch.Step{
		Name: name, Why: why, Call: launch.MountSetattr,
		Args: launch.Args{fd, emptyPath, launch.Int(flags), launch.MountAttr(attr), launch.Int(launch.MountAttrSize)},
	}
}

// Offsets in struct statx and struct statfs, which are the same on both
// architectures, and values to compare with.
const (
	statxSize  = 256
	statxMode  = 28
	statxMajor = 128
	statxMinor = 132
	statfsType = 0
)

// addVerifyDevice adds the check that fd is open on the device of that type and
// number; if not, the program fails with errno.
func (r *Rootfs) addVerifyDevice(p *launch.Plan, fd launch.Slot, d device, errno unix.Errno) {
	name, why := "verify device "+d.path, "what lies at a path is not always what should"
	p.Add(launch.Step{
		Name: name, Why: why, Call: launch.Statx,
		Args: launch.Args{fd, emptyPath, launch.Int(unix.AT_EMPTY_PATH | unix.AT_SYMLINK_NOFOLLOW), launch.Int(unix.STATX_BASIC_STATS), r.stat},
	})
	p.ExpectWord(name, "its type", r.stat.At(statxMode), unix.S_IFMT, d.mode&unix.S_IFMT, errno)
	p.ExpectWord(name, "its major number", r.stat.At(statxMajor), ^uint32(0), d.major, errno)
	p.ExpectWord(name, "its minor number", r.stat.At(statxMinor), ^uint32(0), d.minor, errno)
}

// addNotProc adds the check that the open directory or file is not part of a procfs.
// The destination's text says nothing about that: it may lead through symlinks.
func (r *Rootfs) addNotProc(p *launch.Plan, fd launch.Slot, m *mount) {
	name := m.name() + ": it is inside a procfs"
	word, ok := p.Slot("type"), p.Label()
	p.Add(
		launch.Step{
			Name: name, Why: "a mount over procfs would feed programs that trust it (CVE-2019-19921)",
			Call: launch.Fstatfs, Args: launch.Args{fd, r.stat},
		},
		launch.Step{Name: name, Why: "the type of the file system", Call: launch.Load, Args: launch.Args{r.stat.At(statfsType)}, Into: word},
		launch.Step{
			Name: name, Why: "anything else is as it should be", Call: launch.Expect,
			Args:  launch.Args{word, launch.Int(-1), launch.Int(unix.PROC_SUPER_MAGIC), launch.Int(unix.EPERM)},
			Allow: []launch.Allow{{Errno: unix.EPERM, To: ok}},
		},
		launch.Fail(name, "it is a procfs", unix.EPERM),
	)
	p.Place(ok)
}
