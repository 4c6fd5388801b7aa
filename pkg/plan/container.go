package plan

import (
	"errors"
	"maps"
	"slices"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"box/internal/errdefs"
	"box/pkg/launch"
	"box/pkg/namespaces"
	"box/pkg/netdev"
	"box/pkg/rootfs"
	"box/pkg/sched"
	"box/pkg/spec"
	"box/pkg/terminal"
)

// Container is all that the plan of a new container depends on: the spec, what the host
// looks like, and where descriptors lie. From the same values follows the same plan.
type Container struct {
	// Spec is the configuration, checked by package spec.
	Spec *specs.Spec
	// Set, Root and Process are what the parts of the plan are made of. Whoever starts
	// the program needs Set for the flags of its clone, and Root for its errands.
	Set     *namespaces.Set
	Root    *rootfs.Rootfs
	Process *Process
	// Env is the environment of the command (Environment).
	Env []string
	// Layout says where descriptors lie. It is to be filled in before Assemble.
	Layout Layout
	// Terminal is the command's, if it has one. Root, Console and UID are filled in.
	Terminal *terminal.Options
	// Wait has the program wait for start, before the execve.
	Wait bool
	// Late has it wait for being moved into its cgroup, where it was not born.
	Late bool

	meet bool // the parent has something to do before pivot_root
}

// NewContainer checks what the kernel would refuse without a reason, and returns what
// the plan of container id is made from. f.Root are the facts of s.Mounts, one by one;
// set is of s.Linux. Errors are of class ErrInvalid, ErrUnsupported or ErrUnavailable.
func NewContainer(id string, s *specs.Spec, set *namespaces.Set, f *Facts, env []string) (*Container, error) {
	root, err := rootfs.New(s, set, f.Root)
	if err != nil {
		return nil, err
	}
	if err := errors.Join(checkNames(s, set), checkNetDevices(s.Linux, set)); err != nil {
		return nil, err
	}
	if err := errors.Join(sched.CheckMemoryPolicy(s.Linux.MemoryPolicy), sched.CheckPersonality(s.Linux.Personality)); err != nil {
		return nil, err
	}
	proc, err := NewProcess(id, s.Process, f, !set.Shares(specs.UserNamespace))
	if err != nil {
		return nil, err
	}
	proc.first = true
	proc.AddExtras(s.Linux)
	if proc.Filter, proc.Flags, err = CompileFilter(s.Linux.Seccomp); err != nil {
		return nil, err
	}
	return &Container{
		Spec: s, Set: set, Root: root, Process: proc, Env: env,
		meet: HasCreateHooks(s.Hooks) || len(s.Linux.NetDevices) > 0 || len(root.Errands()) > 0,
	}, nil
}

// Notes is what is worth a warning, but stops nothing.
func (c *Container) Notes() []string { return slices.Concat(c.Root.Notes(), c.Process.Notes) }

// HasCreateHooks reports whether there are hooks to run before pivot_root.
func HasCreateHooks(h *specs.Hooks) bool {
	return h != nil && len(h.Prestart)+len(h.CreateRuntime)+len(h.CreateContainer) > 0 //nolint:staticcheck // SA1019
}

// Assemble writes down how the container comes about. The order of these lines is the
// order of the kernel calls; each step tells its own reason.
func (c *Container) Assemble() (*Assembly, error) {
	b := newAssembly(&c.Layout)
	b.confine(c.Process)
	b.begin()
	if c.Wait && c.Set.Creates(specs.PIDNamespace) {
		b.Plan.QuitOn("a container that waits for start ends by what would end its command; the first of a pid namespace is spared by default", fatal...)
	}
	if c.Late {
		b.Plan.Await(launch.Int(c.Layout.Permit), "wait for the cgroup", "the parent may not have us born in it, and has us moved; a successor is born where we are")
	}
	c.Set.AddJoins(b.Plan, c.Layout.Joins)
	if c.Set.Succeeds() {
		b.Plan.Mark(MarkBorn, "the parent knows from here on which process is the container's")
	}
	c.Set.AddCgroup(b.Plan)
	c.Set.AddTime(b.Plan)
	b.name("hostname", c.Spec.Hostname, launch.Sethostname)
	b.name("domainname", c.Spec.Domainname, launch.Setdomainname)
	if c.Set.Creates(specs.NetworkNamespace) {
		netdev.AddLoopback(b.Plan)
	}
	if err := b.sysctls(c.Spec.Linux.Sysctl); err != nil {
		return nil, err
	}
	b.root = c.Root
	c.Root.AddMounts(b.Plan)
	if c.meet {
		b.Plan.Mark(MarkHooks, "hooks, and who moves network devices, find the namespaces and the mounts made, and the host still in sight")
	}
	if c.meet {
		b.await(c.Layout.Permit)
	}
	b.terminal(c.Terminal, c.Root.Root(), true, c.Spec.Process.User.UID)
	b.control(c.Terminal)
	c.Root.AddMasks(b.Plan)
	c.Root.AddWorkdir(b.Plan, c.Spec.Process.Cwd)
	c.Root.AddPivot(b.Plan)
	if !c.meet {
		b.await(c.Layout.Permit)
	}
	c.Process.Visible = c.Set.Hides() && (c.Wait || Listens(c.Process.Flags))
	if err := b.becomeUser(c.Process, &c.Layout); err != nil {
		return nil, err
	}
	b.Plan.Mark(MarkReady, "all is done that can fail in the container; if nobody listens, nobody knows of us, and this ends us")
	if c.Wait {
		b.waitForStart(c.Layout.Start)
	}
	b.executeAndTell(c.Spec.Process.Args, c.Env)
	return b, nil
}

