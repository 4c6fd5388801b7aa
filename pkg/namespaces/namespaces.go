// Package namespaces decides how a container comes into each of its namespaces, and
// writes that down: clone flags for those that are made with the process, steps for
// those that are made or joined by the launch program, and files for the forking
// thread to enter where the kernel leaves no other way.
//
//   - New mount, pid, network, uts, ipc and user namespaces are clone flags.
//   - A new cgroup namespace is a step, because its root is the cgroup at that moment:
//     as a clone flag it is right only where the clone itself is into the cgroup, as a
//     step it serves every way in which the program may have been placed.
//   - A new time namespace is a step, because with a clone flag the program itself
//     would already live in it when the offsets are written.
//   - Namespaces to be joined are entered by steps; but a pid namespace by the parent,
//     since it applies to children only, and all of them by the parent if the user
//     namespace is new: from inside it they are out of reach.
//   - With a user namespace that is joined, which only a program with a single thread
//     can do, the new ones are made by steps, for they must belong to it.
//
// The package makes plans and opens namespace files; it does not fork, and knows
// nothing of what happens inside. From parses and checks without touching the host.
package namespaces

import (
	"slices"
	"syscall"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"box/internal/errdefs"
)

// kind is what the kernel calls a type of namespace.
type kind struct {
	name specs.LinuxNamespaceType
	flag uintptr
	proc string // below /proc/PID/ns
}

// kinds in the order in which they are joined: the user namespace first, since it
// gives the rights over the others, and the mount namespace last, since paths and
// procfs change their meaning with it.
var kinds = [...]kind{
	{specs.UserNamespace, unix.CLONE_NEWUSER, "user"},
	{specs.IPCNamespace, unix.CLONE_NEWIPC, "ipc"},
	{specs.UTSNamespace, unix.CLONE_NEWUTS, "uts"},
	{specs.NetworkNamespace, unix.CLONE_NEWNET, "net"},
	{specs.PIDNamespace, unix.CLONE_NEWPID, "pid"},
	{specs.CgroupNamespace, unix.CLONE_NEWCGROUP, "cgroup"},
	{specs.TimeNamespace, unix.CLONE_NEWTIME, "time"},
	{specs.MountNamespace, unix.CLONE_NEWNS, "mnt"},
}

// byStep are the new namespaces that the program unshares itself.
const byStep = unix.CLONE_NEWCGROUP | unix.CLONE_NEWTIME

// Join is a namespace that exists already.
type Join struct {
	Type specs.LinuxNamespaceType
	// Path names the namespace file on the host.
	Path string

	kind kind
}

// Set is the namespaces of one container. What is in neither New nor Joins nor
// ParentJoins is shared with the runtime.
type Set struct {
	// New has the CLONE_NEW… flag of every namespace to be made.
	New uintptr
	// Joins are entered by the program's steps, in this order.
	Joins []Join
	// ParentJoins are entered by the forking thread (Opened.Enter).
	ParentJoins []Join

	uids, gids   []syscall.SysProcIDMap
	unprivileged bool // the caller is not root
	mapper       idMapper
	offsets      map[string]specs.LinuxTimeOffset
	begun        *Ahead // until Open takes it over
}

// From reads the set out of a configuration and checks what only makes sense
// together. It looks at nothing on the host.
func From(l *specs.Linux) (*Set, error) {
	s := &Set{}
	if l == nil {
		return s, nil
	}
	joins := map[uintptr]Join{}
	for _, ns := range l.Namespaces {
		k, ok := find(ns.Type)
		switch {
		case !ok:
			return nil, errdefs.New(errdefs.ErrUnsupported, "read linux.namespaces: type %q is not supported", ns.Type)
		case s.New&k.flag != 0 || joins[k.flag].Path != "":
			return nil, errdefs.New(errdefs.ErrInvalid, "read linux.namespaces: type %q is listed twice", ns.Type)
		case ns.Path == "":
			s.New |= k.flag
		default:
			joins[k.flag] = Join{ns.Type, ns.Path, k}
		}
	}
	s.sort(joins)
	if err := s.idMaps(l); err != nil {
		return nil, err
	}
	return s, s.timeOffsets(l)
}

func find(t specs.LinuxNamespaceType) (kind, bool) {
	i := slices.IndexFunc(kinds[:], func(k kind) bool { return k.name == t })
	if i < 0 {
		return kind{}, false
	}
	return kinds[i], true
}

