package gen

import (
	"cmp"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"

	"box/internal/errdefs"
)

// Version is the ociVersion that generated configurations carry. It is older
// than the newest release on purpose: nothing newer is used, and runtimes of
// that age refuse what they do not know (crun 1.8 refuses 1.3.0).
const Version = "1.0.2"

// DefaultPath is the PATH of a container whose image sets none, as in Docker.
const DefaultPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// defaultShmSize is the size of /dev/shm in bytes unless Options say otherwise.
const defaultShmSize = 64 << 20

// Options is what a caller decides about one container. The zero value of every
// field stands for Docker's default.
type Options struct {
	// Rootfs is the path of the root file system, absolute or relative to the
	// bundle. Empty means "rootfs".
	Rootfs string
	// Readonly mounts the root file system read-only.
	Readonly bool

	// Args is the command with its arguments; it must not be empty.
	Args []string
	// Env holds NAME=value entries. An entry without '=' is refused: taking its
	// value from the host is a decision for the command line alone, never for
	// an image (CVE-2026-57231).
	Env []string
	// Cwd is the absolute working directory; empty means "/".
	Cwd string
	// User is the numeric user, usually from ResolveUser.
	User specs.User
	// Terminal gives the process a pseudo terminal as its stdio.
	Terminal bool
	// Hostname is the host name; empty leaves the runtime's.
	Hostname string
	// NoNewPrivileges stops set-user-id programs from gaining privileges.
	NoNewPrivileges bool
	// Rlimits are set as they are; empty inherits those of the caller.
	Rlimits []specs.POSIXRlimit
	// Capabilities replaces Docker's fourteen. Nil keeps them; an empty slice
	// leaves none.
	Capabilities []string

	// Mounts are added after the default mounts, parents first. One with the
	// destination of a default mount replaces it; one on /dev also replaces
	// the default mounts below /dev.
	Mounts []specs.Mount
	// ShmSize is the size of /dev/shm in bytes; 0 means 64 MiB.
	ShmSize int64

	// NetworkPath is the network namespace to join. Empty makes a new one,
	// unless HostNetwork is set.
	NetworkPath string
	// HostNetwork keeps the network namespace of the caller.
	HostNetwork bool

	// CgroupsPath is the control group, in the form of linux.cgroupsPath.
	CgroupsPath string
	// Resources are the limits. Device rules in it come after the default ones.
	Resources *specs.LinuxResources

	// SeccompUnconfined starts the process without a seccomp filter.
	SeccompUnconfined bool
	// Socketcall lets 32-bit x86 programs make sockets through socketcall(2),
	// whose address family no filter can see. Set it for images made for
	// linux/386, which have no other way in their C library.
	Socketcall bool

	// Annotations are copied.
	Annotations map[string]string
}

// Spec returns the configuration of a container.
func Spec(o Options) (*specs.Spec, error) {
	if err := check(o); err != nil {
		return nil, err
	}
	s := &specs.Spec{
		Version:     Version,
		Process:     process(o),
		Root:        &specs.Root{Path: cmp.Or(o.Rootfs, "rootfs"), Readonly: o.Readonly},
		Hostname:    o.Hostname,
		Mounts:      mounts(o),
		Annotations: maps.Clone(o.Annotations),
		Linux: &specs.Linux{
			CgroupsPath:   o.CgroupsPath,
			Resources:     resources(o.Resources),
			Namespaces:    namespaces(o),
			Sysctl:        sysctls(o),
			MaskedPaths:   maskedPaths(hostThermalPaths()),
			ReadonlyPaths: readonlyPaths(),
		},
	}
	if o.SeccompUnconfined {
		return s, nil
	}
	filter, err := seccompProfile(s.Process.Capabilities.Bounding, o.Socketcall)
	if err != nil {
		return nil, err
	}
	s.Linux.Seccomp = filter
	return s, nil
}

