package solve

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"

	"box/internal/errdefs"
	"box/internal/sys"
	"box/pkg/build/plan"

	"golang.org/x/sys/unix"
)

// sink writes files into a root file system. Paths are absolute inside it;
// links in them are followed inside it, so that a destination cannot lead out.
//
// Times are part of a layer, and a layer should be the same wherever it is
// built: a file keeps the time of its source, what has no source gets stamp,
// and a directory that was there keeps its time although something was written
// into it. finish sets them.
type sink struct {
	root  *os.File
	owner *owner     // of everything written; nil keeps the owner of the source
	mode  *plan.Mode // of everything written; nil keeps the mode of the source
	stamp unix.Timespec

	parent *os.File          // the directory that was written to last
	name   string            // its path
	times  map[string]*times // of directories, by path
	order  []string          // of times, parents first
	links  map[[2]uint64]string
	buf    []byte
}

// owner is a numeric user and group.
type owner struct{ uid, gid int }

// times are what a directory gets in the end.
type times struct{ atime, mtime unix.Timespec }

func newSink(root *os.File, stamp unix.Timespec) *sink {
	return &sink{root: root, stamp: stamp, times: map[string]*times{}, links: map[[2]uint64]string{}}
}

// close lets go of the open directory.
func (s *sink) close() {
	if s.parent != nil {
		s.parent.Close()
		s.parent = nil
	}
}

// finish sets the times of directories, children first, and closes the sink.
func (s *sink) finish() error {
	defer s.close()
	for i := len(s.order) - 1; i >= 0; i-- {
		p := s.order[i]
		t := s.times[p]
		dir, err := sys.OpenInRoot(s.root, p, unix.O_RDONLY|unix.O_DIRECTORY, 0)
		if isMissing(err) {
			continue // replaced by a later source of the same copy
		}
		if err != nil {
			return err
		}
		err = setTimes(dir, "", t.atime, t.mtime)
		dir.Close()
		if err != nil {
			return fmt.Errorf("set times of %s: %w", p, err)
		}
	}
	return nil
}

// keepTimes notes the times that a directory must have in the end; what was
// noted first stands unless force is set.
func (s *sink) keepTimes(p string, t times, force bool) {
	if old := s.times[p]; old != nil {
		if force {
			*old = t
		}
		return
	}
	s.times[p] = &t
	s.order = append(s.order, p)
}

// dir opens a directory for writing into it and notes its times.
func (s *sink) dir(p string) (*os.File, error) {
	if s.parent != nil && s.name == p {
		return s.parent, nil
	}
	d, err := sys.OpenInRoot(s.root, p, unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		return nil, err
	}
	var st unix.Stat_t
	if err := unix.Fstat(int(d.Fd()), &st); err != nil {
		d.Close()
		return nil, &fs.PathError{Op: "stat", Path: p, Err: err}
	}
	s.keepTimes(p, times{st.Atim, st.Mtim}, false)
	s.close()
	s.parent, s.name = d, p
	return d, nil
}

// follow resolves the links of a path as far as it exists, so that what is
// written goes where the path leads inside the root.
func (s *sink) follow(p string) (string, error) {
	t := newTree("the root file system", s.root)
	words := strings.Split(strings.Trim(p, "/"), "/")
	done, links := "", 0
	for len(words) > 0 {
		word := words[0]
		words = words[1:]
		next := path.Join(done, word)
		if word == ".." {
			next = parentOf(done)
		}
		n, err := t.lstat(next)
		if isMissing(err) {
			return path.Join("/", next, path.Join(words...)), nil
		}
		if err != nil {
			return "", err
		}
		if !n.isLink() {
			done = next
			continue
		}
		if links++; links > maxLinks {
			return "", &fs.PathError{Op: "resolve", Path: p, Err: unix.ELOOP}
		}
		if strings.HasPrefix(n.link, "/") {
			done = ""
		}
		words = append(strings.Split(strings.Trim(n.link, "/"), "/"), words...)
	}
	return "/" + done, nil
}

// isDir tells whether a path, links followed, is a directory.
func (s *sink) isDir(p string) (exists, dir bool, err error) {
	f, err := sys.OpenInRoot(s.root, p, unix.O_PATH, 0)
	if isMissing(err) {
		return false, false, nil
	}
	if err != nil {
		return false, false, err
	}
	defer f.Close()
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return false, false, &fs.PathError{Op: "stat", Path: p, Err: err}
	}
	return true, st.Mode&unix.S_IFMT == unix.S_IFDIR, nil
}

