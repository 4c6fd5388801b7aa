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

	"box/pkg/launch"
	"box/pkg/rootfs"
	"box/pkg/sched"
	"box/pkg/spec/gen"
)

// This file turns the process of a spec into the last third of a plan: from the
// moment when the file system stands, to execve. Create and exec share it.

// process is what the process steps need to know.
type process struct {
	spec      *specs.Process
	keyring   string            // name of the new session keyring; empty keeps the old one
	userns    bool              // ids are those of a user namespace
	filter    []unix.SockFilter // seccomp; nil for none
	flags     uint              // of the filter
	agent     *agent            // answers the calls that the filter leaves open; nil for none
	permit    int               // descriptor at which the program waits for the parent
	caps      capabilities
	lastCap   int   // highest capability number of this kernel
	nulls     []int // standard streams that are the host's /dev/null
	firstFree int   // lowest descriptor that the command must not see
	child     int   // PR_SET_PDEATHSIG for the command; 0 for none

	affinity    sched.Affinity // of a process that joins
	memory      *specs.LinuxMemoryPolicy
	personality *specs.LinuxPersonality
}

// newProcess reads a process of a spec and checks what the kernel would refuse
// without a reason. The filter is left to the caller.
func newProcess(r *Runtime, p *specs.Process, f *facts, id string, free int) (*process, error) {
	caps, unknown := capabilitySets(p.Capabilities, f.lastCap)
	if len(unknown) > 0 {
		r.warn("ignoring unknown or unavailable capabilities: " + strings.Join(unknown, " "))
	}
	if err := caps.check(f.held); err != nil {
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
	out := &process{spec: p, keyring: "_ses." + id, caps: caps, lastCap: f.lastCap, firstFree: free, affinity: affinity}
	if !p.Terminal { // which takes the place of all three
		out.nulls = f.nulls
	}
	return out, nil
}

// defaultUmask is runc's, when the spec says nothing.
const defaultUmask = 0o022

// becomeUser adds the steps that lead from the root of the container to the
// credentials of its command. The order is the substance:
//
//   - the working directory first, as root, for the command's user may not be
//     allowed to pass through the directories above it;
//   - without no_new_privs a filter needs CAP_SYS_ADMIN to load, so it goes before
//     ids and capabilities are given up; with it, the filter goes last, so that it
//     need not allow what the steps before it call;
//   - the bounding set while CAP_SETPCAP is still held, ids while CAP_SETUID is,
//     and the other sets after the ids, for a change of ids clears them.
func (b *assembly) becomeUser(p *process) error {
	if err := errors.Join(sched.AddMemoryPolicy(b.plan, p.memory), sched.AddPersonality(b.plan, p.personality)); err != nil {
		return err
	}
	b.joinKeyring(p)
	b.ownNull(p.nulls)
	rootfs.AddEnter(b.plan, p.spec.Cwd)
	b.add(launch.Step{
		Name: "close descriptors", Call: launch.CloseRange,
		Args: []launch.Arg{launch.Int(p.firstFree), launch.Int(1<<32 - 1), launch.Int(unix.CLOSE_RANGE_CLOEXEC)},
		Why:  "nothing of ours may reach the command, whatever it does with /proc/self/fd (CVE-2024-21626)",
	})
	b.limitFiles(p)
	if !p.spec.NoNewPrivileges {
		b.loadFilter(p, "before capabilities are dropped: without no_new_privs, loading it needs CAP_SYS_ADMIN")
	}
	b.dropBounding(p)
	b.setIDs(p)
	b.setCapabilities(p)
	b.probe(p)
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
		b.loadFilter(p, "last: from here on only read, write and execve are called")
	}
	return nil
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

// limitFiles sets the limit on open files, when no more are opened.
func (b *assembly) limitFiles(p *process) {
	for _, l := range p.spec.Rlimits {
		if l.Type != limitFiles {
			continue
		}
		limit := make([]byte, 0, 16) // struct rlimit64
		limit = binary.NativeEndian.AppendUint64(limit, l.Soft)
		limit = binary.NativeEndian.AppendUint64(limit, l.Hard)
		b.add(launch.Step{
			Name: "limit open files", Call: launch.Prlimit64,
			Args: []launch.Arg{
				launch.Int(0), launch.Int(unix.RLIMIT_NOFILE),
				launch.Bytes(limit, func() string { return fmt.Sprintf("{%d, %d}", l.Soft, l.Hard) }),
			},
			Why: "not earlier: setting up takes more files than the command may be allowed",
		})
	}
}

func (b *assembly) joinKeyring(p *process) {
	if p.keyring == "" {
		return
	}
	b.add(launch.Step{
		Name: "join a new session keyring", Call: launch.Keyctl,
		Args: []launch.Arg{launch.Int(unix.KEYCTL_JOIN_SESSION_KEYRING), launch.Text(p.keyring)},
		Why:  "the caller's keys are none of the container's business",
		// Kernels without keys have none to hide.
		Allow: []launch.Allow{{Errno: unix.ENOSYS}},
	})
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

func (b *assembly) dropBounding(p *process) {
	for n := range p.lastCap + 1 {
		if p.caps.bounding&(1<<n) != 0 {
			continue
		}
		b.add(launch.Step{
			Name: "drop " + capabilityName(n) + " from the bounding set", Call: launch.Prctl,
			Args: []launch.Arg{launch.Int(unix.PR_CAPBSET_DROP), launch.Int(n)},
			Why:  "while CAP_SETPCAP is still held; no execve can bring it back",
		})
	}
}

func (b *assembly) setIDs(p *process) {
	u := &p.spec.User
	b.add(launch.Step{
		Name: "keep capabilities", Call: launch.Prctl,
		Args: []launch.Arg{launch.Int(unix.PR_SET_KEEPCAPS), launch.Int(1)},
		Why:  "over the change of ids; what remains of them is decided below, and execve clears the flag",
	})
	b.setGroups(p)
	b.add(
		launch.Step{
			Name: fmt.Sprintf("become group %d", u.GID), Call: launch.Setresgid,
			Args: []launch.Arg{launch.Int(u.GID), launch.Int(u.GID), launch.Int(u.GID)},
			Why:  "before the user, who may not change groups",
		},
		launch.Step{
			Name: fmt.Sprintf("become user %d", u.UID), Call: launch.Setresuid,
			Args: []launch.Arg{launch.Int(u.UID), launch.Int(u.UID), launch.Int(u.UID)},
			Why:  "real, effective and saved: there is no way back",
		},
	)
}

func (b *assembly) setGroups(p *process) {
	gids := p.spec.User.AdditionalGids
	list := make([]byte, 0, 4*len(gids))
	for _, g := range gids {
		list = binary.NativeEndian.AppendUint32(list, g)
	}
	step := launch.Step{
		Name: "set supplementary groups", Call: launch.Setgroups,
		Args: []launch.Arg{launch.Int(len(gids)), launch.Bytes(list, func() string { return fmt.Sprint(gids) })},
		Why:  "the spec's list and no other: one left over from the caller, or one missing, both open doors (CVE-2023-25173)",
	}
	if p.userns && len(gids) == 0 {
		// A user namespace made without privileges may not call setgroups at all;
		// then there are none to drop that would count.
		step.Allow = []launch.Allow{{Errno: unix.EPERM}}
	}
	b.add(step)
}

// linuxCapabilityVersion3 says that the sets have 64 bits (capget(2)).
const linuxCapabilityVersion3 = 0x20080522

func (b *assembly) setCapabilities(p *process) {
	c := p.caps // all empty when the spec has none: that means none, as with runc
	header := make([]byte, 8)
	binary.NativeEndian.PutUint32(header, linuxCapabilityVersion3)
	sets := make([]byte, 0, 24)
	for _, shift := range []int{0, 32} {
		for _, set := range []uint64{c.effective, c.permitted, c.inheritable} {
			sets = binary.NativeEndian.AppendUint32(sets, uint32(set>>shift))
		}
	}
	b.add(launch.Step{
		Name: "set capabilities", Call: launch.Capset,
		Args: []launch.Arg{
			launch.Bytes(header, func() string { return "{version 3, self}" }),
			launch.Bytes(sets, func() string {
				return fmt.Sprintf("{effective=%#x, permitted=%#x, inheritable=%#x}", c.effective, c.permitted, c.inheritable)
			}),
		},
		Why: "after the change of ids, which clears the effective set",
	})
	b.add(launch.Step{
		Name: "clear ambient capabilities", Call: launch.Prctl,
		Args: []launch.Arg{launch.Int(unix.PR_CAP_AMBIENT), launch.Int(unix.PR_CAP_AMBIENT_CLEAR_ALL)},
		Why:  "only those that the spec names are raised",
	})
	for n := range p.lastCap + 1 {
		if c.ambient&(1<<n) != 0 {
			b.add(launch.Step{
				Name: "can't raise ambient capability " + capabilityName(n), Call: launch.Prctl,
				Args: []launch.Arg{launch.Int(unix.PR_CAP_AMBIENT), launch.Int(unix.PR_CAP_AMBIENT_RAISE), launch.Int(n)},
				Why:  "the command's user is not root and keeps it over execve",
			})
		}
	}
}

func (b *assembly) dieWithParent(sig int) {
	b.add(launch.Step{
		Name: "ask for the parent-death signal", Call: launch.Prctl,
		Args: []launch.Arg{launch.Int(unix.PR_SET_PDEATHSIG), launch.Int(sig)},
		Why:  "nobody would wait for the command when box-runtime is killed; after the ids, whose change clears it",
	})
}

func (b *assembly) umask(p *process) {
	mask := uint32(defaultUmask)
	if p.spec.User.Umask != nil {
		mask = *p.spec.User.Umask
	}
	b.add(launch.Step{
		Name: "set the umask", Call: launch.Umask, Args: []launch.Arg{launch.Int(mask)},
		Why: "after the last file was made",
	})
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
