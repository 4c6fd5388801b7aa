package rootfs

import (
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"box/pkg/launch"
)

// AddMounts adds the steps from a fresh copy of the host's mount namespace to the
// container's file system, complete but for masks, and not yet the root. The umask
// must be 0.
func (r *Rootfs) AddMounts(p *launch.Plan) {
	r.stat = launch.Buffer("stat", statxSize)
	r.addPropagation(p)
	r.addRoot(p)
	for i := range r.mounts {
		r.mounts[i].first = p.Len()
		r.addMount(p, &r.mounts[i])
		r.mounts[i].end = p.Len()
	}
	for _, l := range r.links {
		r.addLink(p, r.mounts[l.within-1].fd, l.path, l.target)
	}
	r.addDevices(p)
}

// Explain gives the failure of a step that belongs to one of the configuration's
// mounts runc's words, which scripts and engines look for, and "" for other steps.
func (r *Rootfs) Explain(failed *launch.StepError) string {
	for i := range r.mounts {
		if m := &r.mounts[i]; failed.Index >= m.first && failed.Index < m.end {
			return "unable to start container process: error during container init: error mounting " +
				strconv.Quote(m.source) + " to rootfs at " + strconv.Quote(m.dest) + ": " + m.cause(failed)
		}
	}
	return ""
}

// cause is what went wrong. A file on a directory, or the other way round, is what
// people get wrong most: move_mount(2) calls the former an invalid argument.
func (m *mount) cause(failed *launch.StepError) string {
	var why string
	switch {
	case m.kind != "":
	case m.file && failed.Errno == unix.EINVAL && failed.Step.Call == launch.MoveMount:
		why = "a file cannot be mounted on a directory"
	case !m.file && failed.Errno == unix.ENOTDIR:
		why = "a directory cannot be mounted on a file"
	}
	if why == "" {
		return failed.Error()
	}
	return failed.Step.Name + ": " + unix.ENOTDIR.Error() + ": " + why
}

// Root is the slot of a descriptor of the container's root directory, set by
// AddMounts: later phases resolve paths in it, before and after the pivot.
func (r *Rootfs) Root() launch.Slot { return r.root }

// addPropagation cuts the new namespace off from the host's. With "shared", mounts
// made in the container shall reach the host, so only the mount that the root lies
// on is cut off: pivot_root refuses a shared one.
//
// A namespace that others use stays as it is: what is mounted there, below the root,
// stays after the container, too. Who asks for that cleans up, as with runc.
func (r *Rootfs) addPropagation(p *launch.Plan) {
	if r.shared {
		return
	}
	switch r.propagation.propagation {
	case unix.MS_SHARED:
		r.addPrivateParent(p)
	case unix.MS_PRIVATE, unix.MS_UNBINDABLE:
		p.Add(hostPropagation("/", unix.AT_RECURSIVE, unix.MS_PRIVATE, "the configuration wants no propagation in either direction"))
	default:
		p.Add(hostPropagation("/", unix.AT_RECURSIVE, unix.MS_SLAVE, "what is mounted here must not appear on the host; the other way is allowed"))
	}
}

// hostPropagation changes how mounts spread to and from a mount of the host, in the
// copy of its namespace that the program lives in.
func hostPropagation(path string, flags int, propagation uint64, why string) launch.Step {
	return launch.Step{
		Name: "set propagation of " + path, Why: why, Call: launch.MountSetattr,
		Args: launch.Args{
			launch.Cwd, launch.Text(path), launch.Int(flags),
			launch.MountAttr(unix.MountAttr{Propagation: propagation}), launch.Int(launch.MountAttrSize),
		},
	}
}

// addPrivateParent tries the directories from the root upwards: the first that is a
// mount point is the one.
func (r *Rootfs) addPrivateParent(p *launch.Plan) {
	found := p.Label()
	for dir := r.facts.Root; ; dir, _ = split(dir) {
		s := hostPropagation(dir, 0, unix.MS_PRIVATE, "pivot_root needs a root whose mount is not shared; EINVAL says that this is no mount point")
		s.Then = found
		if dir == "/" {
			p.Add(s)
			break
		}
		s.Allow = []launch.Allow{{Errno: unix.EINVAL}}
		p.Add(s)
	}
	p.Place(found)
}

