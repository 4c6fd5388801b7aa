package rootfs

import (
	"golang.org/x/sys/unix"

	"box/pkg/launch"
)

// statxMount is the offset of stx_mnt_id in struct statx.
const statxMount = 144

// addLeaveChroot adds the steps that take the process to the root of its mount
// namespace, where it is already unless the caller lives in a chroot. There,
// pivot_root would exchange the chroot's mount only: the host's tree would stay the
// namespace's root, and everybody who joins the namespace by setns(2), exec first of
// all, would land in it.
//
// From here on only descriptors say where things are: the paths that the caller gave
// mean nothing outside its chroot.
func (r *Rootfs) addLeaveChroot(p *launch.Plan) {
	before, after := p.Slot("mount of /"), p.Slot("mount of the namespace's /")
	self, pidfd, left := p.Slot("pid"), p.Slot("pidfd"), p.Label()
	r.addMountID(p, before, "to know a chroot by")
	p.Add(
		launch.Step{Name: "get own pid", Why: "to name the own namespace without a procfs", Call: launch.Getpid, Into: self},
		launch.Step{
			Name: "open own pidfd", Why: "setns takes one since Linux 5.8",
			Call: launch.PidfdOpen, Args: launch.Args{self, launch.Int(0)}, Into: pidfd,
		},
		launch.Step{
			Name: "enter the root of the mount namespace", Why: "who calls us may live in a chroot; exec would then land outside of it, on the host",
			Call: launch.Setns, Args: launch.Args{pidfd, launch.Int(unix.CLONE_NEWNS)},
		},
	)
	r.addMountID(p, after, "another one if there was a chroot")
	p.Add(launch.Step{
		Name: "tell whether that was a chroot", Why: "if not, all is done", Call: launch.Expect, Then: left,
		Args:  launch.Args{after, launch.Int(-1), before, launch.Int(unix.EXDEV)},
		Allow: []launch.Allow{{Errno: unix.EXDEV}},
	})
	p.Add(launch.Step{
		Name: "cut the host's root off", Call: launch.MountSetattr,
		Why: "the first cut reached no further than the chroot: unmounting it here must not unmount it there",
		Args: launch.Args{
			launch.Cwd, launch.Text("/"), launch.Int(unix.AT_RECURSIVE),
			launch.MountAttr(unix.MountAttr{Propagation: unix.MS_SLAVE}), launch.Int(launch.MountAttrSize),
		},
	})
	p.Place(left)
}

// addMountID puts the id of the mount on / into the slot.
func (r *Rootfs) addMountID(p *launch.Plan, into launch.Slot, why string) {
	const name = "look up the mount of /"
	p.Add(
		launch.Step{
			Name: name, Why: why, Call: launch.Statx,
			Args: launch.Args{launch.Cwd, launch.Text("/"), launch.Int(0), launch.Int(unix.STATX_MNT_ID), r.stat},
		},
		launch.Step{Name: name, Why: why, Call: launch.Load, Args: launch.Args{r.stat.At(statxMount)}, Into: into},
	)
}
