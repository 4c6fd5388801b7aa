package layer

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"
	"time"

	"box/internal/errdefs"
	"box/internal/sys"
	"box/pkg/overlay"

	"golang.org/x/sys/unix"
)

// Names of whiteouts in archives (OCI image spec, layer.md, "Whiteouts").
const (
	whiteoutPrefix = ".wh."
	opaqueName     = ".wh..wh..opq"
	auFSPrefix     = ".wh..wh." // other bookkeeping of aufs: of no meaning to anybody else
)

// unpacker writes entries into one directory.
type unpacker struct {
	root    *os.File
	implied map[string]bool      // directories made on the way
	times   map[string]time.Time // of described directories, set when all is written
	links   map[string]string    // by name: targets that are not in this layer
	names   int                  // bytes that the three above may still take
	written int64                // bytes of file content, holes included
	buf     []byte               // for copying

	// The directory of the previous entry: archives go directory by directory.
	lastName string
	last     *os.File
	lastReal string // lastName without symlinks
}

func newUnpacker(root *os.File, opt Options) *unpacker {
	return &unpacker{
		root:    root,
		implied: map[string]bool{".": true},
		times:   map[string]time.Time{},
		links:   map[string]string{},
		names:   opt.MaxNames,
		buf:     make([]byte, chunk),
	}
}

// forget drops the remembered directory.
func (u *unpacker) forget() {
	if u.last != nil {
		u.last.Close()
		u.last = nil
	}
}

func (u *unpacker) close() { u.forget() }

// entry writes one entry.
func (u *unpacker) entry(hdr *tar.Header, data io.Reader) error {
	if hdr.Typeflag == tar.TypeXGlobalHeader {
		return nil // a comment, such as git's commit id
	}
	name, err := cleanName(hdr.Name)
	if err != nil {
		return err
	}
	if name == "." {
		return u.rootEntry(hdr)
	}
	dir, base := path.Dir(name), path.Base(name)
	parent, real, err := u.parent(dir)
	if err != nil {
		return err
	}
	at := place{dir: parent, base: base, name: path.Join(real, base)}
	if strings.HasPrefix(base, whiteoutPrefix) {
		return u.whiteout(at)
	}
	return u.object(at, hdr, data)
}

// remember counts a name that stays in memory, with what a map takes beside it.
func (u *unpacker) remember(name string) error {
	if u.names -= len(name) + 128; u.names < 0 {
		return errdefs.New(errdefs.ErrInvalid, "archive has too many directories, or links to files that it does not have")
	}
	return nil
}

// place is where an entry goes: the open directory, the name in it, and the
// whole name without symlinks.
type place struct {
	dir  *os.File
	base string
	name string
}

// path names the place for calls without an *at form.
func (p place) path() string { return fmt.Sprintf("/proc/self/fd/%d/%s", p.dir.Fd(), p.base) }

// stat looks at what is there, without following a link.
func (p place) stat() (unix.Stat_t, error) {
	var st unix.Stat_t
	err := unix.Fstatat(int(p.dir.Fd()), p.base, &st, unix.AT_SYMLINK_NOFOLLOW)
	return st, err
}

// rootEntry sets the metadata of the layer's root. It can be nothing but a
// directory: an archive that replaces "/" by a link has cost others dearly
// (CVE-2021-29136).
func (u *unpacker) rootEntry(hdr *tar.Header) error {
	if hdr.Typeflag != tar.TypeDir {
		return errdefs.New(errdefs.ErrInvalid, "the root of a layer must be a directory")
	}
	dir, err := sys.OpenBeneath(u.root, ".", unix.O_PATH|unix.O_DIRECTORY, 0)
	if err != nil {
		return err
	}
	defer dir.Close()
	delete(u.implied, ".")
	u.times["."] = hdr.ModTime
	return setMetadata(place{dir: dir, base: ".", name: "."}, hdr)
}