// addRoot makes the root directory a mount of its own.
func (r *Rootfs) addRoot(p *launch.Plan) {
	r.root = p.Slot("root")
	p.Add(
		launch.Step{
			Name: "open root directory " + r.facts.Root, Why: "pivot_root wants a mount; a copy of this one can be made read-only without touching it",
			Call: launch.OpenTree, Into: r.root,
			Args: launch.Args{launch.Cwd, launch.Text(r.facts.Root), launch.Int(unix.OPEN_TREE_CLONE | unix.OPEN_TREE_CLOEXEC | unix.AT_RECURSIVE)},
		},
		launch.Step{
			Name: "mount root directory " + r.facts.Root, Why: "only what is attached can become the root",
			Call: launch.MoveMount,
			Args: launch.Args{r.root, emptyPath, launch.Cwd, launch.Text(r.facts.Root), launch.Int(unix.MOVE_MOUNT_F_EMPTY_PATH)},
		},
	)
}

// addMount adds one of the spec's mounts: made detached, given its attributes, and
// attached to a target that was opened inside the root.
func (r *Rootfs) addMount(p *launch.Plan, m *mount) {
	if m.remount {
		r.addRemount(p, m)
		return
	}
	var fd launch.Slot
	if m.bind {
		fd = r.addBind(p, m)
	} else {
		fd = r.addFilesystem(p, m)
	}
	m.fd = fd
	if m.within > 0 {
		p.Add(attach(fd, r.addWithin(p, m), m.name(), "by descriptors, in a file system that is ours alone so far"))
		return
	}
	dst := r.addTarget(p, m.target(), m.targetName(), m.targetWhy())
	if !m.overProc() {
		r.addNotProc(p, dst, m)
	}
	if m.copyUp {
		r.addCopyUp(p, m, dst, fd)
	}
	p.Add(attach(fd, dst, m.name(), "by descriptors, so that no path is resolved a second time (CVE-2021-30465)"))
	r.noteKernel(m, fd)
}

// target is where the mount goes.
func (m *mount) target() target {
	return target{path: m.dest, file: m.file, strict: m.ordinary(), create: m.create, exist: m.exist}
}

// ordinary says that the destination must be reached without symlinks: programs and
// later steps trust what they find under these names.
func (m *mount) ordinary() bool { return m.kind == "proc" || m.kind == "sysfs" }

// targetName has runc's words where image builders look for them.
func (m *mount) targetName() string {
	if m.ordinary() {
		return m.name() + `: filesystem "` + m.kind + `" must be mounted on ordinary directory`
	}
	return m.name() + ": open mount point"
}

func (m *mount) targetWhy() string {
	if m.ordinary() {
		return "an image with a symlink there would move it elsewhere (CVE-2019-19921)"
	}
	return "inside the root, whatever symlinks the image has on the way"
}

// addBind copies the source's mount and changes the copy. Mounts whose owners are
// translated come from the parent, and in a user namespace those whose source the
// program may not reach, too.
func (r *Rootfs) addBind(p *launch.Plan, m *mount) launch.Slot {
	fd, flags := p.Slot("mount"), unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC
	if m.recursive {
		flags |= unix.AT_RECURSIVE
	}
	if m.ids != nil {
		r.addFetch(p, m, fd, "only who has rights over its file system may translate a mount's owners")
		r.addAttributes(p, m, fd)
		return fd
	}
	open := launch.Step{
		Name: m.name(), Why: "a detached copy of the source's mount: its path is the host's", Call: launch.OpenTree, Into: fd,
		Args: launch.Args{launch.Cwd, launch.Text(m.source), launch.Int(flags)},
	}
	if r.foreign {
		fetch, have := p.Label(), p.Label()
		open.Allow, open.Then = []launch.Allow{{Errno: unix.EACCES, To: fetch}}, have
		p.Add(open)
		p.Place(fetch)
		r.addFetch(p, m, fd, "the container's root may not enter a directory above the source; who wrote the configuration may")
		p.Place(have)
	} else {
		p.Add(open)
	}
	r.addAttributes(p, m, fd)
	return fd
}

// addRemount changes a mount that is there already.
func (r *Rootfs) addRemount(p *launch.Plan, m *mount) {
	dst := r.addTarget(p, target{path: m.dest, file: true, strict: m.ordinary()}, m.name()+": open mount point", m.targetWhy())
	if !m.bind {
		r.addReconfigure(p, m, dst)
	}
	r.addAttributes(p, m, dst)
}