// await lets the parent catch up. With hooks it comes before pivot_root, as the
// specification wants it; without, as late as the parent's work allows.
func (b *Assembly) await(permit int) {
	b.Plan.Await(launch.Int(permit), "wait for the parent", "it writes down our pid, sets limits and device rules, and runs hooks")
}

// checkNetDevices refuses devices that would have to move to where they are. The words
// are runc's.
func checkNetDevices(l *specs.Linux, set *namespaces.Set) error {
	if len(l.NetDevices) == 0 {
		return nil
	}
	if set.Shares(specs.NetworkNamespace) {
		return errdefs.New(errdefs.ErrInvalid, "linux.netDevices: unable to move network devices without a NET namespace")
	}
	return netdev.Check(l.NetDevices)
}

// fatal are the signals that end a process by default, as people and engines send them
// (signal(7)); KILL needs no help.
var fatal = []unix.Signal{
	unix.SIGHUP, unix.SIGINT, unix.SIGQUIT, unix.SIGILL, unix.SIGTRAP, unix.SIGABRT, unix.SIGBUS, unix.SIGFPE,
	unix.SIGUSR1, unix.SIGSEGV, unix.SIGUSR2, unix.SIGALRM, unix.SIGTERM, unix.SIGSTKFLT, unix.SIGXCPU,
	unix.SIGXFSZ, unix.SIGVTALRM, unix.SIGPROF, unix.SIGIO, unix.SIGPWR, unix.SIGSYS,
}

// checkNames refuses names that would be set for somebody else, too. The words are runc's.
func checkNames(s *specs.Spec, set *namespaces.Set) error {
	for _, n := range []struct{ what, value string }{{"hostname", s.Hostname}, {"domainname", s.Domainname}} {
		if n.value != "" && set.Shares(specs.UTSNamespace) {
			return errdefs.New(errdefs.ErrInvalid, "%s: unable to set it without a private UTS namespace", n.what)
		}
	}
	return nil
}

// name sets the host's or the domain's name, if there is one.
func (b *Assembly) name(what, value string, call launch.Call) {
	if value == "" {
		return
	}
	b.add(launch.Step{
		Name: "set " + what, Call: call,
		Args: launch.Args{launch.Text(value), launch.Int(len(value))},
		Why:  "in the container's own UTS namespace",
	})
}

// sysctls writes kernel parameters through a procfs of our own that nobody else
// sees: no mount in the container can make the writes land elsewhere
// (CVE-2025-52881).
func (b *Assembly) sysctls(values map[string]string) error {
	if len(values) == 0 {
		return nil
	}
	fs, mnt := b.Plan.Slot("fs"), b.Plan.Slot("procfs")
	b.add(
		launch.Step{
			Name: "open a procfs for sysctls", Call: launch.Fsopen, Into: fs,
			Args: launch.Args{launch.Text("proc"), launch.Int(unix.FSOPEN_CLOEXEC)},
			Why:  "one that is mounted nowhere cannot be tampered with",
		},
		launch.Step{
			Name: "make a procfs for sysctls", Call: launch.Fsconfig,
			Args: launch.Args{fs, launch.Int(unix.FSCONFIG_CMD_CREATE)},
			Why:  "with all defaults",
		},
		launch.Step{
			Name: "mount a procfs for sysctls", Call: launch.Fsmount, Into: mnt,
			Args: launch.Args{fs, launch.Int(unix.FSMOUNT_CLOEXEC)},
			Why:  "detached",
		},
	)
	for _, name := range slices.Sorted(maps.Keys(values)) {
		path, err := spec.SysctlPath(name)
		if err != nil {
			return err
		}
		b.sysctl(mnt, name, "sys/"+path, values[name])
	}
	return nil
}

func (b *Assembly) sysctl(mnt launch.Slot, name, path, value string) {
	file := b.Plan.Slot("sysctl")
	const how = unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_XDEV
	b.add(
		launch.Step{
			Name: "open sysctl " + name, Call: launch.Openat2, Into: file,
			Args: launch.Args{
				mnt, launch.Text(path),
				launch.OpenHow(unix.O_WRONLY|unix.O_CLOEXEC, 0, how), launch.Int(launch.OpenHowSize),
			},
			Why: "below the private procfs and nowhere else",
		},
		launch.Step{
			Name: "set sysctl " + name + " to " + value, Call: launch.Write,
			Args: launch.Args{file, launch.Text(value), launch.Int(len(value))},
			Why:  "the spec asks for it",
		},
		launch.Step{
			Name: "close sysctl " + name, Call: launch.Close, Args: launch.Args{file},
			Why: "done",
		},
	)
}
