package plan

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"box/pkg/label"
	"box/pkg/launch"
	"box/pkg/namespaces"
	"box/pkg/rootfs"
	"box/pkg/sched"
	"box/pkg/spec"
	"box/pkg/terminal"
)

// This file turns the process of a spec into the last third of a plan: from the
// moment when the file system stands, to execve. Create and exec share it.

// Process is what the plan of a process depends on, beside its layout.
type Process struct {
	// Notes is what is worth a warning, but stops nothing.
	Notes []string
	// Filter is for seccomp(2), with Flags; nil is none.
	Filter []unix.SockFilter
	Flags  uint
	// Keyring is the name of the session keyring; empty keeps the caller's.
	Keyring string
	// DeathSignal is what the command gets when the process that has started it dies
	// (PR_SET_PDEATHSIG); 0 is nothing.
	DeathSignal unix.Signal
	// Visible is for a caller without privileges who has to find the program before its
	// execve: to take the listener of its filter, or while it waits for start.
	Visible bool
	// Affinity is for whoever starts a process that joins.
	Affinity sched.Affinity

	spec     *specs.Process
	layout   *Layout
	first    bool // it is the container's own process, which makes the keyring
	userns   bool // ids are those of a user namespace
	confined bool // and the runtime's are
	caps     capabilities
	lastCap  int    // highest capability number of this kernel
	held     uint64 // capabilities that the program begins with
	nulls    []int  // standard streams that are the host's /dev/null
	streams  []int  // standard streams that become the command's user's
	enter    bool   // it is yet to enter the container's pid namespace

	wish    label.Wish  // confinement by security modules
	modules label.Host  // those that there are
	keys    launch.Slot // where SELinux is told the label of keys

	memory      *specs.LinuxMemoryPolicy
	personality *specs.LinuxPersonality
}

// NewProcess reads a process of a spec, of container id, and checks what the kernel
// would refuse without a reason. userns says that it lives in a user namespace other
// than ours. It has no filter yet. Errors are of class ErrInvalid, ErrUnsupported or
// ErrUnavailable.
func NewProcess(id string, p *specs.Process, f *Facts, userns bool) (*Process, error) {
	var notes []string
	caps, unknown := capabilitySets(p.Capabilities, f.LastCap)
	if len(unknown) > 0 {
		notes = append(notes, "ignoring unknown or unavailable capabilities: "+strings.Join(unknown, " "))
	}
	held := f.Held
	if userns { // where the root has them all, whoever we are outside
		held = allCapabilities
	}
	wish := label.Wish{AppArmor: p.ApparmorProfile, SELinux: p.SelinuxLabel}
	if err := errors.Join(caps.check(held), wish.Check(f.Modules)); err != nil {
		return nil, err
	}
	if err := errors.Join(sched.CheckScheduler(p.Scheduler), sched.CheckIOPriority(p.IOPriority)); err != nil {
		return nil, err
	}
	affinity, err := sched.ParseAffinity(p.ExecCPUAffinity)
	if err != nil {
		return nil, err
	}
	for _, name := range caps.fitAmbient() {
		notes = append(notes, "can't raise ambient capability "+name+": it is not both permitted and inheritable")
	}
	out := &Process{
		Notes: notes, Keyring: "_ses." + id, Affinity: affinity,
		spec: p, caps: caps, lastCap: f.LastCap, held: held, userns: userns, confined: f.Confined, wish: wish, modules: f.Modules,
	}
	if !p.Terminal { // which takes the place of all three
		out.nulls, out.streams = f.Nulls, streamsFor(f, p.User.UID, userns)
	}
	return out, nil
}

// AddExtras gives the process what the linux section of a spec says of each.
func (p *Process) AddExtras(l *specs.Linux) {
	p.memory, p.personality = l.MemoryPolicy, l.Personality
}

