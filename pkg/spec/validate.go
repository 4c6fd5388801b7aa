package spec

import (
	"slices"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"

	"box/internal/errdefs"
)

const (
	// maxID is the largest user or group id: larger ones wrap somewhere
	// (CVE-2024-40635).
	maxID = 1<<31 - 1
	// maxPath is the kernel's PATH_MAX, with the final NUL. Longer strings have
	// overflowed length fields on their way into a container (CVE-2021-43784).
	maxPath = 4096
	// maxHostname is the kernel's __NEW_UTS_LEN.
	maxHostname = 64
)

// Validate checks a configuration: first that no field is set which is not
// carried out (ErrUnsupported), then that the values make sense (ErrInvalid).
// The first mistake is returned, with the path of its field.
func Validate(s *specs.Spec) error {
	if err := refuse(s); err != nil {
		return err
	}
	if err := checkVersion(s.Version); err != nil {
		return err
	}
	if s.Process == nil {
		return invalid("process", "missing")
	}
	if s.Root == nil || s.Root.Path == "" {
		return invalid("root.path", "missing")
	}
	if s.Linux == nil {
		return invalid("linux", "missing")
	}
	for _, check := range []func(*specs.Spec) error{
		func(s *specs.Spec) error { return checkProcess(s.Process) },
		checkMounts,
		checkHooks,
		checkNamespaces,
		checkIDMappings,
		checkNames,
		checkSysctls,
		checkLinuxPaths,
		checkDevices,
		checkTimeOffsets,
	} {
		if err := check(s); err != nil {
			return err
		}
	}
	return nil
}

// ValidateProcess checks a process that joins a container.
func ValidateProcess(p *specs.Process) error {
	if err := refuse(&specs.Spec{Process: p}); err != nil {
		return err
	}
	return checkProcess(p)
}

// ValidateResources checks limits that a running container is to have.
func ValidateResources(r *specs.LinuxResources) error {
	return refuse(&specs.Spec{Linux: &specs.Linux{Resources: r}})
}

// invalid returns an error about the value of a field.
func invalid(path, format string, a ...any) error {
	return errdefs.New(errdefs.ErrInvalid, "%s: "+format, append([]any{path}, a...)...)
}

// checkVersion accepts every release of version 1: the specification promises
// that they stay compatible, and callers write the newest they were built with.
func checkVersion(v string) error {
	if v == "" {
		return invalid("ociVersion", "missing")
	}
	if v != "1" && !strings.HasPrefix(v, "1.") {
		return errdefs.New(errdefs.ErrUnsupported, "ociVersion: %q is not supported, want 1.x", v)
	}
	return nil
}

// checkNames checks the host and domain name, which would be the host's own
// without a UTS namespace.
func checkNames(s *specs.Spec) error {
	for _, n := range []struct{ path, value string }{
		{"hostname", s.Hostname},
		{"domainname", s.Domainname},
	} {
		if n.value == "" {
			continue
		}
		if len(n.value) > maxHostname {
			return invalid(n.path, "longer than %d bytes", maxHostname)
		}
		if strings.ContainsAny(n.value, "\n\x00") {
			return invalid(n.path, "%q has a line break", n.value)
		}
		if !hasNamespace(s, specs.UTSNamespace) {
			return invalid(n.path, "cannot be set without a uts namespace")
		}
	}
	return nil
}

// checkMounts checks the mounts one by one. Their order is the caller's.
func checkMounts(s *specs.Spec) error {
	for i, m := range s.Mounts {
		if err := checkMount(element("mounts", i), m); err != nil {
			return err
		}
	}
	return nil
}

func checkMount(path string, m specs.Mount) error {
	// A relative destination is an old custom, and means one that begins at the root.
	if m.Destination == "" {
		return invalid(path+".destination", "missing")
	}
	if err := checkAbsolute(path+".destination", "/"+m.Destination); err != nil {
		return err
	}
	if len(m.Source) >= maxPath {
		return invalid(path+".source", "longer than %d bytes", maxPath-1)
	}
	options := 0
	for _, o := range m.Options {
		options += len(o) + 1
	}
	if options >= maxPath {
		return invalid(path+".options", "longer than %d bytes", maxPath-1)
	}
	bind := m.Type == "bind" || slices.Contains(m.Options, "bind") || slices.Contains(m.Options, "rbind")
	if bind && m.Source == "" {
		return invalid(path+".source", "missing for a bind mount")
	}
	if !bind && m.Type == "" {
		return invalid(path+".type", "missing")
	}
	return nil
}

