package gen

import (
	"path/filepath"
	"slices"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// WithoutNamespace leaves a namespace out of a specification, so that the container
// shares the host's.
func WithoutNamespace(s *specs.Spec, kind specs.LinuxNamespaceType) {
	s.Linux.Namespaces = slices.DeleteFunc(s.Linux.Namespaces, func(n specs.LinuxNamespace) bool { return n.Type == kind })
}

// Rootless turns a specification into one that a user without privileges can run: its
// root is the user uid, in group gid, and all that needs other ids or rights over the
// host's network and cgroups is taken out.
func Rootless(s *specs.Spec, uid, gid uint32) {
	WithoutNamespace(s, specs.NetworkNamespace)
	WithoutNamespace(s, specs.UserNamespace)
	s.Linux.Namespaces = append(s.Linux.Namespaces, specs.LinuxNamespace{Type: specs.UserNamespace})
	s.Linux.UIDMappings = []specs.LinuxIDMapping{{HostID: uid, Size: 1}}
	s.Linux.GIDMappings = []specs.LinuxIDMapping{{HostID: gid, Size: 1}}
	s.Linux.Resources = nil
	for i := range s.Mounts {
		m := &s.Mounts[i]
		if filepath.Clean(m.Destination) == "/sys" {
			// A new sysfs shows the network namespace, which must be owned for that.
			*m = specs.Mount{
				Destination: "/sys", Source: "/sys", Type: "none",
				Options: []string{"rbind", "nosuid", "noexec", "nodev", "ro"},
			}
			continue
		}
		m.Options = slices.DeleteFunc(slices.Clone(m.Options), func(o string) bool {
			return strings.HasPrefix(o, "uid=") || strings.HasPrefix(o, "gid=") // ids that have no mapping
		})
	}
}