// becomeUser adds the steps that lead from the root of the container to the
// credentials of its command. The order is the substance:
//
//   - the working directory first, as root, for the command's user may not be
//     allowed to pass through the directories above it;
//   - the bounding set while CAP_SETPCAP is still held, ids while CAP_SETUID is,
//     and the other sets after the ids, for a change of ids clears them;
//   - the filter last, so that it need not allow what the steps before it call: after
//     it come read, write, execve and, without no_new_privs, capset, for until then
//     CAP_SYS_ADMIN is kept to load it with.
func (b *Assembly) becomeUser(p *Process, l *Layout) error {
	p.layout = l
	if err := errors.Join(sched.AddMemoryPolicy(b.Plan, p.memory), sched.AddPersonality(b.Plan, p.personality)); err != nil {
		return err
	}
	b.joinKeyring(p)
	if Listens(p.Flags) {
		b.enterPid(p) // the agent is to be told of the process that the command becomes
	}
	b.ownNull(p.nulls)
	b.ownStreams(p)
	enter := rootfs.AddEnter(b.Plan, p.spec.Cwd)
	b.closeDescriptors(l.Free, l.idle())
	b.limit(p, LimitFiles, "limit open files", "not earlier: setting up takes more files than the command may be allowed")
	b.dropBounding(p)
	b.setIDs(p)
	enter()
	kept := p.loader()
	b.setCapabilities(p, kept)
	b.raiseAmbient(p)
	b.probe(p)
	if !p.entersFiltered() {
		b.enterPid(p)
	}
	if p.DeathSignal != 0 {
		b.dieWithParent(p.DeathSignal)
	}
	if p.Visible {
		namespaces.AddVisible(b.Plan)
	}
	b.umask(p)
	if p.spec.NoNewPrivileges {
		b.add(launch.Step{
			Name: "set no_new_privs", Call: launch.Prctl,
			Args: launch.Args{launch.Int(unix.PR_SET_NO_NEW_PRIVS), launch.Int(1)},
			Why:  "the spec asks that execve gives no privileges",
		})
	}
	b.loadFilter(p, "last: it need not allow what the steps before it call")
	if kept&^p.caps.permitted != 0 {
		b.setCapabilities(p, 0)
	}
	b.enterPid(p)
	return nil
}

// enterPid adds the steps by which a program that joins a container goes on in its pid
// namespace. There, the container sees it, and what it may do to others of its user by
// CAP_SYS_PTRACE it may do to this one: open its root and its program, trace it. So it
// comes when the host is out of sight, and ids and capabilities are the command's: then
// nothing is left to take from it (CVE-2016-9962, CVE-2019-5736). It is done but once.
func (b *Assembly) enterPid(p *Process) {
	if !p.enter {
		return
	}
	p.enter = false
	b.Plan.Successor("enter the container's pid namespace", "last, for from here on the container can trace us")
	b.limit(p, LimitProcesses, "limit processes", "not earlier: for a moment we were two")
	if p.spec.Terminal {
		terminal.AddControl(b.Plan)
	} else {
		b.add(launch.Step{
			Name: "create a session", Call: launch.Setsid,
			Why: "the one that was made ends with the process that made it",
		})
	}
	if p.spec.Scheduler != nil {
		b.Plan.Mark(MarkEntered, "now the parent can give the scheduler its word about the process that stays")
		b.Plan.Await(launch.Int(p.layout.Permit), "wait for the scheduler to be told", "a fork may undo what was said before, or be forbidden by it")
	}
}

// closeDescriptors closes what was opened on the way, and leaves the channels to the
// parent for execve to close.
func (b *Assembly) closeDescriptors(firstFree, firstIdle int) {
	b.add(
		launch.Step{
			Name: "close descriptors", Call: launch.CloseRange,
			Args: launch.Args{launch.Int(firstIdle), launch.Int(1<<32 - 1), launch.Int(0)},
			Why:  "a container that waits for start holds nothing of the host's, nor mounts that were covered",
		},
		launch.Step{
			Name: "close the other descriptors on execve", Call: launch.CloseRange,
			Args: launch.Args{launch.Int(firstFree), launch.Int(1<<32 - 1), launch.Int(unix.CLOSE_RANGE_CLOEXEC)},
			Why:  "nothing of ours may reach the command, whatever it does with /proc/self/fd (CVE-2024-21626)",
		},
	)
}

// The limits that are set in two parts: what needs privilege from outside, by the parent,
// and the lowering by the program's last steps.
const (
	// LimitFiles cannot be low while the program sets up: it holds three descriptors for
	// each mount.
	LimitFiles = "RLIMIT_NOFILE"
	// LimitProcesses counts all processes of a user, also the one that another takes the
	// place of while a program enters a pid namespace.
	LimitProcesses = "RLIMIT_NPROC"
)

// limit adds the step that lowers a limit to what the spec says, if it says anything.
func (b *Assembly) limit(p *Process, kind, name, why string) {
	for _, l := range p.spec.Rlimits {
		if l.Type != kind {
			continue
		}
		resource, _ := spec.Rlimit(kind)
		limit := make([]byte, 0, 16) // struct rlimit64
		limit = binary.NativeEndian.AppendUint64(limit, l.Soft)
		limit = binary.NativeEndian.AppendUint64(limit, l.Hard)
		b.add(launch.Step{
			Name: name, Call: launch.Prlimit64,
			Args: launch.Args{
				launch.Int(0), launch.Int(resource),
				launch.Bytes(limit, func() string { return fmt.Sprintf("{%d, %d}", l.Soft, l.Hard) }),
			},
			Why: why,
		})
	}
}
