package rootfs

import (
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"box/internal/errdefs"
	"box/pkg/launch"
)

// inRoot is how every path inside the root is resolved.
const inRoot = unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS

// Rootfs is the checked wish for a file system, to be written as steps.
type Rootfs struct {
	label       string // of files, for SELinux; empty for none
	facts       Facts
	readonly    bool
	propagation options
	mounts      []mount
	devices     []device
	masked      []string
	readonlies  []string
	foreign     bool // its ids are not the runtime's: a user namespace, new or joined
	confined    bool // the program has rights in a user namespace alone: that, or the runtime's own
	shared      bool // others live in the mount namespace: the runtime, or another container
	cgroupns    bool // the container's own cgroup is the root of what it sees
	errands     []Errand
	notes       []string   // what a user should know, and nothing fails for
	links       []link     // made when the mounts are
	helper      launch.Int // descriptor of the socket to the parent

	root    launch.Slot
	hows    map[[2]uint64]*launch.Data
	stat    *launch.Data // buffer for statx and fstatfs
	sealed  []sealed     // what becomes read-only last
	kernels []kernel     // by which masked and read-only paths are found
}

// mount is one of the spec's mounts.
type mount struct {
	options
	kind   string // file system type; empty for a bind mount
	source string
	dest   string // absolute and clean, not resolved
	file   bool   // mounted on a file
	ids    *IDMap // whose owners the mount shows; nil for the source's own
	create string // what to make if dest is missing, symlinks resolved; empty: nothing
	exist  string // prefix of create that is surely there
	label  string // of the root directory, for SELinux; empty for none of its own
	mark   string // how it asks its parent for help; empty if it never does
	within int    // 1 + the index of a new tmpfs among the mounts that this one lies in; 0 for none

	fd         launch.Slot // of the mount, once it is made
	first, end int         // its steps in the plan
}

// kernel is a mounted procfs or sysfs.
type kernel struct {
	mount launch.Slot
	dest  string
}

// sealed is a mount that must be writable while it is filled.
type sealed struct {
	mount launch.Slot
	dest  string
}

// Namespaces is what New must know of the container's namespaces.
type Namespaces interface {
	// Creates reports whether a new namespace of the type is made.
	Creates(specs.LinuxNamespaceType) bool
	// Shares reports whether the container lives in the runtime's own.
	Shares(specs.LinuxNamespaceType) bool
}

// New checks the file system part of a spec against what can be carried out. It
// looks at nothing but its arguments.
func New(s *specs.Spec, ns Namespaces, f Facts) (*Rootfs, error) {
	r := &Rootfs{
		facts:    f,
		readonly: s.Root.Readonly,
		foreign:  !ns.Shares(specs.UserNamespace),
		confined: !ns.Shares(specs.UserNamespace) || f.Confined,
		shared:   !ns.Creates(specs.MountNamespace),
		cgroupns: !ns.Shares(specs.CgroupNamespace),
	}
	if err := r.readMounts(s.Mounts); err != nil {
		return nil, err
	}
	if s.Linux == nil {
		return r, r.readDevices(nil)
	}
	r.addLabel(s.Linux.MountLabel)
	r.masked, r.readonlies = distinct(s.Linux.MaskedPaths), distinct(s.Linux.ReadonlyPaths)
	if ns.Shares(specs.MountNamespace) && len(r.masked)+len(r.readonlies) > 0 {
		return nil, errdefs.New(errdefs.ErrInvalid, "read linux.maskedPaths and linux.readonlyPaths: unable to restrict sys entries without a private MNT namespace")
	}
	if err := r.readPropagation(s.Linux.RootfsPropagation); err != nil {
		return nil, err
	}
	return r, r.readDevices(s.Linux.Devices)
}

// Notes are warnings about the configuration: other runtimes carry it out in the same
// way, and it may not be what its author thinks.
func (r *Rootfs) Notes() []string { return r.notes }

// distinct makes the spec's paths absolute and free of dots, each of them once.
func distinct(paths []string) []string {
	out := make([]string, 0, len(paths))
	for _, p := range paths {
		if p = cleanDest(p); !slices.Contains(out, p) {
			out = append(out, p)
		}
	}
	return out
}

// readPropagation takes linux.rootfsPropagation, whose words are those of mounts.
func (r *Rootfs) readPropagation(word string) error {
	if word != "" && !r.propagation.addPropagation(word) {
		return errdefs.New(errdefs.ErrInvalid, "read linux.rootfsPropagation: unknown value %q", word)
	}
	return nil
}

func (r *Rootfs) readMounts(list []specs.Mount) error {
	if len(r.facts.Mounts) != len(list) {
		return errdefs.New(errdefs.ErrInvalid, "plan mounts: facts tell of %d mounts, the spec of %d", len(r.facts.Mounts), len(list))
	}
	for i, m := range list {
		mount, err := r.readMount(m, r.facts.Mounts[i])
		if err != nil {
			return errdefs.Wrap(errdefs.ErrInvalid, &MountError{i, m.Destination, err})
		}
		if mount.kind == "cgroup" && len(r.facts.Hierarchies) > 0 {
			r.addHierarchies(mount)
			continue
		}
		r.mounts = append(r.mounts, mount)
	}
	r.readErrands()
	return nil
}