// addReconfigure gives new options to the file system that is mounted at dst.
func (r *Rootfs) addReconfigure(p *launch.Plan, m *mount, dst launch.Slot) {
	fs := p.Slot("file system")
	p.Add(launch.Step{
		Name: m.name(), Why: "the file system that is mounted there", Call: launch.Fspick, Into: fs,
		Args: launch.Args{dst, emptyPath, launch.Int(unix.FSPICK_CLOEXEC | unix.FSPICK_EMPTY_PATH)},
	})
	switch {
	case m.set&unix.MOUNT_ATTR_RDONLY != 0:
		p.Add(m.config(fs, "ro", "", false))
	case m.clear&unix.MOUNT_ATTR_RDONLY != 0:
		p.Add(m.config(fs, "rw", "", false))
	}
	m.addData(p, fs)
	p.Add(launch.Step{
		Name: m.name(), Why: "with the new options", Call: launch.Fsconfig,
		Args: launch.Args{fs, launch.Int(fsconfigReconfigure), launch.Nil, launch.Nil, launch.Int(0)},
	})
}

// The commands of fsconfig(2), which x/sys keeps to itself.
const (
	fsconfigSetFlag   = 0
	fsconfigSetString = 1
	fsconfigCreate    = 6

	fsconfigReconfigure = 7
)

// addFilesystem makes a new file system instance and a detached mount of it.
func (r *Rootfs) addFilesystem(p *launch.Plan, m *mount) launch.Slot {
	fs, fd := p.Slot(m.kind), p.Slot("mount")
	p.Add(launch.Step{
		Name: m.name(), Why: "a new instance of the file system, still without options", Call: launch.Fsopen, Into: fs,
		Args: launch.Args{launch.Text(m.kind), launch.Int(unix.FSOPEN_CLOEXEC)},
	})
	if m.source != "" {
		p.Add(m.config(fs, "source", m.source, true))
	}
	m.addData(p, fs)
	p.Add(
		launch.Step{
			Name: m.name(), Why: "the instance is made, with these options", Call: launch.Fsconfig,
			Args: launch.Args{fs, launch.Int(fsconfigCreate), launch.Nil, launch.Nil, launch.Int(0)},
		},
		launch.Step{
			Name: m.name(), Why: "a mount of it, attached to nothing yet", Call: launch.Fsmount, Into: fd,
			Args: launch.Args{fs, launch.Int(unix.FSMOUNT_CLOEXEC), launch.Int(r.sealLater(m, fd))},
		},
	)
	if m.propagation != 0 && m.propagation != unix.MS_PRIVATE { // which a new mount is
		p.Add(setattr(fd, false, unix.MountAttr{Propagation: m.propagation}, m.name()+": set propagation", "the configuration asks for it"))
	}
	m.addFileLabel(p, fd)
	return fd
}

// addData passes the file system's own options on.
func (m *mount) addData(p *launch.Plan, fs launch.Slot) {
	for _, word := range m.data {
		key, value, has := strings.Cut(word, "=")
		p.Add(m.config(fs, key, value, has))
	}
}

// sealLater returns the attributes to mount with. A read-only tmpfs must be filled
// first (mount points, devices): AddPivot makes it read-only.
func (r *Rootfs) sealLater(m *mount, fd launch.Slot) uint64 {
	attr := m.set&^m.clearAll | m.setAll
	if m.kind == "tmpfs" && attr&unix.MOUNT_ATTR_RDONLY != 0 {
		attr &^= unix.MOUNT_ATTR_RDONLY
		r.sealed = append(r.sealed, sealed{fd, m.dest})
	}
	return attr
}

// config sets one option of a file system instance: a string, or a flag.
func (m *mount) config(fs launch.Slot, key, value string, has bool) launch.Step {
	s := launch.Step{
		Name: m.name() + ": option " + key, Why: "from the configuration", Call: launch.Fsconfig,
		Args: launch.Args{fs, launch.Int(fsconfigSetFlag), launch.Text(key), launch.Nil, launch.Int(0)},
	}
	if has {
		s.Name += "=" + value
		s.Args[1], s.Args[3] = launch.Int(fsconfigSetString), launch.Text(value)
	}
	return s
}
