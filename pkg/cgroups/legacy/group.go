package legacy

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"box/internal/errdefs"
	"box/pkg/cgroups/kernfs"
)

// Group is a container's group: one directory in every v1 hierarchy. The nil
// Group is that of a host without any, and every method may be called on it that
// says so.
type Group struct {
	members []member
	guard   string // directory of the lock on limits; "" for none
}

// member is the group in one hierarchy.
type member struct {
	hierarchy
	path string // below the root group, absolute and clean
}

func (m member) dir() string          { return filepath.Join(m.mount, m.path) }
func (m member) file(f string) string { return filepath.Join(m.mount, m.path, f) }

// Find returns the group with a path: an absolute one is the same everywhere, a
// relative one is below the caller's own group in each hierarchy, as for runc.
// It is nil where no v1 hierarchy is mounted.
func Find(p string) (*Group, error) {
	data, err := kernfs.Read("/proc/self/cgroup")
	if err != nil {
		return nil, err
	}
	all := find(data, mountPoint)
	if len(all) == 0 {
		return nil, nil //nolint:nilnil // the nil Group is one without members
	}
	g := &Group{}
	for _, h := range all {
		where := path.Clean(p)
		if !path.IsAbs(p) {
			where = path.Join(h.own, p)
		}
		g.members = append(g.members, member{h, where})
	}
	return g, g.check()
}

// check refuses a group that is the root of a hierarchy: every process of the host
// is in that.
func (g *Group) check() error {
	for _, m := range g.members {
		if m.path == "/" {
			return errdefs.New(errdefs.ErrInvalid, "cgroup of a container: it is the root of the hierarchy %s", m.name)
		}
	}
	return nil
}

// Move gives the group other paths in some hierarchies, by their names: what
// Differing returned. It may be asked of nil, with a host changed since.
func (g *Group) Move(paths map[string]string) error {
	if g == nil {
		return nil
	}
	for i := range g.members {
		if p, ok := paths[g.members[i].name]; ok {
			g.members[i].path = path.Clean("/" + p)
		}
	}
	return g.check()
}

// Differing returns the paths in those hierarchies where the group is not at p.
func (g *Group) Differing(p string) map[string]string {
	if g == nil {
		return nil
	}
	var differing map[string]string
	for _, m := range g.members {
		if m.path != p {
			if differing == nil {
				differing = map[string]string{}
			}
			differing[m.name] = m.path
		}
	}
	return differing
}

// Clone returns the same group, to be changed.
func (g *Group) Clone() *Group { return &Group{slices.Clone(g.members), g.guard} }

// Descend moves to the group at a path below this one, in the hierarchies of some
// controllers (comma separated) or in all ("").
func (g *Group) Descend(controllers, below string) error {
	if controllers == "" {
		for i := range g.members {
			g.members[i].path = path.Join(g.members[i].path, below)
		}
		return nil
	}
	done := map[string]bool{} // cpu and cpuacct may be the same
	for name := range strings.SplitSeq(controllers, ",") {
		m, ok := g.member(name)
		if !ok {
			return errdefs.New(errdefs.ErrInvalid, "unknown controller %s in --cgroup", name)
		}
		if !done[m.name] {
			done[m.name] = true
			if err := g.Move(map[string]string{m.name: path.Join(m.path, below)}); err != nil {
				return err
			}
		}
	}
	return nil
}

// Has tells whether a controller is in one of the hierarchies. It may be asked of
// nil.
func (g *Group) Has(controller string) bool {
	_, ok := g.member(controller)
	return ok
}

// member returns the group in the hierarchy of a controller.
func (g *Group) member(controller string) (member, bool) {
	if g != nil {
		for _, m := range g.members {
			if slices.Contains(m.controllers, controller) {
				return m, true
			}
		}
	}
	return member{}, false
}

// Dir is the directory of the group in the hierarchy of a controller, "" if there
// is none. It may be asked of nil.
func (g *Group) Dir(controller string) string {
	if m, ok := g.member(controller); ok {
		return m.dir()
	}
	return ""
}

// Dirs are the directories of the group, one for each hierarchy.
func (g *Group) Dirs() []string {
	dirs := make([]string, len(g.members))
	for i, m := range g.members {
		dirs[i] = m.dir()
	}
	return dirs
}

// Place is the group in one hierarchy.
type Place struct {
	Hierarchy string // its name as in /proc/PID/cgroup: "cpu,cpuacct", "name=systemd"
	Dir       string // the group's directory
}

// Places are the group in every hierarchy, in the kernel's order; none for a nil group.
func (g *Group) Places() []Place { return g.places(member.dir) }

// Own are the caller's groups.
func (g *Group) Own() []Place {
	return g.places(func(m member) string { return filepath.Join(m.mount, m.own) })
}

func (g *Group) places(dir func(member) string) []Place {
	if g == nil {
		return nil
	}
	places := make([]Place, len(g.members))
	for i, m := range g.members {
		places[i] = Place{m.name, dir(m)}
	}
	return places
}

