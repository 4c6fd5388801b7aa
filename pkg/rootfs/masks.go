package rootfs

import (
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"box/pkg/launch"
)

// AddMasks adds the steps that cover the masked paths and make others read-only.
// It must come before AddPivot: the host's /dev/null can be copied only while it is
// part of this mount namespace. A path that does not exist is skipped.
func (r *Rootfs) AddMasks(p *launch.Plan) {
	if len(r.masked) > 0 {
		r.addMasked(p)
	}
	for _, path := range r.readonlies {
		r.addReadonly(p, path)
	}
}

// noteKernel remembers a mounted procfs or sysfs, and forgets those that the mount hides.
func (r *Rootfs) noteKernel(m *mount, fd launch.Slot) {
	r.kernels = slices.DeleteFunc(r.kernels, func(k kernel) bool { return k.dest == m.dest || under(k.dest, m.dest) })
	if m.ordinary() {
		r.kernels = append(r.kernels, kernel{fd, m.dest})
	}
}

// protected is the look-up of a path that is to be masked or made read-only. Where that
// is part of a procfs or sysfs, it begins at the mount and not at the root: another
// container that writes to the same root could exchange /proc for a directory of its own
// just then, in which nothing is found to be masked, and exchange it back.
func (r *Rootfs) protected(path string, flags uint64) lookup {
	best := kernel{r.root, "/"}
	for _, k := range r.kernels {
		if (path == k.dest || under(path, k.dest)) && len(k.dest) > len(best.dest) {
			best = k
		}
	}
	return lookup{dir: best.mount, path: strings.TrimPrefix(path, best.dest), flags: flags}
}

// maskAttr is what the empty directory over a masked one is mounted with.
const maskAttr = unix.MOUNT_ATTR_RDONLY | unix.MOUNT_ATTR_NOSUID | unix.MOUNT_ATTR_NODEV | unix.MOUNT_ATTR_NOEXEC

// maskFileAttr is what the device over a masked file is mounted with. Read-only is
// about the node, not about what is written to the device. Devices must work: who
// reads shall get end of file.
const maskFileAttr = unix.MOUNT_ATTR_RDONLY | unix.MOUNT_ATTR_NOSUID | unix.MOUNT_ATTR_NOEXEC

// addMasked opens what covers (a file, a directory) and covers the paths with it.
func (r *Rootfs) addMasked(p *launch.Plan) {
	file, dir := p.Slot("null"), p.Slot("empty")
	p.Add(launch.Step{
		Name: "open /dev/null of the host", Why: "it covers masked files; the container's own could be anything (CVE-2025-31133)",
		Call: launch.Openat, Into: file,
		Args: launch.Args{launch.Cwd, launch.Text("/dev/null"), launch.Int(unix.O_PATH | unix.O_NOFOLLOW | unix.O_CLOEXEC)},
	})
	r.addVerifyDevice(p, file, *null, unix.ENODEV)
	r.addEmptyDir(p, dir)
	used := p.Slot("used")
	p.Add(launch.Step{
		Name: "create empty directory for masks", Why: "it is not attached anywhere yet", Call: launch.Set, Into: used,
		Args: launch.Args{launch.Int(0)},
	})
	for _, path := range r.masked {
		r.addMask(p, path, mask{file, dir, used})
	}
}

// mask is what covers: the device for files, the empty directory, and whether that
// has been attached once. A copy serves all places but the first, which takes the
// original: one that is left over would be unmounted at the execve, and that makes
// the kernel wait for all CPUs.
type mask struct{ file, dir, used launch.Slot }

