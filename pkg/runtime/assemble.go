package runtime

import (
	"maps"
	"slices"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"box/internal/errdefs"
	"box/pkg/launch"
	"box/pkg/namespaces"
	"box/pkg/netdev"
	"box/pkg/rootfs"
	"box/pkg/spec"
)

// blueprint is all that the plan of a container depends on: the spec, what the host
// looks like, and where descriptors lie. From the same blueprint follows the same plan.
type blueprint struct {
	spec  *specs.Spec
	set   *namespaces.Set
	root  *rootfs.Rootfs
	proc  *process
	fds   *descriptors
	joins []int    // descriptors of the namespaces to join
	env   []string // of the command
	tty   *console // its terminal, if it has one
	hooks bool     // the parent has something to do before pivot_root
	wait  bool     // the program waits for start
	late  bool     // it is moved into its cgroup, not born there
}

// plan writes down how a container comes about. The order of these lines is the
// order of the kernel calls; each step tells its own reason.
func (bp *blueprint) plan() (*assembly, error) {
	b := newAssembly(bp.fds.report)
	b.confine(bp.proc)
	b.begin()
	if bp.wait && bp.set.Creates(specs.PIDNamespace) {
		b.plan.QuitOn("a container that waits for start ends by what would end its command; the first of a pid namespace is spared by default", fatal...)
	}
	bp.set.AddJoins(b.plan, bp.joins)
	if bp.set.Succeeds() {
		b.plan.Mark(markBorn, "the parent knows from here on which process is the container's")
	}
	if bp.late {
		b.plan.Await(launch.Int(bp.fds.permit), "wait for the cgroup", "the parent may not have us born in it, and has us moved")
	}
	bp.set.AddCgroup(b.plan)
	bp.set.AddTime(b.plan)
	if err := b.names(bp); err != nil {
		return nil, err
	}
	if bp.set.Creates(specs.NetworkNamespace) {
		netdev.AddLoopback(b.plan)
	}
	if err := b.sysctls(bp.spec.Linux.Sysctl); err != nil {
		return nil, err
	}
	b.root = bp.root
	bp.root.AddMounts(b.plan)
	if bp.hooks {
		b.plan.Mark(markHooks, "hooks, and who moves network devices, find the namespaces and the mounts made, and the host still in sight")
	}
	b.plan.Await(launch.Int(bp.fds.permit), "wait for the parent", "it writes down our pid, sets limits, and runs hooks")
	bp.tty.add(b, bp.root.Root(), true, bp.spec.Process.User.UID)
	bp.tty.control(b)
	bp.root.AddMasks(b.plan)
	bp.root.AddWorkdir(b.plan, bp.spec.Process.Cwd)
	bp.root.AddPivot(b.plan)
	if err := b.becomeUser(bp.proc); err != nil {
		return nil, err
	}
	b.plan.Mark(markReady, "all is done that can fail in the container; if nobody listens, nobody knows of us, and this ends us")
	if bp.wait {
		b.waitForStart(bp.fds)
	}
	b.executeAndTell(bp.spec.Process.Args, bp.env)
	return b, nil
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

// names sets host and domain name, in a namespace that is not the host's.
func (b *assembly) names(bp *blueprint) error {
	for _, n := range []struct {
		what, value string
		call        launch.Call
	}{
		{"hostname", bp.spec.Hostname, launch.Sethostname},
		{"domainname", bp.spec.Domainname, launch.Setdomainname},
	} {
		if n.value == "" {
			continue
		}
		if bp.set.Shares(specs.UTSNamespace) {
			return errdefs.New(errdefs.ErrInvalid, "%s: unable to set it without a private UTS namespace", n.what)
		}
		b.add(launch.Step{
			Name: "set " + n.what, Call: n.call,
			Args: []launch.Arg{launch.Text(n.value), launch.Int(len(n.value))},
			Why:  "in the container's own UTS namespace",
		})
	}
	return nil
}

// sysctls writes kernel parameters through a procfs of our own that nobody else
// sees: no mount in the container can make the writes land elsewhere
// (CVE-2025-52881).
func (b *assembly) sysctls(values map[string]string) error {
	if len(values) == 0 {
		return nil
	}
	fs, mnt := b.plan.Slot("fs"), b.plan.Slot("procfs")
	b.add(
		launch.Step{
			Name: "open a procfs for sysctls", Call: launch.Fsopen, Into: fs,
			Args: []launch.Arg{launch.Text("proc"), launch.Int(unix.FSOPEN_CLOEXEC)},
			Why:  "one that is mounted nowhere cannot be tampered with",
		},
		launch.Step{
			Name: "make a procfs for sysctls", Call: launch.Fsconfig,
			Args: []launch.Arg{fs, launch.Int(unix.FSCONFIG_CMD_CREATE)},
			Why:  "with all defaults",
		},
		launch.Step{
			Name: "mount a procfs for sysctls", Call: launch.Fsmount, Into: mnt,
			Args: []launch.Arg{fs, launch.Int(unix.FSMOUNT_CLOEXEC)},
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

func (b *assembly) sysctl(mnt launch.Slot, name, path, value string) {
	file := b.plan.Slot("sysctl")
	const how = unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_XDEV
	b.add(
		launch.Step{
			Name: "open sysctl " + name, Call: launch.Openat2, Into: file,
			Args: []launch.Arg{
				mnt, launch.Text(path),
				launch.OpenHow(unix.O_WRONLY|unix.O_CLOEXEC, 0, how), launch.Int(launch.OpenHowSize),
			},
			Why: "below the private procfs and nowhere else",
		},
		launch.Step{
			Name: "set sysctl " + name + " to " + value, Call: launch.Write,
			Args: []launch.Arg{file, launch.Text(value), launch.Int(len(value))},
			Why:  "the spec asks for it",
		},
		launch.Step{
			Name: "close sysctl " + name, Call: launch.Close, Args: []launch.Arg{file},
			Why: "done",
		},
	)
}
