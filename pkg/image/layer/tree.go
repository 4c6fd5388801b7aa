package layer

import (
	"archive/tar"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"math"
	"os"
	"path"
	"slices"
	"strings"
	"time"

	"box/internal/errdefs"
	"box/internal/sys"
	"box/pkg/overlay"

	"golang.org/x/sys/unix"
)

// parent opens the directory that an entry goes into and makes it if it is not
// there. Symlinks of this layer on the way are followed, inside the layer only.
// It also returns the directory's name without symlinks. The directory stays
// open until another is asked for; the caller does not close it.
func (u *unpacker) parent(dir string) (*os.File, string, error) {
	if u.last != nil && u.lastName == dir {
		return u.last, u.lastReal, nil
	}
	u.forget()
	real := dir
	f, err := sys.OpenBeneath(u.root, dir, unix.O_PATH|unix.O_DIRECTORY, 0)
	if err != nil {
		f, real, err = u.makeParent(dir)
	}
	if err != nil {
		return nil, "", err
	}
	u.lastName, u.last, u.lastReal = dir, f, real
	return f, real, nil
}

// makeParent is the slow way: it resolves links and makes what is missing.
func (u *unpacker) makeParent(dir string) (*os.File, string, error) {
	real, err := u.resolve(dir)
	if err != nil {
		return nil, "", err
	}
	f, err := sys.OpenBeneath(u.root, ".", unix.O_PATH|unix.O_DIRECTORY, 0)
	if err != nil {
		return nil, "", err
	}
	at := "."
	for word := range strings.SplitSeq(real, "/") {
		at = path.Join(at, word)
		next, err := u.step(place{dir: f, base: word, name: at})
		f.Close()
		if err != nil {
			return nil, "", err
		}
		f = next
	}
	return f, real, nil
}

// step opens one directory on the way, making it if it is not there.
func (u *unpacker) step(at place) (*os.File, error) {
	next, err := sys.OpenBeneath(at.dir, at.base, unix.O_PATH|unix.O_DIRECTORY, 0)
	if err == nil {
		return next, nil
	}
	opaque := false
	if errors.Is(err, unix.ENOTDIR) {
		st, err := at.stat()
		if err != nil {
			return nil, err
		}
		if !overlay.IsWhiteout(st.Mode, st.Rdev) {
			return nil, errdefs.New(errdefs.ErrInvalid, "%s is no directory", at.name)
		}
		opaque = true
		err = unix.Unlinkat(int(at.dir.Fd()), at.base, 0)
		if err != nil {
			return nil, err
		}
	} else if !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	return u.imply(at, opaque)
}

// imply makes a directory that the archive does not describe (yet).
func (u *unpacker) imply(at place, opaque bool) (*os.File, error) {
	if err := unix.Mkdirat(int(at.dir.Fd()), at.base, 0o755); err != nil {
		return nil, fmt.Errorf("make directory %s: %w", at.name, err)
	}
	if err := unix.Fchmodat(int(at.dir.Fd()), at.base, 0o755, 0); err != nil { // the umask has bitten
		return nil, fmt.Errorf("make directory %s: %w", at.name, err)
	}
	next, err := sys.OpenBeneath(at.dir, at.base, unix.O_PATH|unix.O_DIRECTORY, 0)
	if err != nil {
		return nil, err
	}
	if opaque {
		err = overlay.MakeOpaque(next)
	} else {
		u.implied[at.name] = true
		err = u.remember(at.name)
	}
	if err != nil {
		next.Close()
		return nil, err
	}
	return next, nil
}

// maxLinks bounds the symlinks followed in one name, as the kernel does.
const maxLinks = 40

// resolve removes symlinks from a name. What does not exist stays as it is.
// Nobody else writes into the directory, so what was resolved stays true.
func (u *unpacker) resolve(name string) (string, error) {
	done, rest := ".", strings.Split(name, "/")
	for links := 0; len(rest) > 0; {
		word := rest[0]
		rest = rest[1:]
		if word == "" || word == "." {
			continue
		}
		if word == ".." {
			done = path.Dir(done) // Dir(".") is ".": the root is its own parent
			continue
		}
		target, err := u.readLink(path.Join(done, word))
		if err != nil {
			return "", err
		}
		if target == "" {
			done = path.Join(done, word)
			continue
		}
		if links++; links > maxLinks {
			return "", errdefs.New(errdefs.ErrInvalid, "too many symlinks in %s", name)
		}
		if strings.HasPrefix(target, "/") {
			done = "."
		}
		rest = append(strings.Split(target, "/"), rest...)
		if len(rest) > unix.PathMax {
			return "", errdefs.New(errdefs.ErrInvalid, "symlinks make %s too long", name)
		}
	}
	return done, nil
}

