package rootfs

import (
	"golang.org/x/sys/unix"

	"box/pkg/launch"
)

// addLabel has SELinux give one label to all files of the container's new file systems,
// as config-linux.md says of linux.mountLabel. Procfs, sysfs and the control groups
// label their files themselves and take no other (runc leaves them out, too); a bind
// mount's files have their labels already.
func (r *Rootfs) addLabel(label string) {
	if label == "" {
		return
	}
	r.label = label
	for i := range r.mounts {
		m := &r.mounts[i]
		switch {
		case m.bind, m.remount, m.kind == "proc", m.kind == "sysfs", m.kind == "cgroup", m.kind == "cgroup2":
		case m.kind == "mqueue":
			m.label = label
		default:
			m.data = append(m.data, "context="+label)
		}
	}
}

// addFileLabel labels the root directory of a mqueue. Each IPC namespace has one such
// file system from the start; SELinux refuses to mount it with another label.
func (m *mount) addFileLabel(p *launch.Plan, mnt launch.Slot) {
	if m.label == "" {
		return
	}
	dir := p.Slot("directory")
	value := append([]byte(m.label), 0)
	p.Add(
		launch.Step{
			Name: m.name() + ": open it", Why: "the mount's own descriptor is not for reading", Call: launch.Openat2, Into: dir,
			Args: launch.Args{
				mnt, launch.Text("."),
				launch.OpenHow(unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0, unix.RESOLVE_BENEATH), launch.Int(launch.OpenHowSize),
			},
		},
		launch.Step{
			Name: m.name() + ": label it", Why: "the configuration's label of mounts", Call: launch.Fsetxattr,
			Args: launch.Args{dir, launch.Text("security.selinux"), launch.Bytes(value, func() string { return m.label }), launch.Int(len(value)), launch.Int(0)},
		},
		launch.Step{Name: m.name() + ": close it", Why: "done", Call: launch.Close, Args: launch.Args{dir}},
	)
}
