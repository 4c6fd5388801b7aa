package runtime

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"box/pkg/label"
	"box/pkg/launch"
	"box/pkg/rootfs"
	"box/pkg/sched"
	"box/pkg/seccomp"
	"box/pkg/spec"
	"box/pkg/spec/gen"
	"box/pkg/terminal"
)

// This file turns the process of a spec into the last third of a plan: from the
// moment when the file system stands, to execve. Create and exec share it.

// process is what the process steps need to know.
type process struct {
	spec      *specs.Process
	keyring   string            // name of the session keyring; empty keeps the old one
	first     bool              // it is the container's own process, which makes the keyring
	userns    bool              // ids are those of a user namespace
	filter    []unix.SockFilter // seccomp; nil for none
	flags     uint              // of the filter
	agent     *agent            // answers the calls that the filter leaves open; nil for none
	permit    int               // descriptor at which the program waits for the parent
	caps      capabilities
	lastCap   int    // highest capability number of this kernel
	held      uint64 // capabilities that the program begins with
	nulls     []int  // standard streams that are the host's /dev/null
	streams   []int  // standard streams that become the command's user's
	firstFree int    // lowest descriptor that the command must not see
	firstIdle int    // lowest from which on the program itself needs none any more
	child     int    // PR_SET_PDEATHSIG for the command; 0 for none
	enter     bool   // it is yet to enter the container's pid namespace

	wish    label.Wish  // confinement by security modules
	modules label.Host  // those that there are
	keys    launch.Slot // where SELinux is told the label of keys

	affinity    sched.Affinity // of a process that joins
	memory      *specs.LinuxMemoryPolicy
	personality *specs.LinuxPersonality
}

