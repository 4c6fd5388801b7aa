package rootfs

import (
	"os"
	"slices"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"box/internal/errdefs"
	"box/internal/sys"
	"box/pkg/launch"
)

// device is a node to be made.
type device struct {
	path         string // absolute and clean
	mode         uint32 // type and permissions
	major, minor uint32
	uid, gid     uint32
}

// defaultDevices are those that the runtime specification promises.
var defaultDevices = [...]device{
	{path: "/dev/null", mode: unix.S_IFCHR | 0o666, major: 1, minor: 3},
	{path: "/dev/zero", mode: unix.S_IFCHR | 0o666, major: 1, minor: 5},
	{path: "/dev/full", mode: unix.S_IFCHR | 0o666, major: 1, minor: 7},
	{path: "/dev/random", mode: unix.S_IFCHR | 0o666, major: 1, minor: 8},
	{path: "/dev/urandom", mode: unix.S_IFCHR | 0o666, major: 1, minor: 9},
	{path: "/dev/tty", mode: unix.S_IFCHR | 0o666, major: 5, minor: 0},
}

// null is what covers masked files.
var null = &defaultDevices[0]

// readDevices joins the spec's devices with the default ones; the spec's win.
func (r *Rootfs) readDevices(list []specs.LinuxDevice) error {
	if r.foreignDev() {
		return nil // somebody else's /dev: nothing is made in it, as with other runtimes
	}
	for i, d := range list {
		dev, err := readDevice(d)
		if err != nil {
			return errdefs.New(errdefs.ErrInvalid, "read linux.devices[%d] (%s): %w", i, d.Path, err)
		}
		if dev.path == ptmx {
			continue // privileged containers list it; a link to the container's own devpts takes its place
		}
		r.devices = append(r.devices, dev)
	}
	for _, d := range defaultDevices {
		if !slices.ContainsFunc(r.devices, func(own device) bool { return own.path == d.path }) {
			r.devices = append(r.devices, d)
		}
	}
	return nil
}

// foreignDev says that /dev is a bind mount of the host's.
func (r *Rootfs) foreignDev() bool {
	return slices.ContainsFunc(r.mounts, func(m mount) bool { return m.dest == "/dev" && m.bind })
}

// freshDev says that /dev is a new tmpfs, in which no node can exist already.
func (r *Rootfs) freshDev() bool {
	return slices.ContainsFunc(r.mounts, func(m mount) bool { return m.dest == "/dev" && m.kind == "tmpfs" })
}

func readDevice(d specs.LinuxDevice) (device, error) {
	kind := deviceType(d.Type)
	if kind == 0 {
		return device{}, errdefs.New(errdefs.ErrInvalid, "unknown type %q", d.Type)
	}
	if d.Major < 0 || d.Minor < 0 || d.Major > 1<<32-1 || d.Minor > 1<<32-1 {
		return device{}, errdefs.New(errdefs.ErrInvalid, "number %d:%d is out of range", d.Major, d.Minor)
	}
	out := device{path: cleanDest(d.Path), mode: kind | 0o666, major: uint32(d.Major), minor: uint32(d.Minor)}
	if kind == unix.S_IFIFO {
		out.major, out.minor = 0, 0
	}
	if d.FileMode != nil {
		out.mode = kind | fileMode(*d.FileMode)
	}
	if d.UID != nil {
		out.uid = *d.UID
	}
	if d.GID != nil {
		out.gid = *d.GID
	}
	return out, nil
}

// deviceType turns the spec's letter into mode_t bits, 0 if it is unknown. An
// unbuffered character device (u) has been an ordinary one for decades.
func deviceType(letter string) uint32 {
	switch letter {
	case "c", "u":
		return unix.S_IFCHR
	case "b":
		return unix.S_IFBLK
	case "p":
		return unix.S_IFIFO
	}
	return 0
}

// fileMode takes both forms that engines write into fileMode: Go's bits and plain
// mode_t with its type bits.
func fileMode(m os.FileMode) uint32 { return sys.Mode(m) | uint32(m)&0o7777 }

// ptmx is what programs open for a new terminal.
const ptmx = "/dev/ptmx"

// devLinks are the symlinks that programs expect in /dev.
var devLinks = [...]struct{ path, target string }{
	{"/dev/fd", "/proc/self/fd"},
	{"/dev/stdin", "/proc/self/fd/0"},
	{"/dev/stdout", "/proc/self/fd/1"},
	{"/dev/stderr", "/proc/self/fd/2"},
	{ptmx, "pts/ptmx"},
	{"/dev/core", "/proc/kcore"},
}

