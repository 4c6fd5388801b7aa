package namespaces

import (
	"fmt"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"box/pkg/launch"
)

// AddJoins adds the steps that enter the namespaces of Joins. fds are the descriptor
// numbers at which the program finds Opened.Files, in the same order.
func (s *Set) AddJoins(p *launch.Plan, fds []int) {
	for i, j := range s.Joins {
		p.Add(launch.Step{
			Name: fmt.Sprintf("join %s namespace %s", j.Type, j.Path),
			Why:  whyJoin(j.kind.flag),
			Call: launch.Setns,
			Args: []launch.Arg{launch.Int(fds[i]), launch.Int(j.kind.flag)},
		})
	}
}

func whyJoin(flag uintptr) string {
	switch flag {
	case unix.CLONE_NEWUSER:
		return "first, since the rights over the other namespaces come from it"
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
		Args: []launch.Arg{launch.Int(unix.CLONE_NEWCGROUP)},
	})
}

// AddTime adds the steps that make the new time namespace and set its offsets, if
// the set has one. The program itself enters it with its next execve. The host's
// procfs must still be at /proc, and the mount namespace not yet a joined one.
func (s *Set) AddTime(p *launch.Plan) {
	if s.New&unix.CLONE_NEWTIME == 0 {
		return
	}
	p.Add(launch.Step{
		Name: "create time namespace",
		Why:  "by unshare, so that it is still empty when the offsets are written; the command enters it by its execve",
		Call: launch.Unshare,
		Args: []launch.Arg{launch.Int(unix.CLONE_NEWTIME)},
	})
	if len(s.offsets) > 0 {
		s.addOffsets(p)
	}
}

func (s *Set) addOffsets(p *launch.Plan) {
	const path = "/proc/self/timens_offsets"
	text := offsetsText(s.offsets)
	file := p.Slot("timens_offsets")
	p.Add(
		launch.Step{
			Name: "open " + path, Why: "the offsets of the namespace for our children",
			Call: launch.Openat, Into: file,
			Args: []launch.Arg{launch.Cwd, launch.Text(path), launch.Int(unix.O_WRONLY | unix.O_CLOEXEC | unix.O_NOFOLLOW)},
		},
		launch.Step{
			Name: "write time offsets", Why: "all in one write: the kernel takes the file only as a whole",
			Call: launch.Write,
			Args: []launch.Arg{file, launch.Text(text), launch.Int(len(text))},
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
		Args: []launch.Arg{pidfd, launch.Int(flags)},
	})
}
