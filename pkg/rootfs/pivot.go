package rootfs

import (
	"golang.org/x/sys/unix"

	"box/pkg/launch"
)

// AddPivot adds the steps that make the root mount the process's root and let go of
// the host's, and then make read-only what had to be written until now.
func (r *Rootfs) AddPivot(p *launch.Plan) {
	r.addLeaveChroot(p)
	old := r.addHostRoot(p)
	p.Add(
		launch.Step{
			Name: "enter root directory", Why: "pivot_root takes paths; \".\" cannot be exchanged under us",
			Call: launch.Fchdir, Args: []launch.Arg{r.root},
		},
		launch.Step{
			Name: "pivot root", Why: "the old root is stacked on the new one, so that the image needs no directory for it",
			Call: launch.PivotRoot, Args: []launch.Arg{launch.Text("."), launch.Text(".")},
		},
	)
	if r.propagation.propagation == unix.MS_SHARED {
		p.Add(setattr(old, true, unix.MountAttr{Propagation: unix.MS_SLAVE}, "cut the old root off",
			"its mounts are shared with the host's: unmounting them here must not unmount them there"))
	}
	p.Add(
		launch.Step{
			Name: "unmount old root", Why: "nothing of the host may stay reachable; \".\" is the old root, which lies on top",
			Call: launch.Umount2, Args: []launch.Arg{launch.Text("."), launch.Int(unix.MNT_DETACH)},
		},
		launch.Step{
			Name: "enter /", Why: "the working directory must not be what lay under the old root",
			Call: launch.Chdir, Args: []launch.Arg{launch.Text("/")},
		},
	)
	r.addSeals(p)
}

// addHostRoot keeps the old root at hand where it is needed after the pivot.
func (r *Rootfs) addHostRoot(p *launch.Plan) launch.Slot {
	if r.propagation.propagation != unix.MS_SHARED {
		return 0
	}
	old := p.Slot("old root")
	p.Add(launch.Step{
		Name: "open old root", Why: "after the pivot it has no path", Call: launch.Openat, Into: old,
		Args: []launch.Arg{launch.Cwd, launch.Text("/"), launch.Int(unix.O_PATH | unix.O_DIRECTORY | unix.O_CLOEXEC)},
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
