package sys

import (
	"errors"
	"fmt"
	"os"
	"path"
	"strings"

	"golang.org/x/sys/unix"
)

// maxRetries bounds the retries of openat2(2) on EAGAIN, which it returns when a
// rename or mount anywhere on the system races with the resolution of "..".
const maxRetries = 128

// OpenInRoot opens path as a process chrooted to root would see it: absolute
// symlinks and ".." stay inside (RESOLVE_IN_ROOT); the jump links of procfs are
// refused (RESOLVE_NO_MAGICLINKS). The flags are those of open(2); O_CLOEXEC is
// always added. The error is an *os.PathError with the path as seen from root.
func OpenInRoot(root *os.File, path string, flags int, mode os.FileMode) (*os.File, error) {
	return openat2(root, path, flags, mode, unix.RESOLVE_IN_ROOT|unix.RESOLVE_NO_MAGICLINKS)
}

// OpenBeneath opens path below root and refuses any symlink on the way, any magic
// link, and any step outside (RESOLVE_BENEATH): for trees where no symlink has
// business being. A symlink gives ELOOP, an escape EXDEV.
func OpenBeneath(root *os.File, path string, flags int, mode os.FileMode) (*os.File, error) {
	const resolve = unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_MAGICLINKS
	return openat2(root, path, flags, mode, resolve)
}

func openat2(root *os.File, path string, flags int, mode os.FileMode, resolve uint64) (*os.File, error) {
	how := unix.OpenHow{Flags: uint64(flags | unix.O_CLOEXEC), Resolve: resolve}
	if flags&(unix.O_CREAT|unix.O_TMPFILE) != 0 { // openat2 refuses a mode without them
		how.Mode = uint64(Mode(mode))
	}
	fd, err := Openat2(int(root.Fd()), path, &how)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: inside(root, path), Err: err}
	}
	return file(fd, inside(root, path)), nil
}

// Openat2 is openat2(2), called again when a signal or a rename elsewhere has
// disturbed it. It is for callers that want a plain descriptor; how.Flags must hold
// O_CLOEXEC.
func Openat2(dirfd int, path string, how *unix.OpenHow) (int, error) {
	for try := 0; ; try++ {
		fd, err := unix.Openat2(dirfd, path, how)
		again := errors.Is(err, unix.EAGAIN) && try < maxRetries
		if !again && !errors.Is(err, unix.EINTR) {
			return fd, err
		}
	}
}

// inside is how messages name path in root.
func inside(root *os.File, p string) string { return path.Join(root.Name(), "/"+p) }

// Mode turns permission bits of an os.FileMode, with setuid, setgid and sticky,
// into those of mode_t.
func Mode(m os.FileMode) uint32 {
	bits := uint32(m.Perm())
	for _, b := range []struct {
		is   os.FileMode
		unix uint32
	}{{os.ModeSetuid, unix.S_ISUID}, {os.ModeSetgid, unix.S_ISGID}, {os.ModeSticky, unix.S_ISVTX}} {
		if m&b.is != 0 {
			bits |= b.unix
		}
	}
	return bits
}

// MkdirAllInRoot opens the directory path inside root, making what is missing with
// the given permission bits (the umask applies). Symlinks on the way are followed
// inside root as long as they lead to something; a dangling one is an error, because
// making its target could not be done by descriptor alone. The result is opened
// O_RDONLY|O_DIRECTORY; the caller closes it.
func MkdirAllInRoot(root *os.File, path string, perm os.FileMode) (*os.File, error) {
	const flags = unix.O_RDONLY | unix.O_DIRECTORY
	dir, err := OpenInRoot(root, path, flags, 0)
	if !errors.Is(err, unix.ENOENT) {
		return dir, err
	}
	if dir, err = OpenInRoot(root, ".", flags, 0); err != nil {
		return nil, err
	}
	done := ""
	for part := range strings.SplitSeq(path, "/") {
		if part == "" || part == "." {
			continue
		}
		done += "/" + part
		next, err := mkdirStep(root, dir, done, part, perm)
		dir.Close()
		if err != nil {
			return nil, err
		}
		dir = next
	}
	return dir, nil
}

// mkdirStep opens one more component; done is the whole path up to and including
// part, resolved from root again because part may be a symlink or "..".
func mkdirStep(root, parent *os.File, done, part string, perm os.FileMode) (*os.File, error) {
	const flags = unix.O_RDONLY | unix.O_DIRECTORY
	next, err := OpenInRoot(root, done, flags, 0)
	if !errors.Is(err, unix.ENOENT) {
		return next, err
	}
	if part == ".." {
		return nil, err
	}
	if err := unix.Mkdirat(int(parent.Fd()), part, Mode(perm)); err != nil && !errors.Is(err, unix.EEXIST) {
		return nil, &os.PathError{Op: "mkdir", Path: inside(root, done), Err: err}
	}
	// What was made is opened by the parent's descriptor, without following: if the
	// name is a symlink by now, somebody has replaced it.
	next, err = OpenBeneath(parent, part, flags, 0)
	if errors.Is(err, unix.ELOOP) {
		return nil, fmt.Errorf("mkdir %s: dangling symlink in the way: %w", inside(root, done), unix.ELOOP)
	}
	return next, err
}
