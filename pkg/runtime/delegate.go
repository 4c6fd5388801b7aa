package runtime

import (
	"os"
	"path"
	"slices"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// cgroupOwner returns the host's number of the container's root if the container's
// group is to be that user's: if the container sees the group as its root (in a
// cgroup namespace of its own), may write to the tree, and is root only of a user
// namespace. The answer, which the specification leaves open ("config-linux.md",
// "Cgroup ownership"), is the one it recommends.
func cgroupOwner(s *specs.Spec) (uid int, ok bool) {
	if os.Geteuid() != 0 || !ownNamespace(s, specs.CgroupNamespace) || !ownNamespace(s, specs.UserNamespace) {
		return 0, false
	}
	writable := slices.ContainsFunc(s.Mounts, func(m specs.Mount) bool {
		return (m.Type == "cgroup" || m.Type == "cgroup2") && path.Clean(m.Destination) == "/sys/fs/cgroup" && !slices.Contains(m.Options, "ro")
	})
	if !writable {
		return 0, false
	}
	for _, m := range s.Linux.UIDMappings {
		if m.ContainerID == 0 && m.Size > 0 {
			return int(m.HostID), true
		}
	}
	return 0, false
}

// ownNamespace tells whether the container gets a new namespace of a kind.
func ownNamespace(s *specs.Spec, kind specs.LinuxNamespaceType) bool {
	return slices.ContainsFunc(s.Linux.Namespaces, func(n specs.LinuxNamespace) bool { return n.Type == kind && n.Path == "" })
}