// newProcess reads a process of a spec and checks what the kernel would refuse
// without a reason. userns says that it lives in a user namespace other than ours.
// Filter and descriptors are left to the caller.
func newProcess(r *Runtime, p *specs.Process, f *facts, id string, userns bool) (*process, error) {
	caps, unknown := capabilitySets(p.Capabilities, f.lastCap)
	if len(unknown) > 0 {
		r.warn("ignoring unknown or unavailable capabilities: " + strings.Join(unknown, " "))
	}
	held := f.held
	if userns { // where the root has them all, whoever we are outside
		held = allCapabilities
	}
	wish := label.Wish{AppArmor: p.ApparmorProfile, SELinux: p.SelinuxLabel}
	if err := errors.Join(caps.check(held), wish.Check(f.modules)); err != nil {
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
		r.warn("can't raise ambient capability " + name + ": it is not both permitted and inheritable")
	}
	out := &process{
		spec: p, keyring: "_ses." + id, caps: caps, lastCap: f.lastCap, held: held, userns: userns,
		affinity: affinity, wish: wish, modules: f.modules,
	}
	if !p.Terminal { // which takes the place of all three
		out.nulls, out.streams = f.nulls, streamsFor(f, p.User.UID, userns)
	}
	return out, nil
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
func (b *assembly) becomeUser(p *process) error {
	if err := errors.Join(sched.AddMemoryPolicy(b.plan, p.memory), sched.AddPersonality(b.plan, p.personality)); err != nil {
		return err
	}
	b.joinKeyring(p)
	if listens(p.flags) {
		b.enterPid(p) // the agent is to be told of the process that the command becomes
	}
	b.ownNull(p.nulls)
	b.ownStreams(p)
	enter := rootfs.AddEnter(b.plan, p.spec.Cwd)
	b.closeDescriptors(p.firstFree, p.firstIdle)
	b.limit(p, limitFiles, "limit open files", "not earlier: setting up takes more files than the command may be allowed")
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
	if p.child != 0 {
		b.dieWithParent(p.child)
	}
	b.umask(p)
	if p.spec.NoNewPrivileges {
		b.add(launch.Step{
			Name: "set no_new_privs", Call: launch.Prctl,
			Args: []launch.Arg{launch.Int(unix.PR_SET_NO_NEW_PRIVS), launch.Int(1)},
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

// entersFiltered reports whether the filter, should there be one, lets the steps of
// enterPid through. Only then can they come after the last capability is gone: the one
// that loads the filter.
func (p *process) entersFiltered() bool {
	allows := func(name string, args ...uint64) bool { return seccomp.Allows(p.filter, name, args...) }
	if len(p.filter) == 0 {
		return true
	}
	if p.spec.Terminal && !allows("ioctl", 0, unix.TIOCSCTTY) {
		return false
	}
	return allows("clone", unix.CLONE_PARENT|uint64(unix.SIGCHLD)) && allows("rt_sigprocmask", 2) &&
		allows("write") && allows("exit_group") && allows("setsid") && allows("prlimit64", 0, unix.RLIMIT_NPROC)
}

// enterPid adds the steps by which a program that joins a container goes on in its pid
// namespace. There, the container sees it, and what it may do to others of its user by
// CAP_SYS_PTRACE it may do to this one: open its root and its program, trace it. So it
// comes when the host is out of sight, and ids and capabilities are the command's: then
// nothing is left to take from it (CVE-2016-9962, CVE-2019-5736). It is done but once.
func (b *assembly) enterPid(p *process) {
	if !p.enter {
		return
	}
	p.enter = false
	b.plan.Successor("enter the container's pid namespace", "last, for from here on the container can trace us")
	b.limit(p, limitProcesses, "limit processes", "not earlier: for a moment we were two")
	if p.spec.Terminal {
		terminal.AddControl(b.plan)
	} else {
		b.add(launch.Step{
			Name: "create a session", Call: launch.Setsid,
			Why: "the one that was made ends with the process that made it",
		})
	}
	if p.spec.Scheduler != nil {
		b.plan.Mark(markEntered, "now the parent can give the scheduler its word about the process that stays")
		b.plan.Await(launch.Int(p.permit), "wait for the scheduler to be told", "a fork may undo what was said before, or be forbidden by it")
	}
}

// closeDescriptors closes what was opened on the way, and leaves the channels to the
// parent for execve to close.
func (b *assembly) closeDescriptors(firstFree, firstIdle int) {
	b.add(
		launch.Step{
			Name: "close descriptors", Call: launch.CloseRange,
			Args: []launch.Arg{launch.Int(firstIdle), launch.Int(1<<32 - 1), launch.Int(0)},
			Why:  "a container that waits for start holds nothing of the host's, nor mounts that were covered",
		},
		launch.Step{
			Name: "close the other descriptors on execve", Call: launch.CloseRange,
			Args: []launch.Arg{launch.Int(firstFree), launch.Int(1<<32 - 1), launch.Int(unix.CLOSE_RANGE_CLOEXEC)},
			Why:  "nothing of ours may reach the command, whatever it does with /proc/self/fd (CVE-2024-21626)",
		},
	)
}

// The number of /dev/null (Documentation/admin-guide/devices.txt).
const nullMajor, nullMinor = 1, 3

// ownNull puts the container's /dev/null in the place of the host's. A command with
// CAP_FOWNER could otherwise change mode and owner of the host's node through
// /proc/self/fd/0, for everybody.
func (b *assembly) ownNull(fds []int) {
	if len(fds) == 0 {
		return
	}
	const name = "open the container's /dev/null"
	fd := b.plan.Slot("null")
	b.add(
		launch.Step{
			Name: name, Call: launch.Openat2, Into: fd,
			Args: []launch.Arg{
				launch.Cwd, launch.Text("/dev/null"),
				launch.OpenHow(unix.O_RDWR|unix.O_CLOEXEC|unix.O_NOCTTY, 0, unix.RESOLVE_NO_SYMLINKS), launch.Int(launch.OpenHowSize),
			},
			Why: "stdio is the host's, whose mode and owner the command could change",
		},
		launch.Step{
			Name: name, Call: launch.Statx,
			Args: []launch.Arg{fd, launch.Text(""), launch.Int(unix.AT_EMPTY_PATH), launch.Int(unix.STATX_BASIC_STATS), b.stat},
			Why:  "the image may have put anything there",
		},
	)
	b.plan.ExpectWord(name, "a character device", b.stat.At(statxMode), unix.S_IFMT, unix.S_IFCHR, unix.ENODEV)
	b.plan.ExpectWord(name, "its major number", b.stat.At(statxMajor), ^uint32(0), nullMajor, unix.ENODEV)
	b.plan.ExpectWord(name, "its minor number", b.stat.At(statxMinor), ^uint32(0), nullMinor, unix.ENODEV)
	for _, n := range fds {
		b.add(launch.Step{
			Name: "put it in the place of the host's", Call: launch.Dup3,
			Args: []launch.Arg{fd, launch.Int(n), launch.Int(0)},
			Why:  "the same device by an inode of the container's own",
		})
	}
}

// streamsFor returns the streams that have to be given to a user before he can open
// them by name. Where ids are mapped, an owner outside says nothing. A file that the
// caller has redirected us to stays his: runc has pipes between the two there.
func streamsFor(f *facts, uid uint32, userns bool) (fds []int) {
	for _, s := range f.streams {
		if (userns || s.uid != uid) && !(f.stay && s.file) {
			fds = append(fds, s.fd)
		}
	}
	return fds
}

// ownStreams gives stdio to the command's user, as runc does: engines make the pipes
// as root, and programs open /dev/stdout or /dev/stderr, which asks for the right to
// do so anew.
func (b *assembly) ownStreams(p *process) {
	for _, fd := range p.streams {
		b.add(launch.Step{
			Name: "give a standard stream to the user", Call: launch.Fchown,
			Args: []launch.Arg{launch.Int(fd), launch.Int(p.spec.User.UID), launch.Int(-1)},
			Allow: []launch.Allow{
				{Errno: unix.EINVAL}, // a user that the namespace does not map
				{Errno: unix.EPERM},  // a stream of somebody it does not map, or no CAP_CHOWN
				{Errno: unix.EROFS},  // a file that cannot change hands
			},
			Why: "so that it can open /dev/stdout and the like by name",
		})
	}
}

// limit adds the step that lowers a limit to what the spec says, if it says anything.
func (b *assembly) limit(p *process, kind, name, why string) {
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
			Args: []launch.Arg{
				launch.Int(0), launch.Int(resource),
				launch.Bytes(limit, func() string { return fmt.Sprintf("{%d, %d}", l.Soft, l.Hard) }),
			},
			Why: why,
		})
	}
}

func (b *assembly) loadFilter(p *process, why string) {
	if len(p.filter) == 0 {
		return
	}
	n := len(p.filter)
	filter := launch.Bytes(filterBytes(p.filter), func() string { return fmt.Sprintf("[%d instructions]", n) })
	header := make([]byte, 16) // struct sock_fprog
	binary.NativeEndian.PutUint16(header, uint16(n))
	program := launch.Bytes(header, func() string { return fmt.Sprintf("{len=%d, filter=%v}", n, filter) })
	program.Point(8, filter)
	load := launch.Step{
		Name: "load the seccomp filter", Call: launch.Seccomp,
		Args: []launch.Arg{launch.Int(unix.SECCOMP_SET_MODE_FILTER), launch.Int(p.flags), program},
		Why:  why,
	}
	if !listens(p.flags) {
		b.add(load)
		return
	}
	load.Into = b.plan.Slot("listener")
	b.add(load)
	b.tellListener(p, load.Into)
}

// environment returns the value of the last NAME= entry, which is the one that
// counts, and whether there is one.
func environment(env []string, name string) (string, bool) {
	for i := len(env) - 1; i >= 0; i-- {
		if v, ok := strings.CutPrefix(env[i], name+"="); ok {
			return v, true
		}
	}
	return "", false
}

// withHome returns the environment with HOME in it: engines leave it to the runtime
// to look up the home directory of the command's user, as runc does.
//
// Of several entries with one name only the last is kept: which one counts would be up
// to the command, and to its C library.
func withHome(p *specs.Process, root string) []string {
	env := lastOfEach(p.Env)
	if home, _ := environment(env, "HOME"); home != "" {
		return env
	}
	kept := make([]string, 0, len(env)+1)
	for _, e := range env { // an empty HOME counts as none, and must not stand before ours
		if e != "HOME=" {
			kept = append(kept, e)
		}
	}
	return append(kept, "HOME="+home(root, p.User.UID))
}

// lastOfEach returns an environment without the entries that a later one overrides, in
// the order of those that remain. Nearly always that is the environment itself.
func lastOfEach(env []string) []string {
	at := make(map[string]int, len(env))
	for i, e := range env {
		name, _, _ := strings.Cut(e, "=")
		at[name] = i
	}
	if len(at) == len(env) {
		return env
	}
	kept := make([]string, 0, len(at))
	for i, e := range env {
		if name, _, _ := strings.Cut(e, "="); at[name] == i {
			kept = append(kept, e)
		}
	}
	return kept
}

// home looks a user up in the passwd of a root directory; "/" if it is not there,
// or if the file is none that we would read (it belongs to the image).
func home(root string, uid uint32) string {
	fd, err := unix.Open(root, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return "/"
	}
	dir := os.NewFile(uintptr(fd), root)
	defer dir.Close()
	_, home, err := gen.ResolveUser(dir, strconv.FormatUint(uint64(uid), 10))
	if err != nil || home == "" {
		return "/"
	}
	return home
}