// MountError says which of the spec's mounts cannot be made.
type MountError struct {
	Index int    // in the spec's list
	Dest  string // as the spec has it
	Err   error
}

// Error names the mount by number and destination.
func (e *MountError) Error() string {
	return "read mounts[" + itoa(e.Index) + "] (" + e.Dest + "): " + e.Err.Error()
}

// Unwrap gives what is wrong with it.
func (e *MountError) Unwrap() error { return e.Err }

// readMount checks one mount and joins what the spec and the facts say about it.
func (r *Rootfs) readMount(m specs.Mount, f MountFacts) (mount, error) {
	o, err := parseOptions(m.Options)
	if err != nil {
		return mount{}, err
	}
	out := mount{options: o, kind: m.Type, source: m.Source, dest: r.facts.dest(m.Destination), file: f.File}
	if out.dest == "/" {
		return mount{}, errdefs.New(errdefs.ErrInvalid, "destination is the root itself")
	}
	if isBind(m) {
		out.bind, out.kind, out.source = true, "", f.Source
		if len(o.data) > 0 {
			r.notes = append(r.notes, "ignoring options of the mount on "+out.dest+" that mean nothing for a bind mount: "+strings.Join(o.data, " "))
		}
	} else if out.kind == "" && !out.remount {
		return mount{}, errdefs.New(errdefs.ErrInvalid, "type is empty, and no option says bind")
	}
	if err := out.checkOptions(); err != nil {
		return mount{}, err
	}
	if out.ids, err = r.idMap(m, &out); err != nil {
		return mount{}, err
	}
	if err := r.cgroupMount(&out); err != nil {
		return mount{}, err
	}
	r.plannedTarget(&out, f)
	out.inheritMode(f)
	return out, out.checkProc(f)
}

// checkOptions refuses words that do not go together.
func (m *mount) checkOptions() error {
	switch {
	case m.copyUp && m.kind != "tmpfs":
		return errdefs.New(errdefs.ErrInvalid, "option \"tmpcopyup\" is for tmpfs only")
	case m.copyUp && m.remount:
		return errdefs.New(errdefs.ErrInvalid, "options \"tmpcopyup\" and \"remount\" exclude each other")
	case (m.kind == "cgroup" || m.kind == "cgroup2") && m.remount:
		return errdefs.New(errdefs.ErrUnsupported, "option \"remount\" is not supported for control groups")
	}
	return nil
}

// inheritMode gives a tmpfs the permissions of the directory that it covers, if the
// configuration does not say which, as runc does.
func (m *mount) inheritMode(f MountFacts) {
	says := func(word string) bool { return strings.HasPrefix(word, "mode=") }
	if m.kind == "tmpfs" && !m.remount && f.Mode != 0 && !slices.ContainsFunc(m.data, says) {
		m.data = append(m.data, "mode="+strconv.FormatUint(uint64(f.Mode&0o7777), 8))
	}
}

// plannedTarget decides what may have to be made: what was missing when we looked,
// and everything below an earlier mount, of whose content we know nothing.
func (r *Rootfs) plannedTarget(m *mount, f MountFacts) {
	m.create, m.exist = f.Missing, "/"
	for _, earlier := range r.mounts {
		if under(m.dest, earlier.dest) && len(earlier.dest) > len(m.exist) {
			m.create, m.exist = m.dest, earlier.dest
		}
	}
}

// under says whether p lies below dir, both absolute and clean.
func under(p, dir string) bool {
	return p != dir && (dir == "/" || strings.HasPrefix(p, dir+"/"))
}

// procTargets are the files of procfs that may be mounted over: programs such as
// lxcfs provide versions of them that fit the container.
var procTargets = [...]string{
	"/proc/cpuinfo", "/proc/diskstats", "/proc/loadavg", "/proc/meminfo", "/proc/net/dev",
	"/proc/slabinfo", "/proc/stat", "/proc/swaps", "/proc/uptime",
	"/proc/sys/kernel/ns_last_pid", "/proc/sys/crypto/fips_enabled",
}

// overProc says whether the mount is one of those that may lie on a procfs.
func (m *mount) overProc() bool {
	for _, t := range procTargets {
		if m.bind && m.dest == t {
			return true
		}
	}
	return m.kind == "proc" || m.kind == "sysfs"
}

// checkProc refuses what would put a false procfs before programs that trust it
// (CVE-2019-16884). What hides behind symlinks is found by the steps.
func (m *mount) checkProc(f MountFacts) error {
	switch {
	case m.dest == "/proc" && m.kind != "proc" && !(m.bind && f.Proc):
		return errdefs.New(errdefs.ErrInvalid, "only a procfs may be mounted on /proc")
	case under(m.dest, "/proc") && !m.overProc():
		return errdefs.New(errdefs.ErrInvalid, "%q cannot be mounted because it is inside /proc", m.dest)
	}
	return nil
}

// name is how messages call the mount.
func (m *mount) name() string {
	if m.remount {
		return "remount " + m.dest
	}
	if m.bind {
		return "mount " + m.source + " on " + m.dest
	}
	return "mount " + m.kind + " on " + m.dest
}

// split gives directory and last element.
func split(p string) (dir, base string) { return path.Dir(p), path.Base(p) }
