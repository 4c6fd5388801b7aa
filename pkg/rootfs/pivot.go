package rootfs

import (
	"golang.org/x/sys/unix"

	"box/pkg/launch"
)

// AddPivot adds the steps that make the root mount the process's root and let go of
// the host's, and then make read-only what had to be written until now.
func (r *Rootfs) AddPivot(p *launch.Plan) {
	switch {
	case r.shared:
		r.addChroot(p, "the mount namespace is not the container's own: pivot_root would take the root of everybody in it away")
	case r.facts.NoPivot:
		r.addMove(p)
	default:
		r.addPivotRoot(p)
	}
	r.addSeals(p)
}

func (r *Rootfs) addPivotRoot(p *launch.Plan) {
	r.addLeaveChroot(p)
	old := r.addHostRoot(p)
	p.Add(
		launch.Step{
			Name: "enter root directory", Why: "pivot_root takes paths; \".\" cannot be exchanged under us",
			Call: launch.Fchdir, Args: launch.Args{r.root},
		},
		launch.Step{
			Name: "pivot root", Why: "the old root is stacked on the new one, so that the image needs no directory for it",
			Call: launch.PivotRoot, Args: launch.Args{launch.Text("."), launch.Text(".")},
		},
	)
	if r.propagation.propagation == unix.MS_SHARED {
		p.Add(setattr(old, true, unix.MountAttr{Propagation: unix.MS_SLAVE}, "cut the old root off",
			"its mounts are shared with the host's: unmounting them here must not unmount them there"))
	}
	p.Add(
		launch.Step{
			Name: "unmount old root", Why: "nothing of the host may stay reachable; \".\" is the old root, which lies on top",
			Call: launch.Umount2, Args: launch.Args{launch.Text("."), launch.Int(unix.MNT_DETACH)},
		},
		launch.Step{
			Name: "enter /", Why: "the working directory must not be what lay under the old root",
			Call: launch.Chdir, Args: launch.Args{launch.Text("/")},
		},
	)
}

// addChroot makes the root directory that of the process alone.
func (r *Rootfs) addChroot(p *launch.Plan, why string) {
	p.Add(launch.Step{
		Name: "enter root directory", Why: "chroot takes a path; \".\" cannot be exchanged under us",
		Call: launch.Fchdir, Args: launch.Args{r.root},
	})
	AddChroot(p, why)
}

// AddChroot adds the steps that make the working directory the root directory.
func AddChroot(p *launch.Plan, why string) {
	p.Add(
		launch.Step{Name: "change root directory", Why: why, Call: launch.Chroot, Args: launch.Args{launch.Text(".")}},
		launch.Step{
			Name: "enter /", Why: "the working directory lies inside the root from the beginning",
			Call: launch.Chdir, Args: launch.Args{launch.Text("/")},
		},
	)
}

// addMove takes the place of pivot_root where the host's root is the initial ramfs,
// which cannot be exchanged: the root mount is moved over it. The host's mounts stay in
// the namespace, out of sight. A procfs or sysfs among them that shows all it has would
// make the kernel allow the container to mount another without our masks, so those go.
func (r *Rootfs) addMove(p *launch.Plan) {
	r.addLeaveChroot(p)
	for _, path := range r.facts.Full {
		if !under(path, r.facts.Root) {
			r.addHide(p, path)
		}
	}
	p.Add(launch.Step{
		Name: "move the root mount to /", Why: "what was there cannot be reached any more by a path",
		Call: launch.MoveMount,
		Args: launch.Args{r.root, emptyPath, launch.Cwd, launch.Text("/"), launch.Int(unix.MOVE_MOUNT_F_EMPTY_PATH)},
	})
	r.addChroot(p, "the process is still in what was at / before")
}

// addHide unmounts what is mounted on a path of the host, or covers it where the
// container's user namespace forbids that.
func (r *Rootfs) addHide(p *launch.Plan, path string) {
	name, fs, empty := "hide "+path+" of the host", p.Slot("tmpfs"), p.Slot("mount")
	cover, next := p.Label(), p.Label()
	p.Add(launch.Step{
		Name: name, Why: "as long as it is there, the kernel allows to mount one without masks", Then: next,
		Call: launch.Umount2, Args: launch.Args{launch.Text(path), launch.Int(unix.MNT_DETACH | unix.UMOUNT_NOFOLLOW)},
		Allow: []launch.Allow{{Errno: unix.EINVAL, To: cover}, {Errno: unix.EPERM, To: cover}, {Errno: unix.ENOENT, To: next}},
	})
	p.Place(cover)
	p.Add(
		launch.Step{
			Name: name, Why: "it is locked: it gets covered", Call: launch.Fsopen, Into: fs,
			Args: launch.Args{launch.Text("tmpfs"), launch.Int(unix.FSOPEN_CLOEXEC)},
		},
		launch.Step{
			Name: name, Why: "by an empty file system", Call: launch.Fsconfig,
			Args: launch.Args{fs, launch.Int(fsconfigCreate), launch.Nil, launch.Nil, launch.Int(0)},
		},
		launch.Step{
			Name: name, Why: "by an empty file system", Call: launch.Fsmount, Into: empty,
			Args: launch.Args{fs, launch.Int(unix.FSMOUNT_CLOEXEC), launch.Int(maskAttr)},
		},
		launch.Step{
			Name: name, Why: "a mount with another on top of it does not count", Call: launch.MoveMount,
			Args: launch.Args{empty, emptyPath, launch.Cwd, launch.Text(path), launch.Int(unix.MOVE_MOUNT_F_EMPTY_PATH)},
		},
	)
	p.Place(next)
}

// addHostRoot keeps the old root at hand where it is needed after the pivot.
func (r *Rootfs) addHostRoot(p *launch.Plan) launch.Slot {
	if r.propagation.propagation != unix.MS_SHARED {
		return 0
	}
	old := p.Slot("old root")
	p.Add(launch.Step{
		Name: "open old root", Why: "after the pivot it has no path", Call: launch.Openat, Into: old,
		Args: launch.Args{launch.Cwd, launch.Text("/"), launch.Int(unix.O_PATH | unix.O_DIRECTORY | unix.O_CLOEXEC)},
	})
	return old
}

// addSeals makes read-only, and gives the root its propagation.
func (r *Rootfs) addSeals(p *launch.Plan) {
	readonly := unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY}
	for _, s := range r.sealed {
		p.Add(setattr(s.mount, false, readonly, "make "+s.dest+" read-only", "its mount points and devices are made by now"))
	}
	root := unix.MountAttr{Propagation: r.propagation.propagation}
	if root.Propagation != 0 {
		p.Add(setattr(r.root, r.propagation.propagateAll, root, "set propagation of the root", "not before the pivot, which refuses shared mounts"))
	}
	if r.readonly {
		p.Add(setattr(r.root, false, readonly, "make the root read-only", "last: nothing is made in it any more"))
	}
}