// check refuses what cannot become a container, before anything is built on it.
func check(o Options) error {
	if len(o.Args) == 0 {
		return errdefs.New(errdefs.ErrInvalid, "generate spec: no command given")
	}
	if o.HostNetwork && o.NetworkPath != "" {
		return errdefs.New(errdefs.ErrInvalid, "generate spec: both the host's network and network namespace %s", o.NetworkPath)
	}
	if o.Cwd != "" && !strings.HasPrefix(o.Cwd, "/") {
		return errdefs.New(errdefs.ErrInvalid, "generate spec: working directory %q is not absolute", o.Cwd)
	}
	for _, e := range o.Env {
		if name, _, ok := strings.Cut(e, "="); !ok || name == "" {
			return errdefs.New(errdefs.ErrInvalid, "generate spec: environment entry %q is not NAME=value", e)
		}
	}
	return nil
}

// process fills the process section.
func process(o Options) *specs.Process {
	caps := o.Capabilities
	if caps == nil {
		caps = DefaultCapabilities()
	}
	return &specs.Process{
		Terminal:        o.Terminal,
		User:            o.User,
		Args:            slices.Clone(o.Args),
		Env:             slices.Clone(o.Env),
		Cwd:             cmp.Or(o.Cwd, "/"),
		Capabilities:    capabilities(caps, o.User.UID),
		Rlimits:         slices.Clone(o.Rlimits),
		NoNewPrivileges: o.NoNewPrivileges,
	}
}

// capabilities gives root the sets that execve(2) would give it, and everyone
// else the bounding set only: a process that is not root starts with no
// effective capability, but a set-user-id program may still gain them. The
// inheritable set stays empty for both (CVE-2022-24769).
func capabilities(caps []string, uid uint32) *specs.LinuxCapabilities {
	if uid != 0 {
		return &specs.LinuxCapabilities{Bounding: slices.Clone(caps)}
	}
	return &specs.LinuxCapabilities{
		Bounding:  slices.Clone(caps),
		Effective: slices.Clone(caps),
		Permitted: slices.Clone(caps),
	}
}

// mounts merges the caller's mounts into the default ones.
func mounts(o Options) []specs.Mount {
	mine := make(map[string]bool, len(o.Mounts))
	for _, m := range o.Mounts {
		mine[m.Destination] = true
	}
	var all []specs.Mount
	for _, m := range defaultMounts(cmp.Or(o.ShmSize, defaultShmSize)) {
		covered := mine[m.Destination] || mine["/dev"] && strings.HasPrefix(m.Destination, "/dev/")
		if !covered {
			all = append(all, m)
		}
	}
	extra := slices.Clone(o.Mounts)
	// A parent has to be there before what is mounted in it.
	slices.SortStableFunc(extra, func(a, b specs.Mount) int {
		return strings.Count(a.Destination, "/") - strings.Count(b.Destination, "/")
	})
	return append(all, extra...)
}

// namespaces lists the namespaces of the container.
func namespaces(o Options) []specs.LinuxNamespace {
	list := []specs.LinuxNamespace{
		{Type: specs.MountNamespace},
		{Type: specs.UTSNamespace},
		{Type: specs.PIDNamespace},
		{Type: specs.IPCNamespace},
		{Type: specs.CgroupNamespace},
	}
	if !o.HostNetwork {
		list = append(list, specs.LinuxNamespace{Type: specs.NetworkNamespace, Path: o.NetworkPath})
	}
	return list
}

// sysctls lets users other than root do in the container's own network what is
// harmless there: send pings, and bind ports below 1024. Docker sets the same.
func sysctls(o Options) map[string]string {
	if o.HostNetwork {
		return nil
	}
	return map[string]string{
		"net.ipv4.ip_unprivileged_port_start": "0",
		"net.ipv4.ping_group_range":           "0 2147483647",
	}
}

// resources puts the default device rules before the caller's limits.
func resources(r *specs.LinuxResources) *specs.LinuxResources {
	if r == nil {
		return &specs.LinuxResources{Devices: defaultDeviceRules()}
	}
	merged := *r
	merged.Devices = append(defaultDeviceRules(), r.Devices...)
	return &merged
}

// shmOption is the tmpfs option that limits /dev/shm to size bytes.
func shmOption(size int64) string { return "size=" + strconv.FormatInt(size, 10) }
