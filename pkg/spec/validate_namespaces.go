package spec

import (
	"errors"
	"io/fs"
	"slices"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// namespaceTypes are the kinds of namespace of Linux.
var namespaceTypes = []specs.LinuxNamespaceType{
	specs.PIDNamespace, specs.NetworkNamespace, specs.MountNamespace, specs.IPCNamespace,
	specs.UTSNamespace, specs.UserNamespace, specs.CgroupNamespace, specs.TimeNamespace,
}

// checkNamespaces checks the list of namespaces.
func checkNamespaces(s *specs.Spec) error {
	seen := map[specs.LinuxNamespaceType]bool{}
	for i, ns := range s.Linux.Namespaces {
		path := element("linux.namespaces", i)
		if !slices.Contains(namespaceTypes, ns.Type) {
			return invalid(path+".type", "unknown namespace %q", ns.Type)
		}
		if seen[ns.Type] {
			return invalid(path+".type", "%s occurs twice", ns.Type)
		}
		seen[ns.Type] = true
		if ns.Path != "" {
			if err := checkAbsolute(path+".path", ns.Path); err != nil {
				return err
			}
		}
	}
	if !hasNamespace(s, specs.MountNamespace) && len(s.Linux.MaskedPaths)+len(s.Linux.ReadonlyPaths) > 0 {
		return invalid("linux.maskedPaths, linux.readonlyPaths", "unable to restrict sys entries without a private MNT namespace")
	}
	return nil
}

// namespace returns the entry of one kind, nil if the container shares the
// runtime's.
func namespace(s *specs.Spec, t specs.LinuxNamespaceType) *specs.LinuxNamespace {
	for i := range s.Linux.Namespaces {
		if s.Linux.Namespaces[i].Type == t {
			return &s.Linux.Namespaces[i]
		}
	}
	return nil
}

func hasNamespace(s *specs.Spec, t specs.LinuxNamespaceType) bool { return namespace(s, t) != nil }

// checkIDMappings checks the maps of a user namespace. A new one needs both;
// one that is joined has them already, where repeating them is harmless.
func checkIDMappings(s *specs.Spec) error {
	user := namespace(s, specs.UserNamespace)
	for _, m := range []struct {
		path string
		maps []specs.LinuxIDMapping
	}{
		{"linux.uidMappings", s.Linux.UIDMappings},
		{"linux.gidMappings", s.Linux.GIDMappings},
	} {
		if user == nil && len(m.maps) > 0 {
			return invalid(m.path, "set without a user namespace")
		}
		if user != nil && user.Path == "" && len(m.maps) == 0 {
			return invalid(m.path, "missing for a new user namespace")
		}
		for i, e := range m.maps {
			if e.Size == 0 || uint64(e.ContainerID)+uint64(e.Size) > maxID+1 || uint64(e.HostID)+uint64(e.Size) > maxID+1 {
				return invalid(element(m.path, i), "%d ids from %d to %d are outside 0 to %d", e.Size, e.ContainerID, e.HostID, maxID)
			}
		}
	}
	return nil
}

// checkTimeOffsets checks the clocks of a time namespace.
func checkTimeOffsets(s *specs.Spec) error {
	if len(s.Linux.TimeOffsets) == 0 {
		return nil
	}
	if ns := namespace(s, specs.TimeNamespace); ns == nil || ns.Path != "" {
		return invalid("linux.timeOffsets", "set without a new time namespace")
	}
	for clock, o := range s.Linux.TimeOffsets {
		if clock != "monotonic" && clock != "boottime" {
			return invalid("linux.timeOffsets", "unknown clock %q, want monotonic or boottime", clock)
		}
		if o.Nanosecs > 999_999_999 {
			return invalid("linux.timeOffsets."+clock+".nanosecs", "%d is a second or more", o.Nanosecs)
		}
	}
	return nil
}

// ipcSysctls are the settings of an IPC namespace outside fs.mqueue.
var ipcSysctls = []string{
	"kernel/msgmax", "kernel/msgmnb", "kernel/msgmni", "kernel/sem",
	"kernel/shmall", "kernel/shmmax", "kernel/shmmni", "kernel/shm_rmid_forced",
}

// SysctlPath returns the path below /proc/sys of a kernel setting. As with
// sysctl(8) the separator is whichever of '.' and '/' comes first, and the other
// one stands for a dot inside a name (net/ipv4/conf/eth0.100/forwarding).
func SysctlPath(name string) (string, error) {
	path := name
	if i := strings.IndexAny(name, "./"); i >= 0 && name[i] == '.' {
		path = strings.Map(swapSeparators, name)
	}
	for _, part := range strings.Split(path, "/") {
		if part == "" || part == "." || part == ".." || strings.ContainsAny(part, "\n\x00") {
			return "", invalid("linux.sysctl", "%q is not the name of a kernel setting", name)
		}
	}
	return path, nil
}

func swapSeparators(r rune) rune {
	switch r {
	case '.':
		return '/'
	case '/':
		return '.'
	}
	return r
}

// checkSysctls allows the settings that belong to a namespace which the
// container has to itself. All others are the host's (CVE-2022-0532).
func checkSysctls(s *specs.Spec) error {
	for name, value := range s.Linux.Sysctl {
		path, err := SysctlPath(name)
		if err != nil {
			return err
		}
		// Some engines packed several settings into one string, so that a value
		// could bring a second one along (CVE-2022-0811).
		if strings.ContainsAny(value, "=\n\x00") {
			return invalid("linux.sysctl", "value %q of %s has a line break or '='", value, name)
		}
		if err := checkSysctlOwner(s, name, path); err != nil {
			return err
		}
	}
	return nil
}

// checkSysctlOwner finds the namespace that owns a setting and demands it.
func checkSysctlOwner(s *specs.Spec, name, path string) error {
	var owner specs.LinuxNamespaceType
	switch {
	case strings.HasPrefix(path, "net/"):
		owner = specs.NetworkNamespace
	case strings.HasPrefix(path, "fs/mqueue/"), slices.Contains(ipcSysctls, path):
		owner = specs.IPCNamespace
	case strings.HasPrefix(path, "user/"):
		owner = specs.UserNamespace
	case path == "kernel/domainname":
		owner = specs.UTSNamespace
	case path == "kernel/hostname":
		return invalid("linux.sysctl", "%s is set by the field hostname", name)
	default:
		return invalid("linux.sysctl", "%s belongs to no namespace: it would change the host", name)
	}
	ns := namespace(s, owner)
	if ns == nil {
		return invalid("linux.sysctl", "%s needs a %s namespace: it would change the host", name, owner)
	}
	if ns.Path != "" && isHostNamespace(ns) {
		return invalid("linux.sysctl", "%s would change the host: %s is its %s namespace", name, ns.Path, owner)
	}
	return nil
}

// procName is the entry of /proc/PID/ns for a type.
func procName(t specs.LinuxNamespaceType) string {
	switch t {
	case specs.NetworkNamespace:
		return "net"
	case specs.MountNamespace:
		return "mnt"
	}
	return string(t)
}

// isHostNamespace tells whether a namespace that is joined is the one the
// runtime is in. A path that cannot be looked at cannot be joined either; the
// join reports it.
func isHostNamespace(ns *specs.LinuxNamespace) bool {
	var joined, own unix.Stat_t
	if err := unix.Stat(ns.Path, &joined); err != nil {
		return errors.Is(err, fs.ErrPermission) // when in doubt, it is
	}
	if err := unix.Stat("/proc/self/ns/"+procName(ns.Type), &own); err != nil {
		return true
	}
	return joined.Dev == own.Dev && joined.Ino == own.Ino
}
