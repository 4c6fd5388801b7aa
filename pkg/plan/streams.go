package plan

import (
	"golang.org/x/sys/unix"

	"box/pkg/launch"
	"box/pkg/terminal"
)

// This file has the steps for what the command finds open: its terminal, or stdio.

// terminal adds the steps that make a terminal. root is the root directory, or launch.Cwd
// where that is the working directory; first says that it is the container's own.
func (b *Assembly) terminal(o *terminal.Options, root launch.Arg, first bool, uid uint32) {
	if o == nil {
		return
	}
	own := *o
	own.Root, own.Console, own.UID = root, first, uid
	terminal.Add(b.Plan, own)
}

// control adds the steps that make it the controlling terminal: in the process that
// becomes the command.
func (b *Assembly) control(o *terminal.Options) {
	if o != nil {
		terminal.AddControl(b.Plan)
	}
}

// NullMajor and NullMinor are the number of /dev/null
// (Documentation/admin-guide/devices.txt).
const NullMajor, NullMinor = 1, 3

// ownNull puts the container's /dev/null in the place of the host's. A command with
// CAP_FOWNER could otherwise change mode and owner of the host's node through
// /proc/self/fd/0, for everybody.
func (b *Assembly) ownNull(fds []int) {
	if len(fds) == 0 {
		return
	}
	const name = "open the container's /dev/null"
	fd := b.Plan.Slot("null")
	b.add(
		launch.Step{
			Name: name, Call: launch.Openat2, Into: fd,
			Args: launch.Args{
				launch.Cwd, launch.Text("/dev/null"),
				launch.OpenHow(unix.O_RDWR|unix.O_CLOEXEC|unix.O_NOCTTY, 0, unix.RESOLVE_NO_SYMLINKS), launch.Int(launch.OpenHowSize),
			},
			Why: "stdio is the host's, whose mode and owner the command could change",
		},
		launch.Step{
			Name: name, Call: launch.Statx,
			Args: launch.Args{fd, launch.Text(""), launch.Int(unix.AT_EMPTY_PATH), launch.Int(unix.STATX_BASIC_STATS), b.stat},
			Why:  "the image may have put anything there",
		},
	)
	b.Plan.ExpectWord(name, "a character device", b.stat.At(statxMode), unix.S_IFMT, unix.S_IFCHR, unix.ENODEV)
	b.Plan.ExpectWord(name, "its major number", b.stat.At(statxMajor), ^uint32(0), NullMajor, unix.ENODEV)
	b.Plan.ExpectWord(name, "its minor number", b.stat.At(statxMinor), ^uint32(0), NullMinor, unix.ENODEV)
	for _, n := range fds {
		b.add(launch.Step{
			Name: "put it in the place of the host's", Call: launch.Dup3,
			Args: launch.Args{fd, launch.Int(n), launch.Int(0)},
			Why:  "the same device by an inode of the container's own",
		})
	}
}

// streamsFor returns the streams that have to be given to a user before he can open
// them by name. Where ids are mapped, an owner outside says nothing. A file that the
// caller has redirected us to stays his: runc has pipes between the two there.
func streamsFor(f *Facts, uid uint32, userns bool) (fds []int) {
	for _, s := range f.Streams {
		if (userns || s.UID != uid) && !(f.Stay && s.File) {
			fds = append(fds, s.FD)
		}
	}
	return fds
}

// ownStreams gives stdio to the command's user, as runc does: engines make the pipes
// as root, and programs open /dev/stdout or /dev/stderr, which asks for the right to
// do so anew.
func (b *Assembly) ownStreams(p *Process) {
	for _, fd := range p.streams {
		b.add(launch.Step{
			Name: "give a standard stream to the user", Call: launch.Fchown,
			Args: launch.Args{launch.Int(fd), launch.Int(p.spec.User.UID), launch.Int(-1)},
			Allow: []launch.Allow{
				{Errno: unix.EINVAL}, // a user that the namespace does not map
				{Errno: unix.EPERM},  // a stream of somebody it does not map, or no CAP_CHOWN
				{Errno: unix.EROFS},  // a file that cannot change hands
			},
			Why: "so that it can open /dev/stdout and the like by name",
		})
	}
}