// addDevices adds the nodes and links, each directory opened once.
func (r *Rootfs) addDevices(p *launch.Plan) {
	if r.foreignDev() {
		return
	}
	dirs := map[string]launch.Slot{}
	dir := func(path string) launch.Slot {
		if _, ok := dirs[path]; !ok {
			dirs[path] = r.addTarget(p, r.directory(path), "open directory "+path, "device nodes are made in it, by name only")
		}
		return dirs[path]
	}
	for _, d := range r.devices {
		parent, _ := split(d.path)
		r.addDevice(p, dir(parent), d)
	}
	for _, l := range devLinks {
		if l.path == "/dev/core" && !r.facts.Kcore {
			continue
		}
		r.addLink(p, dir("/dev"), l.path, l.target)
	}
}

// addDevice makes one node in the open directory. Where the image can have put
// something at its name before, that must be the very same device.
func (r *Rootfs) addDevice(p *launch.Plan, dir launch.Slot, d device) {
	_, base := split(d.path)
	if r.confined && d.mode&unix.S_IFMT != unix.S_IFIFO {
		r.addDeviceMount(p, dir, d)
		return
	}
	made, exists := p.Label(), p.Label()
	node := launch.Step{
		Name: "create device " + d.path, Why: "in a directory opened inside the root: a symlink of the image is not followed (CVE-2026-41579)",
		Call: launch.Mknodat,
		Args: launch.Args{dir, launch.Text(base), launch.Int(d.mode), launch.Int(unix.Mkdev(d.major, d.minor))},
	}
	if !r.freshDev() {
		node.Allow, node.Then = []launch.Allow{{Errno: unix.EEXIST, To: exists}}, made
	}
	p.Add(node)
	p.Place(exists)
	if !r.freshDev() {
		fd := p.Slot(d.path)
		p.Add(r.open(lookup{dir: dir, path: base, flags: unix.O_NOFOLLOW}, fd, "open device "+d.path, "the image has something there; it must be the same"))
		r.addVerifyDevice(p, fd, d, unix.EEXIST)
	}
	p.Place(made)
	if d.uid != 0 || d.gid != 0 {
		p.Add(launch.Step{
			Name: "set owner of device " + d.path, Why: "from the configuration", Call: launch.Fchownat,
			Args: launch.Args{dir, launch.Text(base), launch.Int(d.uid), launch.Int(d.gid), launch.Int(unix.AT_SYMLINK_NOFOLLOW)},
		})
	}
}

// addDeviceMount brings the host's node of the same path in as a mount: a user
// namespace forbids to make nodes.
func (r *Rootfs) addDeviceMount(p *launch.Plan, dir launch.Slot, d device) {
	_, base := split(d.path)
	fd, dst := p.Slot("node"), p.Slot(d.path)
	p.Add(launch.Step{
		Name: "open device " + d.path + " of the host", Why: "nodes cannot be made in a user namespace", Call: launch.OpenTree, Into: fd,
		Args: launch.Args{launch.Cwd, launch.Text(d.path), launch.Int(unix.OPEN_TREE_CLONE | unix.OPEN_TREE_CLOEXEC | unix.AT_SYMLINK_NOFOLLOW)},
	})
	r.addVerifyDevice(p, fd, d, unix.ENODEV)
	p.Add(
		r.make(dir, base, d.path, true),
		r.open(lookup{dir: dir, path: base, flags: unix.O_NOFOLLOW}, dst, "open mount point "+d.path, "not following what may lie there"),
		attach(fd, dst, "mount device "+d.path, "the host's node, verified"),
	)
}

// addLink makes one symlink. What is there stays, from the image or from the list of
// devices; but the host's ptmx would give out terminals of the host, so an image's
// cannot stay.
func (r *Rootfs) addLink(p *launch.Plan, dir launch.Slot, path, to string) {
	_, base := split(path)
	if path == ptmx && !r.freshDev() {
		p.Add(launch.Step{
			Name: "remove " + path, Why: "a node of the image would give out terminals of the host", Call: launch.Unlinkat,
			Args:  launch.Args{dir, launch.Text(base), launch.Int(0)},
			Allow: []launch.Allow{{Errno: unix.ENOENT}, {Errno: unix.EISDIR}},
		})
	}
	p.Add(launch.Step{
		Name: "create link " + path, Why: "programs expect it", Call: launch.Symlinkat,
		Args:  launch.Args{launch.Text(to), dir, launch.Text(base)},
		Allow: []launch.Allow{{Errno: unix.EEXIST}},
	})
}
