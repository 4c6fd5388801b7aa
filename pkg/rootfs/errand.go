package rootfs

import (
	"slices"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"box/internal/errdefs"
	"box/pkg/launch"
)

// Errand is a thing that the program asks its parent for, because no list of system
// calls inside the container's namespaces can do it: to open what only the parent may,
// to translate a mount's owners, to copy a directory tree. The program asks at its
// place in the order of mounts, for a source may lie on an earlier one:
//
//	program                             parent
//	[two descriptors, if CopyUp] ─────▶
//	report Mark ──────────────────────▶ does it
//	waits ◀──────────────────────────── one byte [and the mount, if not CopyUp]
//
// Descriptors and the answer travel over a socket, the question by the way of all
// reports. A parent that cannot do it kills the program.
type Errand struct {
	// Mark is the name of the report, different for every errand.
	Mark string
	// Source is the path of a bind mount's source, as the program sees it, and
	// Recursive says whether the mounts below are wanted.
	Source    string
	Recursive bool
	// Map says how the mount's owners are translated; nil if they are not.
	Map *IDMap
	// CopyUp asks to copy a directory's content instead: the first descriptor in the
	// message is the directory (O_PATH), the second the new tmpfs.
	CopyUp bool
}

// IDMap translates the owners of what a mount shows. Without maps it is that of the
// program's own user namespace.
type IDMap struct {
	UIDs, GIDs []specs.LinuxIDMapping // on the source's side: containerID; shown: hostID
	Recursive  bool                   // the mounts below as well
}

// Errands returns what the program may ask for; most ask for nothing.
func (r *Rootfs) Errands() []Errand { return r.errands }

// Errand returns what the program asks for with a report of that name, nil if the
// report is none of its questions.
func (r *Rootfs) Errand(mark string) *Errand {
	i := slices.IndexFunc(r.errands, func(e Errand) bool { return e.Mark == mark })
	if i < 0 {
		return nil
	}
	return &r.errands[i]
}

// UseHelper says at which descriptor the program finds the socket for its errands. It
// must be called before AddMounts if there are any.
func (r *Rootfs) UseHelper(fd int) { r.helper = launch.Int(fd) }

// idMap reads how a mount's owners are to be translated.
func (r *Rootfs) idMap(m specs.Mount, o *mount) (*IDMap, error) {
	if !o.mapped && len(m.UIDMappings)+len(m.GIDMappings) == 0 {
		return nil, nil
	}
	switch {
	case !o.bind || o.remount:
		return nil, errdefs.New(errdefs.ErrInvalid, "id-mapped mounts are only supported for bind-mounts")
	case (len(m.UIDMappings) == 0) != (len(m.GIDMappings) == 0), len(m.UIDMappings) == 0 && !r.foreign:
		return nil, errdefs.New(errdefs.ErrInvalid, "id-mapped mounts must have both uid and gid mappings specified")
	}
	return &IDMap{m.UIDMappings, m.GIDMappings, o.mapAll}, nil
}

// readErrands lists what the mounts may have to ask for. Each mount asks for one thing
// at most.
func (r *Rootfs) readErrands() {
	for i := range r.mounts {
		m := &r.mounts[i]
		switch {
		case m.copyUp:
			r.errands = append(r.errands, Errand{Mark: "ask to copy " + m.dest + " (mount " + itoa(i) + ")", CopyUp: true})
		case m.bind && !m.remount && (m.ids != nil || r.foreign):
			r.errands = append(r.errands, Errand{
				Mark:   "ask for the mount of " + m.source + " (mount " + itoa(i) + ")",
				Source: m.source, Recursive: m.recursive, Map: m.ids,
			})
		default:
			continue
		}
		m.mark = r.errands[len(r.errands)-1].Mark
	}
}

// message is one byte, in which nothing is said, and descriptors with these names.
func message(names ...string) launch.Message {
	return launch.NewMessage(launch.Buffer("byte", 8), 1, names...)
}

// addFetch has the parent open the mount's source.
func (r *Rootfs) addFetch(p *launch.Plan, m *mount, fd launch.Slot, why string) {
	answer := message("$mount")
	p.Mark(m.mark, why)
	r.addAnswer(p, m, answer.Header, "the detached mount, from the parent")
	p.Add(launch.Step{
		Name: m.name(), Why: "the descriptor as it is numbered here", Call: launch.Load, Into: fd,
		Args: launch.Args{answer.FD(0)},
	})
}

// addAnswer waits for the parent. One that dies leaves the end of the stream.
func (r *Rootfs) addAnswer(p *launch.Plan, m *mount, answer *launch.Data, why string) {
	n := p.Slot("bytes read")
	p.Add(
		launch.Step{
			Name: m.name(), Why: why, Call: launch.Recvmsg, Into: n,
			Args: launch.Args{r.helper, answer, launch.Int(unix.MSG_CMSG_CLOEXEC)},
		},
		launch.Step{
			Name: m.name(), Why: "no byte means that the parent is gone", Call: launch.Expect,
			Args: launch.Args{n, launch.Int(-1), launch.Int(1), launch.Int(unix.ECANCELED)},
		},
	)
}

// addCopyUp has the parent fill the tmpfs, before it is attached, with what it will
// cover.
func (r *Rootfs) addCopyUp(p *launch.Plan, m *mount, dst, tmpfs launch.Slot) {
	question := message("$"+m.dest, "$mount")
	for i, fd := range []launch.Slot{dst, tmpfs} {
		p.Add(launch.Step{
			Name: m.name(), Why: "what to copy, and where to", Call: launch.Store,
			Args: launch.Args{question.FD(i), fd},
		})
	}
	p.Add(launch.Step{
		Name: m.name(), Why: "by descriptor: the copy is of what is covered, and goes nowhere else", Call: launch.Sendmsg,
		Args: launch.Args{r.helper, question.Header, launch.Int(unix.MSG_NOSIGNAL)},
	})
	p.Mark(m.mark, "copying a tree takes loops, which plans do not have")
	r.addAnswer(p, m, message().Header, "the tree is copied")
}