// object writes a file, directory, link or device.
func (u *unpacker) object(at place, hdr *tar.Header, data io.Reader) error {
	opaque, err := u.clear(at, hdr.Typeflag == tar.TypeDir)
	if err != nil {
		return err
	}
	delete(u.links, at.name) // the later entry counts
	switch hdr.Typeflag {
	case tar.TypeReg, tar.TypeGNUSparse, '\x00', tar.TypeCont:
		return u.file(at, hdr, data)
	case tar.TypeLink:
		return u.hardLink(at, hdr)
	case tar.TypeDir:
		err = u.directory(at, hdr, opaque)
	case tar.TypeSymlink:
		err = unix.Symlinkat(hdr.Linkname, int(at.dir.Fd()), at.base)
	case tar.TypeFifo:
		err = unix.Mknodat(int(at.dir.Fd()), at.base, unix.S_IFIFO|0o600, 0)
	case tar.TypeChar, tar.TypeBlock:
		err = makeDevice(at, hdr)
	default:
		return errdefs.New(errdefs.ErrUnsupported, "entries of type %q are not known", hdr.Typeflag)
	}
	if err != nil {
		return err
	}
	return setMetadata(at, hdr)
}

// clear removes what an earlier entry of this layer has put in the way. A
// directory stays for a directory. The result says that a whiteout was there:
// a directory in its place must hide what lies below it.
func (u *unpacker) clear(at place, wantDir bool) (whiteout bool, err error) {
	st, err := at.stat()
	if err == unix.ENOENT {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	isDir := st.Mode&unix.S_IFMT == unix.S_IFDIR
	if isDir && wantDir {
		return false, nil
	}
	if !isDir {
		return overlay.IsWhiteout(st.Mode, st.Rdev), unix.Unlinkat(int(at.dir.Fd()), at.base, 0)
	}
	u.forgetBelow(at.name)
	return false, os.RemoveAll(at.path()) // by descriptor, never through links
}

// forgetBelow drops what is remembered of a directory that goes. What was noted
// of its children is left to finish, which looks at what is there in the end: a
// search here would be quadratic in hostile hands.
func (u *unpacker) forgetBelow(name string) {
	delete(u.implied, name)
	delete(u.times, name)
	if u.lastReal == name || strings.HasPrefix(u.lastReal, name+"/") {
		u.forget()
	}
}

// directory makes a directory or takes over the one that is there.
func (u *unpacker) directory(at place, hdr *tar.Header, opaque bool) error {
	err := unix.Mkdirat(int(at.dir.Fd()), at.base, 0o755)
	if err != nil && err != unix.EEXIST {
		return err
	}
	if err := u.remember(at.name); err != nil {
		return err
	}
	delete(u.implied, at.name)
	u.times[at.name] = hdr.ModTime
	if opaque {
		return makeOpaque(at)
	}
	return nil
}

// makeOpaque makes the directory at a place hide what lies below it.
func makeOpaque(at place) error {
	dir, err := sys.OpenBeneath(at.dir, at.base, unix.O_PATH|unix.O_DIRECTORY, 0)
	if err != nil {
		return err
	}
	defer dir.Close()
	return overlay.MakeOpaque(dir)
}

// makeDevice makes a device node. Number 0:0 is overlay's whiteout and no device
// of anybody (man 4 null: minors start at 1): it would delete a file.
func makeDevice(at place, hdr *tar.Header) error {
	if hdr.Typeflag == tar.TypeChar && hdr.Devmajor == 0 && hdr.Devminor == 0 {
		return errdefs.New(errdefs.ErrInvalid, "character device 0:0")
	}
	if hdr.Devmajor < 0 || hdr.Devmajor >= 1<<12 || hdr.Devminor < 0 || hdr.Devminor >= 1<<20 {
		return errdefs.New(errdefs.ErrInvalid, "device %d:%d: no such number", hdr.Devmajor, hdr.Devminor)
	}
	mode := uint32(unix.S_IFCHR)
	if hdr.Typeflag == tar.TypeBlock {
		mode = unix.S_IFBLK
	}
	dev := unix.Mkdev(uint32(hdr.Devmajor), uint32(hdr.Devminor))
	return unix.Mknodat(int(at.dir.Fd()), at.base, mode|0o600, int(dev))
}

// whiteout writes a deletion in overlay's form.
func (u *unpacker) whiteout(at place) error {
	if at.base == opaqueName {
		u.implyNot(path.Dir(at.name))
		return overlay.MakeOpaque(at.dir)
	}
	if strings.HasPrefix(at.base, auFSPrefix) {
		return nil
	}
	gone := strings.TrimPrefix(at.base, whiteoutPrefix)
	if gone == "" || gone == "." || gone == ".." {
		return errdefs.New(errdefs.ErrInvalid, "whiteout of %q", gone)
	}
	at = place{dir: at.dir, base: gone, name: path.Join(path.Dir(at.name), gone)}
	st, err := at.stat()
	if _, ok := u.links[at.name]; ok {
		return nil // as with a file
	}
	switch {
	case err == unix.ENOENT:
		return overlay.MakeWhiteout(at.dir, gone)
	case err != nil:
		return err
	case st.Mode&unix.S_IFMT == unix.S_IFDIR:
		// Made by this layer: it stays, and hides what was there before.
		u.implyNot(at.name)
		return makeOpaque(at)
	}
	return nil // a file of this layer hides the older one by itself
}

// implyNot says that a directory is the layer's own: it hides the one below, so
// it does not take that one's metadata.
func (u *unpacker) implyNot(dir string) {
	if dir != "." {
		delete(u.implied, dir)
	}
}

// file writes a regular file.
func (u *unpacker) file(at place, hdr *tar.Header, data io.Reader) (err error) {
	fd, err := unix.Openat(int(at.dir.Fd()), at.base, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return err
	}
	f := os.NewFile(uintptr(fd), at.name)
	defer func() { err = errors.Join(err, f.Close()) }()
	if err := u.copy(f, data, hdr.Size); err != nil {
		return err
	}
	return setMetadata(at, hdr)
}

// copy writes size bytes; chunks of nothing but zeros become holes, so that a
// large empty file costs no disk, whether it comes in good faith or not.
func (u *unpacker) copy(f *os.File, data io.Reader, size int64) error {
	hole := false
	for left := size; left > 0; {
		n, err := io.ReadFull(data, u.buf[:min(left, chunk)])
		if err != nil {
			if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
				return errdefs.New(errdefs.ErrCorrupt, "archive ends too early")
			}
			return err
		}
		left -= int64(n)
		if hole = n == chunk && isZero(u.buf[:n]); hole {
			_, err = f.Seek(int64(n), io.SeekCurrent)
		} else {
			_, err = f.Write(u.buf[:n])
		}
		if err != nil {
			return err
		}
	}
	if hole {
		return f.Truncate(size)
	}
	return nil
}

