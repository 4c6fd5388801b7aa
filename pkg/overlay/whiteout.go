package overlay

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// OpaqueXattr marks a directory that hides everything of its name below; its
// value is "y" (Documentation/filesystems/overlayfs.rst, "whiteouts and opaque
// directories").
const OpaqueXattr = "trusted.overlay.opaque"

// IsPrivateXattr reports whether the xattr belongs to overlay itself. Such
// names are never taken from an image and never put into one: redirect and
// metacopy would let a layer name files outside itself.
func IsPrivateXattr(name string) bool {
	return strings.HasPrefix(name, "trusted.overlay.") || strings.HasPrefix(name, "user.overlay.")
}

// IsWhiteout reports whether the file is overlay's mark for a deleted name.
func IsWhiteout(mode uint32, rdev uint64) bool {
	return mode&unix.S_IFMT == unix.S_IFCHR && rdev == 0
}

// MakeWhiteout marks name in the open directory as deleted.
func MakeWhiteout(dir *os.File, name string) error {
	if err := unix.Mknodat(int(dir.Fd()), name, unix.S_IFCHR, 0); err != nil {
		return fmt.Errorf("make whiteout %s: %w", name, err)
	}
	return nil
}

// MakeOpaque makes the open directory hide what lies below it. dir may be an
// O_PATH descriptor.
func MakeOpaque(dir *os.File) error {
	if err := unix.Setxattr(fdPath(dir), OpaqueXattr, []byte("y"), 0); err != nil {
		return fmt.Errorf("make directory opaque: %w", err)
	}
	return nil
}

// IsOpaque reports whether the open directory hides what lies below it.
func IsOpaque(dir *os.File) (bool, error) {
	value := make([]byte, 8)
	n, err := unix.Getxattr(fdPath(dir), OpaqueXattr, value)
	if err == unix.ENODATA || err == unix.ENOTSUP {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("read xattr %s: %w", OpaqueXattr, err)
	}
	return string(value[:n]) == "y", nil
}

// fdPath names an open file, so that calls which have no O_PATH form can be
// used on it.
func fdPath(f *os.File) string { return fmt.Sprintf("/proc/self/fd/%d", f.Fd()) }

// copyDirMetadata gives the directory to the owner, mode, xattrs and times of
// the directory from. Both are named by paths of our own store.
func copyDirMetadata(from, to string) error {
	src, err := os.OpenFile(from, unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer src.Close()
	dst, err := os.OpenFile(to, unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer dst.Close()
	return copyMetadata(src, dst)
}

// copyMetadata copies what stat and xattrs say, except overlay's own xattrs.
// Owner before mode, because chown clears the set-id bits; times last.
func copyMetadata(src, dst *os.File) error {
	var st unix.Stat_t
	if err := unix.Fstatat(int(src.Fd()), "", &st, unix.AT_EMPTY_PATH); err != nil {
		return fmt.Errorf("stat %s: %w", src.Name(), err)
	}
	if err := unix.Fchownat(int(dst.Fd()), "", int(st.Uid), int(st.Gid), unix.AT_EMPTY_PATH); err != nil {
		return fmt.Errorf("chown %s: %w", dst.Name(), err)
	}
	if err := copyXattrs(src, dst); err != nil {
		return err
	}
	if err := unix.Chmod(fdPath(dst), st.Mode&0o7777); err != nil {
		return fmt.Errorf("chmod %s: %w", dst.Name(), err)
	}
	times := []unix.Timespec{st.Atim, st.Mtim}
	if err := unix.UtimesNanoAt(unix.AT_FDCWD, fdPath(dst), times, 0); err != nil {
		return fmt.Errorf("set times of %s: %w", dst.Name(), err)
	}
	return nil
}

// copyXattrs copies all xattrs that are not overlay's own. A filesystem that
// cannot hold one of them (ENOTSUP) is not an error: it could not before.
func copyXattrs(src, dst *os.File) error {
	names, err := listXattrs(fdPath(src))
	if err != nil {
		return fmt.Errorf("list xattrs of %s: %w", src.Name(), err)
	}
	for _, name := range names {
		if IsPrivateXattr(name) {
			continue
		}
		value, err := getXattr(fdPath(src), name)
		if err != nil {
			return fmt.Errorf("read xattr %s of %s: %w", name, src.Name(), err)
		}
		if err := unix.Setxattr(fdPath(dst), name, value, 0); err != nil && err != unix.ENOTSUP {
			return fmt.Errorf("set xattr %s of %s: %w", name, dst.Name(), err)
		}
	}
	return nil
}

// listXattrs returns the names of all xattrs of path.
func listXattrs(path string) ([]string, error) {
	size, err := unix.Listxattr(path, nil)
	if errors.Is(err, unix.ENOTSUP) || size == 0 {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	buf := make([]byte, size)
	if size, err = unix.Listxattr(path, buf); err != nil {
		return nil, err
	}
	var names []string
	for name := range bytes.SplitSeq(bytes.TrimRight(buf[:size], "\x00"), []byte{0}) {
		names = append(names, string(name))
	}
	return names, nil
}

// getXattr reads one xattr of path.
func getXattr(path, name string) ([]byte, error) {
	size, err := unix.Getxattr(path, name, nil)
	if err != nil || size == 0 {
		return nil, err
	}
	buf := make([]byte, size)
	size, err = unix.Getxattr(path, name, buf)
	return buf[:max(size, 0)], err
}
