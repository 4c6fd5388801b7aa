package namespaces

import (
	"fmt"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"box/pkg/launch"
)

// AddJoins adds the steps that enter the namespaces of Joins. fds are the descriptor
// numbers at which the program finds Opened.Files, in the same order. Where the user
// namespace is joined, new namespaces are made here as well, for they must belong to
// it; the program goes on as a process with another number then, if it comes into another
// pid namespace (Succeeds).
func (s *Set) AddJoins(p *launch.Plan, fds []int) {
	if s.joinsUser() {
		s.addUserJoins(p, fds)
		return
	}
	for i, j := range s.Joins {
		p.Add(j.step(fds[i], whyJoin(j.kind.flag)))
	}
}

// step joins one namespace.
func (j *Join) step(fd int, why string) launch.Step {
	return launch.Step{
		Name: strings.TrimSpace(fmt.Sprintf("join %s namespace %s", j.Type, j.Path)), Why: why,
		Call: launch.Setns, Args: launch.Args{launch.Int(fd), launch.Int(j.kind.flag)},
	}
}

// addUserJoins enters a user namespace and others. The others may belong to it, which
// somebody without privileges can join only from inside, or not, when only the host's
// root can, and only from outside: each is tried before and then, where that failed,
// after.
func (s *Set) addUserJoins(p *launch.Plan, fds []int) {
	if s.mapper != subordinate {
		s.addTime(p) // before: /proc/self belongs to the host's root for a program that was executed there
	}
	results := make([]launch.Slot, len(s.Joins))
	for i, j := range s.Joins[1:] { // the first is the user namespace
		results[i] = p.Slot("result")
		step := j.step(fds[i+1], "with the rights that we have outside; if they do not do, those inside may")
		step.Into, step.Allow = results[i], []launch.Allow{{Errno: unix.EPERM}}
		p.Add(step)
	}
	p.Add(s.Joins[0].step(fds[0], whyJoin(unix.CLONE_NEWUSER)))
	addMappedRoot(p)
	s.addVisibleAlone(p)
	if s.mapper == subordinate { // who may make a time namespace only in here
		s.addTime(p)
	}
	for i, j := range s.Joins[1:] {
		done := p.Label()
		p.Add(
			launch.Step{
				Name: "tell whether the " + string(j.Type) + " namespace is joined", Why: "once is enough", Call: launch.Expect, Then: done,
				Args:  launch.Args{results[i], launch.Int(-1), launch.Int(0), launch.Int(unix.EPERM)},
				Allow: []launch.Allow{{Errno: unix.EPERM}},
			},
			j.step(fds[i+1], "it was refused to us before; the user namespace may own it"),
		)
		p.Place(done)
	}
	if flags := s.New &^ byStep; flags != 0 {
		p.Add(launch.Step{
			Name: "create namespaces", Why: "not before: they belong to the user namespace of whoever makes them",
			Call: launch.Unshare, Args: launch.Args{launch.Int(flags)},
		})
	}
	if s.Succeeds() {
		p.Successor("enter the pid namespace", "only children are born into it; nothing was done yet that they would not take over")
	}
}

// addMappedRoot takes the ids of the joined user namespace's root: those from outside
// are nobody's in it, and files could not be made.
func addMappedRoot(p *launch.Plan) {
	p.Add(
		launch.Step{
			Name: "become root's group of the user namespace", Why: "who sets up the container must have ids in it",
			Call: launch.Setresgid, Args: launch.Args{launch.Int(0), launch.Int(0), launch.Int(0)},
		},
		launch.Step{
			Name: "become root of the user namespace", Why: "who sets up the container must have ids in it; all capabilities there come with the join",
			Call: launch.Setresuid, Args: launch.Args{launch.Int(0), launch.Int(0), launch.Int(0)},
		},
	)
}

func whyJoin(flag uintptr) string {
	switch flag {
	case unix.CLONE_NEWUSER:
		return "the rights over what is made from here on come from it"
	case unix.CLONE_NEWNS:
		return "last, since paths change their meaning with it"
	}
	return "the configuration names an existing one"
}

// AddCgroup adds the step that makes the new cgroup namespace, if the set has one.
// It must come when the program is in the container's cgroup.
func (s *Set) AddCgroup(p *launch.Plan) {
	if s.New&unix.CLONE_NEWCGROUP == 0 {
		return
	}
	p.Add(launch.Step{
		Name: "create cgroup namespace",
		Why:  "its root is the cgroup of whoever makes it, and by now that is the container's",
		Call: launch.Unshare,
		Args: launch.Args{launch.Int(unix.CLONE_NEWCGROUP)},
	})
}