// isZero reports whether all bytes are zero: the first is, and each equals the next.
func isZero(p []byte) bool { return p[0] == 0 && bytes.Equal(p[:len(p)-1], p[1:]) }

// hardLink links to a file of this layer, or notes a link to one below it.
func (u *unpacker) hardLink(at place, hdr *tar.Header) error {
	target, err := cleanName(hdr.Linkname)
	if err != nil {
		return fmt.Errorf("hard link to %q: %w", hdr.Linkname, err)
	}
	from, err := u.existing(target)
	if errors.Is(err, fs.ErrNotExist) {
		if further, ok := u.links[target]; ok { // a link to a link
			target = further
		}
		u.links[at.name] = target
		return u.remember(at.name + target)
	}
	if err != nil {
		return fmt.Errorf("hard link to %q: %w", hdr.Linkname, err)
	}
	defer from.dir.Close()
	st, err := from.stat()
	if err != nil {
		return err
	}
	if st.Mode&unix.S_IFMT == unix.S_IFDIR || overlay.IsWhiteout(st.Mode, st.Rdev) {
		return errdefs.New(errdefs.ErrInvalid, "hard link to %q, which is no file", hdr.Linkname)
	}
	// Without AT_SYMLINK_FOLLOW a link to a symlink is the symlink again.
	return unix.Linkat(int(from.dir.Fd()), from.base, int(at.dir.Fd()), at.base, 0)
}

// existing finds a name in this layer; the caller closes the place's directory.
func (u *unpacker) existing(name string) (place, error) {
	real, err := u.resolve(path.Dir(name))
	if err != nil {
		return place{}, err
	}
	dir, err := sys.OpenBeneath(u.root, real, unix.O_PATH|unix.O_DIRECTORY, 0)
	if err != nil {
		return place{}, err
	}
	p := place{dir: dir, base: path.Base(name), name: path.Join(real, path.Base(name))}
	if _, err := p.stat(); err != nil {
		dir.Close()
		return place{}, err
	}
	return p, nil
}