// sort puts the joins in order and divides them between program and parent.
func (s *Set) sort(joins map[uintptr]Join) {
	for _, k := range kinds {
		j, ok := joins[k.flag]
		switch {
		case !ok:
		case k.flag == unix.CLONE_NEWPID || s.Creates(specs.UserNamespace):
			s.ParentJoins = append(s.ParentJoins, j)
		default:
			s.Joins = append(s.Joins, j)
		}
	}
}

// Creates reports whether a new namespace of this type is made.
func (s *Set) Creates(t specs.LinuxNamespaceType) bool {
	k, ok := find(t)
	return ok && s.New&k.flag != 0
}

// Shares reports whether the container lives in the runtime's own namespace of this
// type.
func (s *Set) Shares(t specs.LinuxNamespaceType) bool {
	of := func(j Join) bool { return j.Type == t }
	return !s.Creates(t) && !slices.ContainsFunc(s.Joins, of) && !slices.ContainsFunc(s.ParentJoins, of)
}

// joinsUser says that the user namespace is one that exists already.
func (s *Set) joinsUser() bool {
	return len(s.Joins) > 0 && s.Joins[0].kind.flag == unix.CLONE_NEWUSER
}

// Succeeds says that the steps of AddJoins end one process and begin another, whose
// number the parent finds in launch.Process after it has read a later report.
func (s *Set) Succeeds() bool {
	byStep := func(j Join) bool { return j.kind.flag == unix.CLONE_NEWPID }
	return s.joinsUser() && (s.New&unix.CLONE_NEWPID != 0 || slices.ContainsFunc(s.Joins, byStep))
}

// Flags returns the CLONE_NEW… flags of all listed namespaces, new or joined: those
// in which a process of the container differs from the runtime. Unknown types are
// left out.
func Flags(list []specs.LinuxNamespace) uintptr {
	var flags uintptr
	for _, ns := range list {
		if k, ok := find(ns.Type); ok {
			flags |= k.flag
		}
	}
	return flags
}

// idMaps checks that maps and user namespace belong together: a map without a new
// namespace would silently do nothing.
func (s *Set) idMaps(l *specs.Linux) error {
	n := len(l.UIDMappings) + len(l.GIDMappings)
	if !s.Creates(specs.UserNamespace) {
		if n > 0 && s.Shares(specs.UserNamespace) {
			return errdefs.New(errdefs.ErrInvalid, "read linux.uidMappings: id maps need a user namespace")
		}
		return nil // a joined namespace has its maps; engines repeat them in the config
	}
	var err error
	if s.uids, err = idMap("linux.uidMappings", l.UIDMappings); err != nil {
		return err
	}
	s.gids, err = idMap("linux.gidMappings", l.GIDMappings)
	return err
}

// maxID is one more than the largest id: (uid_t) -1 means "no id".
const maxID = 1<<32 - 1

// idMap reads one map of the container's own user namespace: its root must be in it,
// for the program sets up the container as that.
func idMap(field string, list []specs.LinuxIDMapping) ([]syscall.SysProcIDMap, error) {
	if !slices.ContainsFunc(list, func(m specs.LinuxIDMapping) bool { return m.ContainerID == 0 }) {
		return nil, errdefs.New(errdefs.ErrInvalid, "read %s: id 0 of the container is not mapped", field)
	}
	return entries(field, list)
}

func (s *Set) timeOffsets(l *specs.Linux) error {
	if len(l.TimeOffsets) == 0 {
		return nil
	}
	if !s.Creates(specs.TimeNamespace) {
		return errdefs.New(errdefs.ErrInvalid, "read linux.timeOffsets: offsets need a new time namespace")
	}
	for clock := range l.TimeOffsets {
		if clock != "monotonic" && clock != "boottime" {
			return errdefs.New(errdefs.ErrInvalid, "read linux.timeOffsets: unknown clock %q", clock)
		}
	}
	s.offsets = l.TimeOffsets
	return nil
}

// Configure sets what the fork itself does: clone flags, id maps, and the ids that
// the program starts with in a new user namespace. They must be its root's: execve
// takes all capabilities from anybody else.
func (s *Set) Configure(sys *syscall.SysProcAttr) {
	if s.joinsUser() {
		return // all is done by steps
	}
	sys.Cloneflags |= s.New &^ byStep
	if s.Creates(specs.UserNamespace) {
		sys.UidMappings, sys.GidMappings = s.uids, s.gids
		sys.GidMappingsEnableSetgroups = s.mapper == byKernel
		sys.Credential = &syscall.Credential{NoSetGroups: s.mapper != byKernel}
	}
}