// checkHooks checks the commands that run around the container.
func checkHooks(s *specs.Spec) error {
	if s.Hooks == nil {
		return nil
	}
	for _, kind := range []struct {
		name  string
		hooks []specs.Hook
	}{
		{"prestart", s.Hooks.Prestart}, //nolint:staticcheck // deprecated, and what dockerd's networking stands on
		{"createRuntime", s.Hooks.CreateRuntime},
		{"createContainer", s.Hooks.CreateContainer},
		{"startContainer", s.Hooks.StartContainer},
		{"poststart", s.Hooks.Poststart},
		{"poststop", s.Hooks.Poststop},
	} {
		for i, h := range kind.hooks {
			path := element("hooks."+kind.name, i)
			if err := checkAbsolute(path+".path", h.Path); err != nil {
				return err
			}
			if h.Timeout != nil && *h.Timeout <= 0 {
				return invalid(path+".timeout", "%d is not a positive number of seconds", *h.Timeout)
			}
		}
	}
	return nil
}

// propagations are the words of linux.rootfsPropagation.
var propagations = []string{
	"", "shared", "slave", "private", "unbindable", "rshared", "rslave", "rprivate", "runbindable",
}

// checkLinuxPaths checks the paths of the linux section.
func checkLinuxPaths(s *specs.Spec) error {
	for _, list := range []struct {
		path  string
		paths []string
	}{
		{"linux.maskedPaths", s.Linux.MaskedPaths},
		{"linux.readonlyPaths", s.Linux.ReadonlyPaths},
	} {
		for i, p := range list.paths {
			if err := checkAbsolute(element(list.path, i), p); err != nil {
				return err
			}
		}
	}
	// A group outside the tree it was meant for escapes the tree's limits.
	if slices.Contains(strings.Split(s.Linux.CgroupsPath, "/"), "..") {
		return invalid("linux.cgroupsPath", `%q contains ".."`, s.Linux.CgroupsPath)
	}
	if !slices.Contains(propagations, s.Linux.RootfsPropagation) {
		return invalid("linux.rootfsPropagation", "unknown propagation %q", s.Linux.RootfsPropagation)
	}
	return nil
}

// checkDevices checks the device nodes.
func checkDevices(s *specs.Spec) error {
	for i, dev := range s.Linux.Devices {
		path := element("linux.devices", i)
		if err := checkAbsolute(path+".path", dev.Path); err != nil {
			return err
		}
		switch dev.Type {
		case "b", "c", "u":
			if dev.Major < 0 || dev.Minor < 0 {
				return invalid(path, "device number %d:%d is negative", dev.Major, dev.Minor)
			}
		case "p": // a FIFO has no number
		default:
			return invalid(path+".type", "unknown device type %q, want b, c, u or p", dev.Type)
		}
		if err := checkID(path+".uid", dev.UID); err != nil {
			return err
		}
		if err := checkID(path+".gid", dev.GID); err != nil {
			return err
		}
	}
	return nil
}

// checkAbsolute checks a path inside the container, or of a hook.
func checkAbsolute(path, value string) error {
	switch {
	case value == "":
		return invalid(path, "missing")
	case !strings.HasPrefix(value, "/"):
		return invalid(path, "%q is not an absolute path", value)
	case len(value) >= maxPath:
		return invalid(path, "longer than %d bytes", maxPath-1)
	case strings.Contains(value, "\x00"):
		return invalid(path, "%q contains a NUL byte", value)
	}
	return nil
}

// checkID checks an optional id.
func checkID(path string, id *uint32) error {
	if id != nil && *id > maxID {
		return invalid(path, "%d is larger than %d", *id, maxID)
	}
	return nil
}
