package terminal

import (
	"encoding/binary"
	"strconv"

	"golang.org/x/sys/unix"

	"box/pkg/launch"
)

// Options say what the terminal shall be like.
type Options struct {
	// Root is a descriptor of the container's root directory, or launch.Cwd where
	// the working directory is the root.
	Root launch.Arg
	// Socket is the number of the program's descriptor of the connected console
	// socket, to which the master is sent.
	Socket int
	// Console asks for /dev/console: for a container's first process, not for exec.
	Console bool
	// UID becomes the owner of the slave, so that the command can open it again.
	UID uint32
	// Rows and Cols are the window's size; 0, 0 leaves it unset.
	Rows, Cols uint16
	// KeepNewlines makes the terminal pass newlines on as they are: what comes out of
	// the master is what the command wrote, byte by byte, as with runc in the
	// foreground. Whoever shows it must make line ends of them (MakeInputRaw).
	KeepNewlines bool
}

// devptsMagic is the type of file system that statfs tells of a devpts.
const devptsMagic = 0x1cd1

// inRoot and inDir are how paths in the container and names in an open directory
// are resolved.
const (
	inRoot = unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS
	inDir  = unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_XDEV
)

const emptyPath = launch.Text("")

// Add adds the steps that give the program a terminal. They come after the mounts
// and before the command's ids are set; the umask must be 0, and descriptors 0 to 2
// must be open (on whatever it is), or the terminal itself would land there.
func Add(p *launch.Plan, o Options) {
	master, peer := addPair(p, o)
	if o.Console {
		addConsole(p, o.Root, peer)
	}
	addSend(p, o.Socket, master)
	addStreams(p, peer)
}

// addPair opens master and slave.
func addPair(p *launch.Plan, o Options) (master, peer launch.Slot) {
	dir, master, peer := p.Slot("/dev/pts"), p.Slot("master"), p.Slot("peer")
	statfs := launch.Buffer("statfs", 128)
	p.Add(
		openat2(o.Root, "dev/pts", unix.O_PATH|unix.O_DIRECTORY, inRoot, dir, "open /dev/pts", "the container's own terminals"),
		launch.Step{Name: "verify /dev/pts", Why: "the image may have put anything there", Call: launch.Fstatfs, Args: launch.Args{dir, statfs}},
	)
	p.ExpectWord("verify /dev/pts: it is not a devpts", "only there a name means a terminal", statfs.At(0), ^uint32(0), devptsMagic, unix.ENODEV)
	p.Add(
		openat2(dir, "ptmx", unix.O_RDWR|unix.O_NOCTTY, inDir, master, "open terminal", "a new pair; this end is for the caller"),
		launch.Step{
			Name: "unlock terminal", Why: "its slave cannot be opened before", Call: launch.Ioctl,
			Args: launch.Args{master, launch.Int(unix.TIOCSPTLCK), launch.Bytes(make([]byte, 4), func() string { return "[0]" })},
		},
		launch.Step{
			Name: "open terminal's slave", Why: "from its master and not by path: nobody can put another in between (CVE-2025-52565)",
			Call: launch.Ioctl, Into: peer,
			Args: launch.Args{master, launch.Int(unix.TIOCGPTPEER), launch.Int(unix.O_RDWR | unix.O_NOCTTY | unix.O_CLOEXEC)},
		},
	)
	addAppearance(p, o, peer)
	return master, peer
}

func addAppearance(p *launch.Plan, o Options, peer launch.Slot) {
	if o.Rows != 0 || o.Cols != 0 {
		size := make([]byte, 8) // struct winsize: rows, columns, and pixels that nobody knows
		binary.NativeEndian.PutUint16(size, o.Rows)
		binary.NativeEndian.PutUint16(size[2:], o.Cols)
		text := func() string { return "{" + strconv.Itoa(int(o.Rows)) + ", " + strconv.Itoa(int(o.Cols)) + "}" }
		p.Add(launch.Step{
			Name: "set size of terminal", Why: "before the command can ask for it", Call: launch.Ioctl,
			Args: launch.Args{peer, launch.Int(unix.TIOCSWINSZ), launch.Bytes(size, text)},
		})
	}
	if o.KeepNewlines {
		addKeepNewlines(p, peer)
	}
	if o.UID != 0 {
		p.Add(launch.Step{
			Name: "give terminal to user " + strconv.Itoa(int(o.UID)), Why: "programs open it again by name (/dev/tty, /dev/stdin)",
			Call: launch.Fchown, Args: launch.Args{peer, launch.Int(o.UID), launch.Int(-1)},
		})
	}
}

// Size of the kernel's struct termios, and where its output flags lie (ioctl_tty(2)).
const (
	termiosSize  = 36
	termiosOflag = 4
)

