package volume

import (
	"errors"
	"fmt"
	"os"
	"strconv"

	"golang.org/x/sys/unix"

	"box/internal/sys"
)

// copyTree copies the content of the open directory src into the open
// directory dst, and src's own owner, mode and xattrs onto dst. It goes by
// descriptors only and follows no symbolic link: both trees may be written to
// by a container meanwhile.
func copyTree(src, dst *os.File) error {
	c := copier{links: map[inode]string{}, root: dst}
	return c.dir(src, dst, ".")
}

type inode struct{ dev, ino uint64 }

type copier struct {
	root  *os.File
	links map[inode]string // files with several names → the first copy, relative to root
}

// dir copies what is in src, then src's own attributes: a mode without write
// permission or a modification time must come last.
func (c *copier) dir(src, dst *os.File, at string) error {
	names, err := src.Readdirnames(-1)
	if err != nil {
		return err
	}
	for _, name := range names {
		if err := c.entry(src, dst, name, at+"/"+name); err != nil {
			return fmt.Errorf("copy %s: %w", at+"/"+name, err)
		}
	}
	var st unix.Stat_t
	if err := unix.Fstat(int(src.Fd()), &st); err != nil {
		return err
	}
	if err := copyXattrs(src, dst); err != nil {
		return err
	}
	if err := unix.Fchown(int(dst.Fd()), int(st.Uid), int(st.Gid)); err != nil {
		return err
	}
	if err := unix.Fchmod(int(dst.Fd()), st.Mode&0o7777); err != nil {
		return err
	}
	return setTimes(dst, ".", st)
}

func (c *copier) entry(src, dst *os.File, name, at string) error {
	var st unix.Stat_t
	if err := unix.Fstatat(int(src.Fd()), name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return err
	}
	if st.Mode&unix.S_IFMT != unix.S_IFDIR && st.Nlink > 1 {
		key := inode{uint64(st.Dev), st.Ino}
		if first, ok := c.links[key]; ok {
			return unix.Linkat(int(c.root.Fd()), first, int(dst.Fd()), name, 0)
		}
		c.links[key] = at
	}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFDIR:
		return c.subdir(src, dst, name, at)
	case unix.S_IFREG:
		return c.file(src, dst, name, st)
	case unix.S_IFLNK:
		return link(src, dst, name, st)
	}
	if err := unix.Mknodat(int(dst.Fd()), name, st.Mode, int(st.Rdev)); err != nil {
		return err
	}
	return attributes(dst, name, st)
}

func (c *copier) subdir(src, dst *os.File, name, at string) error {
	from, err := openAt(src, name, unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		return err
	}
	defer from.Close()
	if err := unix.Mkdirat(int(dst.Fd()), name, 0o700); err != nil {
		return err
	}
	to, err := openAt(dst, name, unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		return err
	}
	defer to.Close()
	return c.dir(from, to, at)
}

func (c *copier) file(src, dst *os.File, name string, st unix.Stat_t) (err error) {
	// O_NONBLOCK: should the name be a fifo by now, the open must not hang.
	from, err := openAt(src, name, unix.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return err
	}
	defer from.Close()
	to, err := openAt(dst, name, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, to.Close()) }()
	if err := sys.CopyContent(to, from, st.Size); err != nil {
		return err
	}
	if err := attributes(dst, name, st); err != nil {
		return err
	}
	// After the owner, whose change drops security.capability.
	return copyXattrs(from, to)
}

func link(src, dst *os.File, name string, st unix.Stat_t) error {
	buf := make([]byte, unix.PathMax)
	n, err := unix.Readlinkat(int(src.Fd()), name, buf)
	if err != nil {
		return err
	}
	if err := unix.Symlinkat(string(buf[:n]), int(dst.Fd()), name); err != nil {
		return err
	}
	if err := unix.Fchownat(int(dst.Fd()), name, int(st.Uid), int(st.Gid), unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return err
	}
	return setTimes(dst, name, st)
}

// attributes sets owner, mode (in this order: chown clears set-user-id) and
// times of a file just made.
func attributes(dir *os.File, name string, st unix.Stat_t) error {
	if err := unix.Fchownat(int(dir.Fd()), name, int(st.Uid), int(st.Gid), unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return err
	}
	if err := chmodNoFollow(dir, name, st.Mode&0o7777); err != nil {
		return err
	}
	return setTimes(dir, name, st)
}

// chmodNoFollow is fchmodat with AT_SYMLINK_NOFOLLOW, which Linux has only
// since 6.6: a link that somebody put in the file's place is an error.
func chmodNoFollow(dir *os.File, name string, mode uint32) error {
	f, err := openAt(dir, name, unix.O_PATH, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	return unix.Chmod("/proc/self/fd/"+strconv.Itoa(int(f.Fd())), mode)
}

func setTimes(dir *os.File, name string, st unix.Stat_t) error {
	return unix.UtimesNanoAt(int(dir.Fd()), name, []unix.Timespec{st.Atim, st.Mtim}, unix.AT_SYMLINK_NOFOLLOW)
}

func openAt(dir *os.File, name string, flags int, mode uint32) (*os.File, error) {
	fd, err := unix.Openat(int(dir.Fd()), name, flags|unix.O_NOFOLLOW|unix.O_CLOEXEC, mode)
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), name), nil
}

// copyXattrs copies user attributes, capabilities and access lists. What the
// target file system does not have room for is left out, as cp does.
func copyXattrs(src, dst *os.File) error {
	names := make([]byte, 64<<10)
	n, err := unix.Flistxattr(int(src.Fd()), names)
	if errors.Is(err, unix.EOPNOTSUPP) {
		return nil
	}
	if err != nil {
		return err
	}
	value := make([]byte, 64<<10)
	for _, name := range splitNames(names[:n]) {
		vn, err := unix.Fgetxattr(int(src.Fd()), name, value)
		if err != nil {
			continue // gone, or not for our eyes (trusted.overlay.*)
		}
		err = unix.Fsetxattr(int(dst.Fd()), name, value[:vn], 0)
		if err != nil && !errors.Is(err, unix.EOPNOTSUPP) && !errors.Is(err, unix.EPERM) {
			return fmt.Errorf("set %s: %w", name, err)
		}
	}
	return nil
}

func splitNames(list []byte) []string {
	var names []string
	for start, i := 0, 0; i < len(list); i++ {
		if list[i] == 0 {
			names = append(names, string(list[start:i]))
			start = i + 1
		}
	}
	return names
}