// readLink returns the target of a symlink; empty if there is none at name.
func (u *unpacker) readLink(name string) (string, error) {
	dir, err := sys.OpenBeneath(u.root, path.Dir(name), unix.O_PATH|unix.O_DIRECTORY, 0)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENOTDIR) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	defer dir.Close()
	buf := make([]byte, unix.PathMax)
	n, err := unix.Readlinkat(int(dir.Fd()), path.Base(name), buf)
	if err == unix.EINVAL || err == unix.ENOENT {
		return "", nil
	}
	return string(buf[:max(n, 0)]), err
}

// setMetadata gives an object its owner, xattrs, mode and times. The order
// matters: chown clears set-id bits and file capabilities.
func setMetadata(at place, hdr *tar.Header) error {
	dir := int(at.dir.Fd())
	if !isOwner(hdr.Uid) || !isOwner(hdr.Gid) {
		return errdefs.New(errdefs.ErrInvalid, "owner %d:%d: no such number", hdr.Uid, hdr.Gid)
	}
	if err := unix.Fchownat(dir, at.base, hdr.Uid, hdr.Gid, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return fmt.Errorf("set owner %d:%d: %w", hdr.Uid, hdr.Gid, err)
	}
	if err := setXattrs(at, hdr); err != nil {
		return err
	}
	if hdr.Typeflag != tar.TypeSymlink {
		// The object was made by us a moment ago and is no link.
		if err := unix.Fchmodat(dir, at.base, uint32(hdr.Mode)&0o7777, 0); err != nil {
			return fmt.Errorf("set mode: %w", err)
		}
	}
	if hdr.Typeflag == tar.TypeDir {
		return nil // its time is set when everything in it has been written
	}
	return setTime(at, hdr.ModTime)
}

// isOwner reports whether the kernel can store an id. The system call takes the
// lower 32 bits of a larger one, which may be root's, and -1 for "as it is".
func isOwner(id int) bool { return id >= 0 && id < math.MaxUint32 }

// setXattrs sets the xattrs of an entry, save overlay's own. A filesystem that
// cannot hold one (ENOTSUP) is not an error, as everywhere else.
func setXattrs(at place, hdr *tar.Header) error {
	const prefix = "SCHILY.xattr."
	for _, key := range slices.Sorted(maps.Keys(hdr.PAXRecords)) {
		name, ok := strings.CutPrefix(key, prefix)
		if !ok || overlay.IsPrivateXattr(name) {
			continue
		}
		err := unix.Lsetxattr(at.path(), name, []byte(hdr.PAXRecords[key]), 0)
		if err == unix.EPERM && strings.HasPrefix(name, "user.") && hdr.Typeflag != tar.TypeReg && hdr.Typeflag != tar.TypeDir {
			continue // xattr(7): only files and directories have user xattrs
		}
		if err != nil && err != unix.ENOTSUP {
			return fmt.Errorf("set xattr %s: %w", name, err)
		}
	}
	return nil
}

// setTime sets both times of an object to t, to the nanosecond. A time that the
// archive does not give is the epoch.
func setTime(at place, t time.Time) error {
	if t.IsZero() {
		t = time.Unix(0, 0)
	}
	ts, err := unix.TimeToTimespec(t)
	if err != nil {
		return fmt.Errorf("set time %s: %w", t, err)
	}
	if err := unix.UtimesNanoAt(int(at.dir.Fd()), at.base, []unix.Timespec{ts, ts}, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return fmt.Errorf("set time: %w", err)
	}
	return nil
}

// finish sets the times of the directories, now that nothing is written any
// more. Implied ones get the epoch: the time of unpacking is no property of the
// image.
func (u *unpacker) finish() error {
	u.forget()
	for dir := range u.implied {
		if _, ok := u.times[dir]; !ok {
			u.times[dir] = time.Time{}
		}
	}
	for _, name := range slices.Sorted(maps.Keys(u.times)) {
		dir, err := sys.OpenBeneath(u.root, name, unix.O_PATH|unix.O_DIRECTORY, 0)
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.ELOOP) {
			delete(u.implied, name) // a later entry has replaced it
			continue
		}
		if err != nil {
			return fmt.Errorf("set time of directory %s: %w", name, err)
		}
		err = setTime(place{dir: dir, base: ".", name: name}, u.times[name])
		dir.Close()
		if err != nil {
			return fmt.Errorf("directory %s: %w", name, err)
		}
	}
	return nil
}