// Create makes the group in every hierarchy. One that exists already may be used
// if it is empty and not frozen. The texts are runc's, which callers look for. If
// it fails, undo has removed what it had made; the caller calls undo if something
// else fails.
func (g *Group) Create() (undo func(), err error) {
	var made []string
	undo = func() {
		for _, dir := range slices.Backward(made) {
			_ = unix.Rmdir(dir) // what others have put to use meanwhile is theirs
		}
	}
	for _, m := range g.members {
		fresh, err := m.create()
		if fresh {
			made = append(made, m.dir())
		}
		if err != nil {
			undo()
			return nil, fmt.Errorf("create cgroup %s in hierarchy %s: %w", m.path, m.name, err)
		}
	}
	return undo, nil
}

// create makes the group in one hierarchy; fresh tells that it was not there.
func (m member) create() (fresh bool, err error) {
	err = kernfs.Make(m.dir())
	fresh = err == nil
	if errors.Is(err, fs.ErrExist) {
		err = m.checkUnused()
	}
	if err == nil && slices.Contains(m.controllers, "cpuset") {
		err = m.fillCpuset()
	}
	return fresh, err
}

func (m member) checkUnused() error {
	if slices.Contains(m.controllers, "freezer") {
		if state, err := kernfs.Read(m.file("freezer.state")); err == nil && strings.TrimSpace(state) != thawed {
			return errdefs.New(errdefs.ErrConflict, "container's cgroup unexpectedly frozen")
		}
	}
	pids, err := kernfs.Procs(m.dir())
	if err == nil && len(pids) > 0 {
		err = errdefs.New(errdefs.ErrConflict, "container's cgroup is not empty: %d process(es) found", len(pids))
	}
	return err
}

// fillCpuset copies cpus and memory nodes from the group above where they are
// empty, from the top down: a new v1 group has none, and then takes no process
// (cpusets.rst, 1.4).
func (m member) fillCpuset() error {
	for _, file := range []string{"cpuset.cpus", "cpuset.mems"} {
		above, err := kernfs.Read(filepath.Join(m.mount, file))
		if err != nil {
			return err
		}
		dir := m.mount
		for part := range strings.SplitSeq(strings.Trim(m.path, "/"), "/") {
			dir = filepath.Join(dir, part)
			have, err := kernfs.Read(filepath.Join(dir, file))
			if err != nil {
				return err
			}
			if strings.TrimSpace(have) != "" {
				above = have
				continue
			}
			if err := kernfs.Write(filepath.Join(dir, file), strings.TrimSpace(above)); err != nil {
				return err
			}
		}
	}
	return nil
}

// Join moves a process into the group.
func (g *Group) Join(pid int) error {
	for _, m := range g.members {
		if err := kernfs.Write(m.file("cgroup.procs"), strconv.Itoa(pid)); err != nil {
			return err
		}
	}
	return nil
}

// Within runs f, which clones, on a thread that is in the group. f must clone on
// the goroutine it is called on.
func (g *Group) Within(f func() error) (err error) {
	leave, err := g.enter()
	if err != nil {
		return err
	}
	return errors.Join(f(), leave())
}

// enter moves the calling thread into the group, until leave. "0" written to
// tasks is the writing thread; see the package doc for why it is not its number.
func (g *Group) enter() (leave func() error, err error) {
	runtime.LockOSThread()
	var undo []func() error
	leave = func() error {
		defer runtime.UnlockOSThread()
		var errs []error
		for _, u := range slices.Backward(undo) {
			errs = append(errs, u())
		}
		return errors.Join(errs...)
	}
	for _, m := range g.members {
		more, err := g.enterOne(m)
		undo = append(undo, more...)
		if err != nil {
			thread := unix.Gettid()
			return nil, &EnterError{thread, errors.Join(err, leave())}
		}
	}
	return leave, nil
}

// EnterError says that a thread could not be moved into the group.
type EnterError struct {
	Thread int // its number
	Err    error
}

func (e *EnterError) Error() string { return e.Err.Error() }
func (e *EnterError) Unwrap() error { return e.Err }

// enterOne moves the calling thread into the group of one hierarchy, and returns
// what undoes it, which may be something even if it fails.
func (g *Group) enterOne(m member) (undo []func() error, err error) {
	if slices.Contains(m.controllers, "pids") {
		if undo, err = g.makeRoom(m); err != nil {
			return undo, err
		}
	}
	if err := kernfs.Write(m.file("tasks"), "0"); err != nil {
		return undo, err
	}
	return append(undo, func() error { return kernfs.Write(filepath.Join(m.mount, m.own, "tasks"), "0") }), nil
}

// makeRoom lets one more task into the group for a moment: the thread is one, and
// with the smallest limits there is no place for its child beside it.
func (g *Group) makeRoom(m member) (undo []func() error, err error) {
	r := raise{file: m.file("pids.max")}
	if _, limited, err := processLimit(r.file); !limited {
		return nil, err
	}
	l, err := g.hold(forkPatience)
	if err != nil {
		return nil, err
	}
	var limited bool
	r.limit, limited, err = processLimit(r.file) // as it is now that nobody else changes it
	if limited {
		l.note(r)
		err = r.do()
	}
	if err != nil || !limited {
		l.forget()
		l.release()
		return nil, err
	}
	return []func() error{func() error {
		defer l.release()
		err := r.undo()
		if err == nil { // else it is for the next who takes the lock
			l.forget()
		}
		return err
	}}, nil
}

// Exists tells whether the group is there in any hierarchy. It may be asked of nil.
func (g *Group) Exists() bool {
	return g != nil && slices.ContainsFunc(g.members, func(m member) bool {
		return unix.Access(m.dir(), unix.F_OK) == nil
	})
}
