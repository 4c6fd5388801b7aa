package rootfs

import (
	"strings"

	"golang.org/x/sys/unix"

	"box/pkg/launch"
)

// target is a directory or file inside the root that is to be opened, and made
// first if it may be missing.
type target struct {
	path   string
	file   bool
	strict bool   // refuse symlinks on the way
	create string // what to make, with symlinks resolved; empty: it exists
	exist  string // a directory above create that surely exists
}

// addTarget adds the steps that open t, making what is missing, and returns the slot
// of its descriptor.
func (r *Rootfs) addTarget(p *launch.Plan, t target, name, why string) launch.Slot {
	dst := p.Slot(t.path)
	l := lookup{dir: r.root, path: t.path}
	if !t.file {
		l.flags = unix.O_DIRECTORY
	}
	if t.strict {
		l.resolve = inRoot | unix.RESOLVE_NO_SYMLINKS
	}
	if t.create == "" {
		p.Add(r.open(l, dst, name, why))
		return dst
	}
	have, create := p.Label(), p.Label()
	first := r.open(l, dst, name, why, launch.Allow{Errno: unix.ENOENT, To: create})
	first.Then = have
	p.Add(first)
	p.Place(create)
	r.addCreate(p, t)
	p.Add(r.open(l, dst, name, "again, by the same rules: what was made is not trusted for having been made"))
	p.Place(have)
	return dst
}

// addCreate adds the steps that make the missing directories, and the file, one
// component at a time, each in a directory opened inside the root. An element that
// exists already, whatever it is, is left alone: the final open decides.
func (r *Rootfs) addCreate(p *launch.Plan, t target) {
	done := t.exist
	parts := strings.Split(strings.Trim(strings.TrimPrefix(t.create, t.exist), "/"), "/")
	for i, part := range parts {
		dir := r.root
		if done != "/" {
			dir = p.Slot(done)
			p.Add(r.open(lookup{dir: r.root, path: done, flags: unix.O_DIRECTORY}, dir,
				"open directory "+done, "what is made next is made in this directory and no other"))
		}
		done = strings.TrimSuffix(done, "/") + "/" + part
		p.Add(r.make(dir, part, done, t.file && i == len(parts)-1))
	}
}

// make makes one element in an open directory.
func (r *Rootfs) make(dir launch.Slot, part, whole string, file bool) launch.Step {
	s := launch.Step{
		Name: "create directory " + whole, Why: "the mount point is not in the image", Call: launch.Mkdirat,
		Args:  launch.Args{dir, launch.Text(part), launch.Int(0o755)},
		Allow: []launch.Allow{{Errno: unix.EEXIST}},
	}
	if file {
		s.Name, s.Call = "create file "+whole, launch.Mknodat
		s.Why = "a file is mounted on a file; mknod makes one without following what may lie there"
		s.Args = launch.Args{dir, launch.Text(part), launch.Int(unix.S_IFREG | 0o755), launch.Int(0)}
	}
	return s
}

// directory returns the target for a directory that may be missing, below the mount
// that it will lie on.
func (r *Rootfs) directory(path string) target {
	t := target{path: path, create: path, exist: "/"}
	for _, m := range r.mounts {
		if (path == m.dest || under(path, m.dest)) && len(m.dest) > len(t.exist) {
			t.exist = m.dest
		}
	}
	if t.exist == path {
		t.create = ""
	}
	return t
}
