// Package copyup copies a directory tree of a container into a new file system: what
// the option tmpcopyup asks for. It runs in the parent, outside the container, on
// descriptors that the container's launch program has handed over.
//
// The tree belongs to a hostile image and does not change its reader: every element is
// opened by name in an open directory, never through a symlink (O_NOFOLLOW), and only
// regular files are opened for reading. The new file system belongs to the container's
// user namespace, in which this process may have no id: files are made as the owner of
// its root directory, and given to their own owners afterwards.
package copyup

import (
	"errors"
	"fmt"
	"os"
	"path"
	"runtime"

	"golang.org/x/sys/unix"

	"box/internal/sys"
)

// maxDepth bounds the nesting of directories: each level keeps two descriptors open.
const maxDepth = 200

// Copy copies the content of the directory src into the directory dst, with types,
// permissions, owners, times and extended attributes; dst itself gets the owner of
// src. The descriptors may be O_PATH.
func Copy(src, dst *os.File) error {
	runtime.LockOSThread() // whose ids for files change
	defer runtime.UnlockOSThread()
	var st unix.Stat_t
	if err := unix.Fstat(int(dst.Fd()), &st); err != nil {
		return fmt.Errorf("copy %s: %w", src.Name(), err)
	}
	c := copier{uid: int(st.Uid), gid: int(st.Gid)}
	return c.tree(int(src.Fd()), ".", int(dst.Fd()), ".", "/", 0)
}

// copier makes files as uid and gid, which exist in the new file system.
type copier struct{ uid, gid int }

// make runs f, which makes one file, with the ids that the new file system knows. Only
// making needs them: whoever is privileged outside may change what is made.
func (c *copier) make(f func() error) error {
	if uid := unix.Getuid(); uid != c.uid {
		gid, err := unix.SetfsgidRetGid(c.gid)
		if err != nil {
			return err
		}
		defer func() { _, _ = unix.SetfsgidRetGid(gid) }()
		old, err := unix.SetfsuidRetUid(c.uid)
		if err != nil {
			return err
		}
		defer func() { _, _ = unix.SetfsuidRetUid(old) }()
	}
	return f()
}

// tree copies the directory srcName in src to the directory dstName in dst, which is
// there. where is how messages call it.
func (c *copier) tree(src int, srcName string, dst int, dstName, where string, depth int) error {
	if depth > maxDepth {
		return fmt.Errorf("copy %s: directories are nested more than %d deep", where, maxDepth)
	}
	from, err := openDir(src, srcName)
	if err != nil {
		return &os.PathError{Op: "open", Path: where, Err: err}
	}
	defer from.Close()
	to, err := openDir(dst, dstName)
	if err != nil {
		return &os.PathError{Op: "open copy of", Path: where, Err: err}
	}
	defer to.Close()
	names, err := from.Readdirnames(-1)
	if err != nil {
		return &os.PathError{Op: "read", Path: where, Err: err}
	}
	for _, name := range names {
		if err := c.entry(int(from.Fd()), int(to.Fd()), name, path.Join(where, name), depth); err != nil {
			return err
		}
	}
	var st unix.Stat_t
	if err := unix.Fstat(int(from.Fd()), &st); err != nil {
		return &os.PathError{Op: "stat", Path: where, Err: err}
	}
	if depth == 0 { // the mount's root has the mode that the configuration says
		if err := unix.Fchown(int(to.Fd()), int(st.Uid), int(st.Gid)); err != nil {
			return &os.PathError{Op: "set owner of copy of", Path: where, Err: err}
		}
		return nil
	}
	if err := attributes(int(from.Fd()), int(to.Fd())); err != nil {
		return &os.PathError{Op: "copy attributes of", Path: where, Err: err}
	}
	return finish(dst, dstName, where, &st)
}

func openDir(dir int, name string) (*os.File, error) {
	fd, err := unix.Openat(dir, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), name), nil
}

// entry copies one element of a directory.
func (c *copier) entry(from, to int, name, where string, depth int) error {
	var st unix.Stat_t
	if err := unix.Fstatat(from, name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return &os.PathError{Op: "stat", Path: where, Err: err}
	}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFDIR:
		// Nobody but its maker may enter it before it has its owner and mode.
		if err := c.make(func() error { return unix.Mkdirat(to, name, 0o700) }); err != nil {
			return &os.PathError{Op: "mkdir copy of", Path: where, Err: err}
		}
		return c.tree(from, name, to, name, where, depth+1)
	case unix.S_IFREG:
		if err := c.file(from, to, name); err != nil {
			return &os.PathError{Op: "copy", Path: where, Err: err}
		}
	case unix.S_IFLNK:
		if err := c.link(from, to, name); err != nil {
			return &os.PathError{Op: "copy link", Path: where, Err: err}
		}
	default:
		make := func() error { return unix.Mknodat(to, name, st.Mode, int(st.Rdev)) }
		if err := c.make(make); err != nil {
			return &os.PathError{Op: "make copy of", Path: where, Err: err}
		}
	}
	return finish(to, name, where, &st)
}

// file copies a regular file. That it is one is checked on the open descriptor, and
// opening waits for nobody, should it be a fifo by now.
func (c *copier) file(from, to int, name string) error {
	fd, err := unix.Openat(from, name, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	in := os.NewFile(uintptr(fd), name)
	defer in.Close()
	info, err := in.Stat()
	if err != nil || !info.Mode().IsRegular() {
		return errors.Join(err, unix.EUCLEAN)
	}
	var copied int
	err = c.make(func() (err error) {
		copied, err = unix.Openat(to, name, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
		return err
	})
	if err != nil {
		return err
	}
	out := os.NewFile(uintptr(copied), name)
	err = sys.CopyContent(out, in, info.Size())
	if err == nil {
		err = attributes(fd, copied)
	}
	return errors.Join(err, out.Close())
}

func (c *copier) link(from, to int, name string) error {
	buf := make([]byte, unix.PathMax)
	n, err := unix.Readlinkat(from, name, buf)
	if err != nil {
		return err
	}
	return c.make(func() error { return unix.Symlinkat(string(buf[:n]), to, name) })
}

// finish gives a copy owner, permissions and times: in this order, for a change of
// owner takes setuid away, and one of permissions does not change the times.
func finish(dir int, name, where string, st *unix.Stat_t) error {
	if err := unix.Fchownat(dir, name, int(st.Uid), int(st.Gid), unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return &os.PathError{Op: "set owner of copy of", Path: where, Err: err}
	}
	if st.Mode&unix.S_IFMT != unix.S_IFLNK {
		if err := unix.Fchmodat(dir, name, st.Mode&0o7777, 0); err != nil {
			return &os.PathError{Op: "set mode of copy of", Path: where, Err: err}
		}
	}
	times := []unix.Timespec{st.Atim, st.Mtim}
	if err := unix.UtimesNanoAt(dir, name, times, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return &os.PathError{Op: "set times of copy of", Path: where, Err: err}
	}
	return nil
}
