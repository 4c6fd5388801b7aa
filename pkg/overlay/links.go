package overlay

import (
	"errors"
	"io/fs"
	"os"
	"path"

	"box/internal/errdefs"
	"box/internal/sys"

	"golang.org/x/sys/unix"
)

// inode names a file across its hard links.
type inode struct{ dev, ino uint64 }

// link makes a hard link whose target lies below: the target is copied up into
// the layer under the link's name. Only regular files can be linked this way. A
// file is copied once, however many names it gets: a few kilobytes of links to a
// large one would fill any disk.
func (a *adopter) link(l Link) error {
	src, err := sys.OpenInRoot(a.below, l.Target, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return errdefs.New(errdefs.ErrInvalid, "no such file in the layer or below it")
	}
	if err != nil {
		return err
	}
	defer src.Close()
	var st unix.Stat_t
	if err := unix.Fstat(int(src.Fd()), &st); err != nil || st.Mode&unix.S_IFMT != unix.S_IFREG {
		return errdefs.New(errdefs.ErrUnsupported, "target lies below the layer and is no regular file")
	}
	parent, err := sys.OpenInRoot(a.top, path.Dir(l.Name), unix.O_PATH|unix.O_DIRECTORY, 0)
	if err != nil {
		return err
	}
	defer parent.Close()
	id := inode{uint64(st.Dev), st.Ino}
	if first, ok := a.copies[id]; ok {
		err := a.linkTo(first, parent, path.Base(l.Name))
		if err != unix.EMLINK {
			return err
		}
	}
	a.copies[id] = l.Name
	return copyUp(src, parent, path.Base(l.Name), st.Size)
}

// linkTo makes name in the open directory another name of a file of the layer.
func (a *adopter) linkTo(first string, dir *os.File, name string) error {
	from, err := sys.OpenInRoot(a.top, path.Dir(first), unix.O_PATH|unix.O_DIRECTORY, 0)
	if err != nil {
		return err
	}
	defer from.Close()
	return unix.Linkat(int(from.Fd()), path.Base(first), int(dir.Fd()), name, 0)
}

// copyUp copies the size bytes of an open file with its metadata to name, which must be new.
func copyUp(src, dir *os.File, name string, size int64) (err error) {
	fd, err := unix.Openat(int(dir.Fd()), name, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return &fs.PathError{Op: "create", Path: name, Err: err}
	}
	dst := os.NewFile(uintptr(fd), name)
	defer func() { err = errors.Join(err, dst.Close()) }()
	if err := sys.CopyContent(dst, src, size); err != nil {
		return err
	}
	return copyMetadata(src, dst)
}