// AddTime adds the steps that make the new time namespace, set its offsets and enter it,
// if the set has one. The host's procfs must still be at /proc, and the mount namespace
// not yet a joined one.
func (s *Set) AddTime(p *launch.Plan) {
	if !s.joinsUser() { // else AddJoins has done it
		s.addTime(p)
	}
}

func (s *Set) addTime(p *launch.Plan) {
	if s.New&unix.CLONE_NEWTIME == 0 {
		return
	}
	p.Add(launch.Step{
		Name: "create time namespace",
		Why:  "by unshare, so that it is still empty when the offsets are written",
		Call: launch.Unshare,
		Args: launch.Args{launch.Int(unix.CLONE_NEWTIME)},
	})
	if len(s.offsets) > 0 {
		s.addOffsets(p)
	}
	const path = "/proc/self/ns/time_for_children"
	file := p.Slot("time_for_children")
	p.Add(
		launch.Step{
			Name: "open " + path, Why: "it is the namespace that was made",
			Call: launch.Openat, Into: file,
			Args: launch.Args{launch.Cwd, launch.Text(path), launch.Int(unix.O_RDONLY | unix.O_CLOEXEC)},
		},
		launch.Step{
			Name: "enter time namespace",
			Why:  "a kernel such as 6.1 has children in it alone, not who executes a command: its clocks, hooks and whoever joins us by our number would miss it",
			Call: launch.Setns, Args: launch.Args{file, launch.Int(unix.CLONE_NEWTIME)},
		},
	)
}

func (s *Set) addOffsets(p *launch.Plan) {
	const path = "/proc/self/timens_offsets"
	text := offsetsText(s.offsets)
	file := p.Slot("timens_offsets")
	p.Add(
		launch.Step{
			Name: "open " + path, Why: "the offsets of the namespace for our children",
			Call: launch.Openat, Into: file,
			Args: launch.Args{launch.Cwd, launch.Text(path), launch.Int(unix.O_WRONLY | unix.O_CLOEXEC | unix.O_NOFOLLOW)},
		},
		launch.Step{
			Name: "write time offsets", Why: "all in one write: the kernel takes the file only as a whole",
			Call: launch.Write,
			Args: launch.Args{file, launch.Text(text), launch.Int(len(text))},
		},
	)
}

// offsetsText is the format of timens_offsets: clock, seconds, nanoseconds.
func offsetsText(offsets map[string]specs.LinuxTimeOffset) string {
	var b strings.Builder
	for _, clock := range []string{"monotonic", "boottime"} {
		if o, ok := offsets[clock]; ok {
			fmt.Fprintf(&b, "%s %d %d\n", clock, o.Secs, o.Nanosecs)
		}
	}
	return b.String()
}

// AddEnter adds the step that enters, all at once, those namespaces of a running
// process that flags name (see Flags): for exec and for hooks. pidfd is where the
// program finds a pidfd of the process. A pid namespace among them is that of the
// program's children, not its own: see launch.Plan.Successor. In the mount namespace,
// root and working directory become those of the namespace.
func AddEnter(p *launch.Plan, pidfd launch.Arg, flags uintptr) {
	if flags == 0 {
		return
	}
	p.Add(launch.Step{
		Name: "join the container's namespaces",
		Why:  "by pidfd and in one call: all of them or none, and never those of a process with a recycled number",
		Call: launch.Setns,
		Args: launch.Args{pidfd, launch.Int(flags)},
	})
	if flags&unix.CLONE_NEWUSER == 0 {
		return
	}
	for _, id := range []struct {
		name string
		call launch.Call
	}{{"group", launch.Setresgid}, {"user", launch.Setresuid}} {
		p.Add(launch.Step{
			Name: "become " + id.name + " 0 of the joined user namespace", Call: id.call,
			Why:   "what the program makes from here on (its terminal, its keyring) would belong to nobody in there",
			Args:  launch.Args{launch.Int(0), launch.Int(0), launch.Int(0)},
			Allow: []launch.Allow{{Errno: unix.EINVAL}}, // a namespace need not have an id 0
		})
	}
}