// addEmptyDir makes the one read-only tmpfs that covers all masked directories.
func (r *Rootfs) addEmptyDir(p *launch.Plan, into launch.Slot) {
	const name = "create empty directory for masks"
	fs := p.Slot("tmpfs")
	p.Add(
		launch.Step{
			Name: name, Why: "one instance serves all masked directories", Call: launch.Fsopen, Into: fs,
			Args: launch.Args{launch.Text("tmpfs"), launch.Int(unix.FSOPEN_CLOEXEC)},
		},
	)
	if r.label != "" {
		p.Add(launch.Step{
			Name: name, Why: "the configuration's label of mounts", Call: launch.Fsconfig,
			Args: launch.Args{fs, launch.Int(fsconfigSetString), launch.Text("context"), launch.Text(r.label), launch.Int(0)},
		})
	}
	p.Add(
		launch.Step{
			Name: name, Why: "the instance itself is read-only, not just its mounts", Call: launch.Fsconfig,
			Args: launch.Args{fs, launch.Int(fsconfigSetFlag), launch.Text("ro"), launch.Nil, launch.Int(0)},
		},
		launch.Step{
			Name: name, Why: "it never holds anything", Call: launch.Fsconfig,
			Args: launch.Args{fs, launch.Int(fsconfigCreate), launch.Nil, launch.Nil, launch.Int(0)},
		},
		launch.Step{
			Name: name, Why: "attached where the first masked directory is; the others get copies", Call: launch.Fsmount, Into: into,
			Args: launch.Args{fs, launch.Int(unix.FSMOUNT_CLOEXEC), launch.Int(maskAttr)},
		},
	)
}

// addMask covers one path, whichever it turns out to be: a directory, a file, or
// nothing.
func (r *Rootfs) addMask(p *launch.Plan, path string, k mask) {
	name, dst, m := "mask "+path, p.Slot(path), p.Slot("mount")
	again, isFile, next := p.Label(), p.Label(), p.Label()
	note := launch.Step{
		Name: name, Why: "from now on it is copied", Call: launch.Set, Into: k.used,
		Args: launch.Args{launch.Int(1)}, Then: next,
	}
	attached := attach(m, dst, name, "nothing of it can be seen or changed any more")
	attached.Then = next

	p.Add(
		r.open(r.protected(path, unix.O_DIRECTORY), dst, name, "a directory?",
			launch.Allow{Errno: unix.ENOENT, To: next}, launch.Allow{Errno: unix.ENOTDIR, To: isFile}),
		launch.Step{
			Name: name, Why: "only what is attached can be copied (before Linux 6.15), and none is to be left over", Call: launch.Expect,
			Args:  launch.Args{k.used, launch.Int(-1), launch.Int(0), launch.Int(unix.EBUSY)},
			Allow: []launch.Allow{{Errno: unix.EBUSY, To: again}},
		},
		attach(k.dir, dst, name, "the empty directory itself"),
		note,
	)
	p.Place(again)
	p.Add(clone(k.dir, m, 0, name, "a copy of the empty directory"), attached)
	p.Place(isFile)
	p.Add(
		r.open(r.protected(path, 0), dst, name, "a file: it is covered by /dev/null", launch.Allow{Errno: unix.ENOENT, To: next}),
		clone(k.file, m, 0, name, "a copy of the verified device, not of what the path means by now"),
		setattr(m, false, unix.MountAttr{Attr_set: maskFileAttr}, name, "read-only: it is the host's node, whose mode and owner the container's root could change"),
		attach(m, dst, name, "reading gives end of file"),
	)
	p.Place(next)
}

// addReadonly puts a read-only copy of the tree at path over it.
func (r *Rootfs) addReadonly(p *launch.Plan, path string) {
	name, dst, m, next := "make "+path+" read-only", p.Slot(path), p.Slot("mount"), p.Label()
	p.Add(
		r.open(r.protected(path, 0), dst, name, "inside the root", launch.Allow{Errno: unix.ENOENT, To: next}),
		clone(dst, m, unix.AT_RECURSIVE, name, "a mount of its own, with all that is mounted below"),
		setattr(m, true, unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY}, name, "the copy only, and before it is attached"),
		attach(m, dst, name, "over the writable original"),
	)
	p.Place(next)
}