// hasDir tells whether a directory is there; anything else in its place is an error.
func (s *sink) hasDir(p string) (exists bool, err error) {
	exists, isDir, err := s.isDir(p)
	if exists && !isDir {
		err = errdefs.New(errdefs.ErrInvalid, "%s is there and is no directory", p)
	}
	return exists, err
}

// mkdirAll makes a directory with its missing parents and says whether the
// directory itself had to be made. p has no links that exist: see follow.
func (s *sink) mkdirAll(p string) (made bool, err error) {
	exists, err := s.hasDir(p)
	if err != nil || exists {
		return false, err
	}
	if _, err := s.mkdirAll(path.Dir(p)); err != nil {
		return false, err
	}
	return true, s.mkdir(p, nil)
}

// mkdir makes one directory, after the source or with the defaults.
func (s *sink) mkdir(p string, src *item) error {
	parent, err := s.dir(path.Dir(p))
	if err != nil {
		return err
	}
	if err := unix.Mkdirat(int(parent.Fd()), path.Base(p), 0o700); err != nil {
		return &fs.PathError{Op: "mkdir", Path: p, Err: err}
	}
	return s.dressDir(p, src, nil)
}

// dressDir gives a directory owner, mode, attributes and times.
func (s *sink) dressDir(p string, src *item, attrs []xattr) error {
	d, err := sys.OpenInRoot(s.root, p, unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		return err
	}
	defer d.Close()
	uid, gid, perm, t := 0, 0, uint32(0o755), times{s.stamp, s.stamp}
	if src != nil {
		uid, gid, perm, t = int(src.st.Uid), int(src.st.Gid), src.perm(), times{src.st.Mtim, src.st.Mtim}
	}
	if err := s.dress(d, uid, gid, perm, true, attrs); err != nil {
		return fmt.Errorf("set metadata of %s: %w", p, err)
	}
	s.keepTimes(p, t, true)
	return nil
}

// dress sets what both files and directories have. The owner comes first:
// changing it drops set-id bits and capabilities.
func (s *sink) dress(f *os.File, uid, gid int, perm uint32, isDir bool, attrs []xattr) error {
	if s.owner != nil {
		uid, gid = s.owner.uid, s.owner.gid
	}
	if s.mode != nil {
		perm = s.mode.Apply(perm, isDir)
	}
	if err := unix.Fchown(int(f.Fd()), uid, gid); err != nil {
		return fmt.Errorf("chown: %w", err)
	}
	for _, a := range attrs {
		err := unix.Fsetxattr(int(f.Fd()), a.name, []byte(a.value), 0)
		if err != nil {
			return fmt.Errorf("set attribute %s: %w", a.name, err)
		}
	}
	if err := unix.Fchmod(int(f.Fd()), perm); err != nil {
		return fmt.Errorf("chmod: %w", err)
	}
	return nil
}

// vacate makes room for a file: anything but a directory is removed.
func (s *sink) vacate(parent *os.File, p string) error {
	var st unix.Stat_t
	err := unix.Fstatat(int(parent.Fd()), path.Base(p), &st, unix.AT_SYMLINK_NOFOLLOW)
	if errors.Is(err, unix.ENOENT) {
		return nil
	}
	if err != nil {
		return &fs.PathError{Op: "stat", Path: p, Err: err}
	}
	if st.Mode&unix.S_IFMT == unix.S_IFDIR {
		return errdefs.New(errdefs.ErrInvalid, "%s is a directory and cannot be replaced by a file", p)
	}
	if err := unix.Unlinkat(int(parent.Fd()), path.Base(p), 0); err != nil {
		return &fs.PathError{Op: "remove", Path: p, Err: err}
	}
	return nil
}

