package rootfs

import (
	"path"
	"strings"

	"golang.org/x/sys/unix"

	"box/internal/errdefs"
	"box/pkg/launch"
)

// cgroupMount turns both of the names that specs use into what serves: the v2
// hierarchy with the container's cgroup as its root or, without a cgroup namespace,
// the host's own. That one is read-only when the rights are the host's no longer
// (CVE-2023-25809). "cgroup" is left alone where the host has v1 hierarchies.
func (r *Rootfs) cgroupMount(m *mount) error {
	if m.kind != "cgroup" && m.kind != "cgroup2" || m.kind == "cgroup" && len(r.facts.Hierarchies) > 0 {
		return nil
	}
	if r.cgroupns {
		m.kind = "cgroup2"
		return nil
	}
	if r.facts.Cgroup2 == "" {
		return errdefs.New(errdefs.ErrUnsupported, "the host has no cgroup2 hierarchy mounted")
	}
	r.bindCgroup(m, r.facts.Cgroup2)
	return nil
}

// bindCgroup makes a bind mount of a cgroup mount: the host's directory.
func (r *Rootfs) bindCgroup(m *mount, dir string) {
	m.bind, m.kind, m.source, m.data = true, "", dir, nil
	if r.confined {
		change(&m.set, &m.clear, unix.MOUNT_ATTR_RDONLY, 0)
	}
}

// link is a symlink in a new tmpfs.
type link struct {
	within       int // see mount
	path, target string
}

// cgroupAttr is what the directory of v1 hierarchies is mounted with, and what is
// mounted in it.
const cgroupAttr = unix.MOUNT_ATTR_NOSUID | unix.MOUNT_ATTR_NODEV | unix.MOUNT_ATTR_NOEXEC

// addHierarchies takes the place of a mount of type cgroup on a host with v1
// hierarchies, as runc does: a tmpfs with a directory for each of them, named as the
// host's, and links for those with several controllers. In a cgroup namespace each is a
// mount whose root is the container's group; without one, the group is bind-mounted.
func (r *Rootfs) addHierarchies(m mount) {
	dir := mount{dest: m.dest, create: m.create, exist: m.exist, kind: "tmpfs", source: "tmpfs"}
	dir.options = options{set: m.set | cgroupAttr, data: []string{"mode=755"}, propagation: m.propagation, propagateAll: m.propagateAll}
	r.mounts = append(r.mounts, dir)
	within := len(r.mounts)
	for _, h := range r.facts.Hierarchies {
		name := strings.TrimPrefix(h.Name, "name=")
		one := mount{dest: path.Join(m.dest, name), within: within}
		one.options = options{set: m.set | cgroupAttr, propagation: m.propagation, propagateAll: m.propagateAll}
		if r.cgroupns {
			one.kind, one.source, one.data = "cgroup", "cgroup", []string{h.Name}
			if !strings.HasPrefix(h.Name, "name=") {
				one.data = strings.Split(h.Name, ",")
			}
		} else {
			r.bindCgroup(&one, h.Dir)
		}
		r.mounts = append(r.mounts, one)
		if parts := strings.Split(name, ","); len(parts) > 1 {
			for _, part := range parts {
				r.links = append(r.links, link{within, path.Join(m.dest, part), name})
			}
		}
	}
}

// addWithin makes and opens the mount point of m in the new tmpfs that it lies in.
// Nobody else has put anything there.
func (r *Rootfs) addWithin(p *launch.Plan, m *mount) launch.Slot {
	dir, dst := r.mounts[m.within-1].fd, p.Slot(m.dest)
	_, base := split(m.dest)
	p.Add(
		launch.Step{
			Name: "create directory " + m.dest, Why: "in the new tmpfs, by its descriptor", Call: launch.Mkdirat,
			Args: launch.Args{dir, launch.Text(base), launch.Int(0o755)},
		},
		r.open(lookup{dir: dir, path: base, flags: unix.O_DIRECTORY | unix.O_NOFOLLOW}, dst, m.targetName(), "what was just made"),
	)
	return dst
}