// addKeepNewlines leaves output processing on, with none of its translations.
func addKeepNewlines(p *launch.Plan, peer launch.Slot) {
	settings := launch.Buffer("termios", termiosSize)
	p.Add(
		launch.Step{
			Name: "get settings of terminal", Why: "all but one stay as they are",
			Call: launch.Ioctl, Args: launch.Args{peer, launch.Int(unix.TCGETS), settings},
		},
		launch.Step{
			Name: "change settings of terminal", Why: "OPOST without ONLCR: newlines stay newlines",
			Call: launch.Store, Args: launch.Args{settings.At(termiosOflag), launch.Int(unix.OPOST)},
		},
		launch.Step{
			Name: "set settings of terminal", Why: "before the command can write",
			Call: launch.Ioctl, Args: launch.Args{peer, launch.Int(unix.TCSETS), settings},
		},
	)
}

// addConsole mounts the slave on /dev/console.
func addConsole(p *launch.Plan, root launch.Arg, peer launch.Slot) {
	dev, dst, mount := p.Slot("/dev"), p.Slot("/dev/console"), p.Slot("mount")
	p.Add(
		openat2(root, "dev", unix.O_PATH|unix.O_DIRECTORY, inRoot, dev, "open /dev", "inside the root, whatever the image has there"),
		launch.Step{
			Name: "create /dev/console", Why: "mknod makes a file without following what may lie there", Call: launch.Mknodat,
			Args:  launch.Args{dev, launch.Text("console"), launch.Int(unix.S_IFREG | 0o600), launch.Int(0)},
			Allow: []launch.Allow{{Errno: unix.EEXIST}},
		},
		openat2(dev, "console", unix.O_PATH, unix.RESOLVE_BENEATH|unix.RESOLVE_NO_SYMLINKS, dst, "open /dev/console", "a symlink there is refused"),
		launch.Step{
			Name: "copy mount of terminal", Why: "by descriptor: it is surely the slave that was just opened", Call: launch.OpenTree, Into: mount,
			Args: launch.Args{peer, emptyPath, launch.Int(unix.OPEN_TREE_CLONE | unix.OPEN_TREE_CLOEXEC | unix.AT_EMPTY_PATH)},
		},
		launch.Step{
			Name: "mount terminal on /dev/console", Why: "init systems write there", Call: launch.MoveMount,
			Args: launch.Args{mount, emptyPath, dst, emptyPath, launch.Int(unix.MOVE_MOUNT_F_EMPTY_PATH | unix.MOVE_MOUNT_T_EMPTY_PATH)},
		},
	)
}

// MasterName is the text that travels with the master's descriptor, as with runc.
const MasterName = "/dev/pts/ptmx"

// addSend sends the master over the console socket and forgets it: as long as the
// container itself held it, it would never notice a hang-up.
func addSend(p *launch.Plan, socket int, master launch.Slot) {
	message := launch.NewMessage(launch.Text(MasterName), len(MasterName), "$master")
	p.Add(
		launch.Step{Name: "write terminal into message", Why: "the descriptor is known only now", Call: launch.Store, Args: launch.Args{message.FD(0), master}},
		launch.Step{
			Name: "send terminal to console socket", Why: "the caller copies data and sets sizes", Call: launch.Sendmsg,
			Args: launch.Args{launch.Int(socket), message.Header, launch.Int(unix.MSG_NOSIGNAL)},
		},
		launch.Step{Name: "close terminal's master", Why: "only the caller has it: when it closes it, the command is hung up", Call: launch.Close, Args: launch.Args{master}},
	)
}

// AddControl makes the terminal on descriptor 0 the controlling one: after Add, in the
// process that becomes the command. When a leader of a session ends, its terminal is
// hung up.
func AddControl(p *launch.Plan) {
	p.Add(
		launch.Step{
			Name: "create session", Why: "only the leader of a session without terminal can get one; EPERM says that it leads one already",
			Call: launch.Setsid, Allow: []launch.Allow{{Errno: unix.EPERM}},
		},
		launch.Step{
			Name: "set controlling terminal", Why: "signals of keys and job control need it", Call: launch.Ioctl,
			Args: launch.Args{launch.Int(0), launch.Int(unix.TIOCSCTTY), launch.Int(0)},
		},
	)
}

// addStreams makes the slave the standard streams.
func addStreams(p *launch.Plan, peer launch.Slot) {
	for fd, name := range []string{"input", "output", "error"} {
		p.Add(launch.Step{
			Name: "use terminal as standard " + name, Why: "in place of what the program was started with", Call: launch.Dup3,
			Args: launch.Args{peer, launch.Int(fd), launch.Int(0)},
		})
	}
}

func openat2(dir launch.Arg, path string, flags, resolve uint64, into launch.Slot, name, why string) launch.Step {
	return launch.Step{
		Name: name, Why: why, Call: launch.Openat2, Into: into,
		Allow: []launch.Allow{{Errno: unix.EAGAIN, To: launch.Again}},
		Args:  launch.Args{dir, launch.Text(path), launch.OpenHow(flags|unix.O_CLOEXEC, 0, resolve), launch.Int(launch.OpenHowSize)},
	}
}