// file writes a regular file from r.
func (s *sink) file(p string, src *item, attrs []xattr, r io.Reader) (err error) {
	parent, err := s.dir(path.Dir(p))
	if err != nil {
		return err
	}
	if err := s.vacate(parent, p); err != nil {
		return err
	}
	fd, err := unix.Openat(int(parent.Fd()), path.Base(p), unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return &fs.PathError{Op: "create", Path: p, Err: err}
	}
	f := os.NewFile(uintptr(fd), p)
	defer func() {
		if cerr := f.Close(); err == nil {
			err = cerr
		}
	}()
	if err := s.copyData(f, r, &src.st); err != nil {
		return fmt.Errorf("write %s: %w", p, err)
	}
	if err := s.dress(f, int(src.st.Uid), int(src.st.Gid), src.perm(), false, attrs); err != nil {
		return fmt.Errorf("set metadata of %s: %w", p, err)
	}
	return setTimes(f, "", src.st.Mtim, src.st.Mtim)
}

// copyData copies with a large buffer. The kernel cannot do it alone: source and
// overlay are different file systems for copy_file_range(2) and FICLONE. The holes
// of a file on disk stay holes.
func (s *sink) copyData(dst *os.File, r io.Reader, st *unix.Stat_t) error {
	if src, ok := r.(*os.File); ok && st.Blocks*512 < st.Size {
		return sys.CopyContent(dst, src, st.Size)
	}
	if s.buf == nil {
		s.buf = make([]byte, 1<<20)
	}
	// The struct types hide ReadFrom and WriteTo, which would use small buffers.
	_, err := io.CopyBuffer(struct{ io.Writer }{dst}, struct{ io.Reader }{r}, s.buf)
	return err
}

// symlink writes a symbolic link.
func (s *sink) symlink(p string, src *item) error {
	return s.make(p, src, func(parent int, name string) error {
		return unix.Symlinkat(src.link, parent, name)
	})
}

// special writes a fifo or a device.
func (s *sink) special(p string, src *item) error {
	return s.make(p, src, func(parent int, name string) error {
		if err := unix.Mknodat(parent, name, src.st.Mode&^0o7777|0o600, int(src.st.Rdev)); err != nil {
			return err
		}
		perm := src.perm()
		if s.mode != nil {
			perm = s.mode.Apply(perm, false)
		}
		return fchmodat(parent, name, perm)
	})
}

// make writes what is not opened: by name in an open directory.
func (s *sink) make(p string, src *item, create func(parent int, name string) error) error {
	parent, err := s.dir(path.Dir(p))
	if err != nil {
		return err
	}
	if err := s.vacate(parent, p); err != nil {
		return err
	}
	name := path.Base(p)
	if err := create(int(parent.Fd()), name); err != nil {
		return &fs.PathError{Op: "create", Path: p, Err: err}
	}
	uid, gid := int(src.st.Uid), int(src.st.Gid)
	if s.owner != nil {
		uid, gid = s.owner.uid, s.owner.gid
	}
	if err := unix.Fchownat(int(parent.Fd()), name, uid, gid, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return &fs.PathError{Op: "chown", Path: p, Err: err}
	}
	return setTimes(parent, name, src.st.Mtim, src.st.Mtim)
}

// link makes p another name of a file that this sink has written.
func (s *sink) link(p, old string) error {
	from, err := sys.OpenInRoot(s.root, path.Dir(old), unix.O_PATH|unix.O_DIRECTORY, 0)
	if err != nil {
		return err
	}
	defer from.Close()
	parent, err := s.dir(path.Dir(p))
	if err != nil {
		return err
	}
	if err := s.vacate(parent, p); err != nil {
		return err
	}
	if err := unix.Linkat(int(from.Fd()), path.Base(old), int(parent.Fd()), path.Base(p), 0); err != nil {
		return &fs.PathError{Op: "link", Path: p, Err: err}
	}
	return nil
}

// setTimes sets the times of name in an open directory, or of f itself if name
// is empty.
func setTimes(f *os.File, name string, atime, mtime unix.Timespec) error {
	target, flags := name, unix.AT_SYMLINK_NOFOLLOW
	if name == "" {
		flags = unix.AT_EMPTY_PATH
	}
	err := unix.UtimesNanoAt(int(f.Fd()), target, []unix.Timespec{atime, mtime}, flags)
	if err != nil {
		return &fs.PathError{Op: "set times", Path: path.Join(f.Name(), name), Err: err}
	}
	return nil
}

// fchmodat sets the mode of a file that was just made, in a directory that
// nobody else writes to.
func fchmodat(dir int, name string, perm uint32) error {
	return unix.Fchmodat(dir, name, perm, 0)
}
