package layer

import (
	"archive/tar"
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"slices"
	"strings"
	"time"

	"box/internal/errdefs"
	"box/pkg/overlay"

	"golang.org/x/sys/unix"
)

// Pack writes the directory upper, which is in overlay's form, as a layer
// archive and returns the number of entries: 0 means that nothing was changed.
// Equal trees give equal bytes: entries are sorted by name, each directory
// before its contents; access and change times, user names and inode numbers
// are left out; modification times are kept to the nanosecond. The root itself
// is no entry. upper must not be mounted.
//
// Sockets are skipped: they cannot be archived, and mean nothing without the
// process that has bound them.
func Pack(ctx context.Context, upper string, w io.Writer) (entries int, err error) {
	root, err := os.OpenFile(upper, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return 0, fmt.Errorf("pack layer: %w", err)
	}
	defer root.Close()
	buf := bufio.NewWriterSize(w, chunk)
	p := &packer{ctx: ctx, tar: tar.NewWriter(buf), links: map[inode]string{}, buf: make([]byte, chunk)}
	if err := p.dir(root, ""); err != nil {
		return 0, err
	}
	if err := errors.Join(p.tar.Close(), buf.Flush()); err != nil {
		return 0, fmt.Errorf("pack layer: %w", err)
	}
	return p.entries, nil
}

// inode names a file across its hard links.
type inode struct{ dev, ino uint64 }

// packer is one Pack at work.
type packer struct {
	ctx     context.Context
	tar     *tar.Writer
	links   map[inode]string // first name of files with several
	entries int
	buf     []byte
}

// dir writes the contents of an open directory; name is "" for the root.
func (p *packer) dir(dir *os.File, name string) error {
	if p.ctx.Err() != nil {
		return context.Cause(p.ctx)
	}
	opaque, err := overlay.IsOpaque(dir)
	if err != nil {
		return fmt.Errorf("pack %s: %w", name, err)
	}
	if opaque && name != "" {
		if err := p.mark(path.Join(name, opaqueName)); err != nil {
			return err
		}
	}
	names, err := dir.Readdirnames(-1)
	if err != nil {
		return fmt.Errorf("pack %s: %w", name, err)
	}
	slices.Sort(names)
	for _, base := range names {
		if err := p.entry(place{dir: dir, base: base, name: path.Join(name, base)}); err != nil {
			return fmt.Errorf("pack %s: %w", path.Join(name, base), err)
		}
	}
	return nil
}

// mark writes a whiteout.
func (p *packer) mark(name string) error {
	p.entries++
	hdr := &tar.Header{Typeflag: tar.TypeReg, Name: name, ModTime: time.Unix(0, 0), Format: tar.FormatPAX}
	if err := p.tar.WriteHeader(hdr); err != nil {
		return fmt.Errorf("pack %s: %w", name, err)
	}
	return nil
}

// entry writes one object, and what it contains.
func (p *packer) entry(at place) error {
	st, err := at.stat()
	if err != nil {
		return err
	}
	if overlay.IsWhiteout(st.Mode, st.Rdev) {
		return p.mark(path.Join(path.Dir(at.name), whiteoutPrefix+at.base))
	}
	if strings.HasPrefix(at.base, whiteoutPrefix) {
		return errdefs.New(errdefs.ErrUnsupported, "a layer cannot hold a file whose name starts with %q", whiteoutPrefix)
	}
	if st.Mode&unix.S_IFMT == unix.S_IFSOCK {
		return nil
	}
	hdr, err := p.header(at, st)
	if err != nil {
		return err
	}
	p.entries++
	if err := p.tar.WriteHeader(hdr); err != nil {
		return err
	}
	switch hdr.Typeflag {
	case tar.TypeDir:
		return p.subdir(at)
	case tar.TypeReg:
		return p.content(at, hdr.Size)
	}
	return nil
}

// header describes one object.
func (p *packer) header(at place, st unix.Stat_t) (*tar.Header, error) {
	hdr := &tar.Header{
		Name:    at.name,
		Mode:    int64(st.Mode & 0o7777),
		Uid:     int(st.Uid),
		Gid:     int(st.Gid),
		ModTime: time.Unix(st.Mtim.Unix()),
		Format:  tar.FormatPAX,
	}
	if err := p.kind(at, st, hdr); err != nil {
		return nil, err
	}
	if hdr.Typeflag == tar.TypeLink {
		return hdr, nil // everything else is said with the first name
	}
	var err error
	hdr.PAXRecords, err = xattrs(at)
	return hdr, err
}

// kind fills in what depends on the type of the object.
func (p *packer) kind(at place, st unix.Stat_t, hdr *tar.Header) error {
	if st.Mode&unix.S_IFMT != unix.S_IFDIR && st.Nlink > 1 {
		id := inode{st.Dev, st.Ino}
		if first, ok := p.links[id]; ok {
			hdr.Typeflag, hdr.Linkname = tar.TypeLink, first
			return nil
		}
		p.links[id] = at.name
	}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFREG:
		hdr.Typeflag, hdr.Size = tar.TypeReg, st.Size
	case unix.S_IFDIR:
		hdr.Typeflag = tar.TypeDir
		hdr.Name += "/"
	case unix.S_IFLNK:
		hdr.Typeflag = tar.TypeSymlink
		buf := make([]byte, unix.PathMax)
		n, err := unix.Readlinkat(int(at.dir.Fd()), at.base, buf)
		hdr.Linkname = string(buf[:max(n, 0)])
		return err
	case unix.S_IFIFO:
		hdr.Typeflag = tar.TypeFifo
	case unix.S_IFCHR, unix.S_IFBLK:
		hdr.Typeflag = tar.TypeChar
		if st.Mode&unix.S_IFMT == unix.S_IFBLK {
			hdr.Typeflag = tar.TypeBlock
		}
		hdr.Devmajor, hdr.Devminor = int64(unix.Major(st.Rdev)), int64(unix.Minor(st.Rdev))
	default:
		return errdefs.New(errdefs.ErrUnsupported, "file of type %o", st.Mode&unix.S_IFMT)
	}
	return nil
}

// subdir descends into a directory.
func (p *packer) subdir(at place) error {
	dir, err := at.open(unix.O_DIRECTORY)
	if err != nil {
		return err
	}
	defer dir.Close()
	return p.dir(dir, at.name)
}

// content writes the data of a file. A file that changes while it is packed is
// an error: somebody is still writing to the layer.
func (p *packer) content(at place, size int64) error {
	f, err := at.open(unix.O_NONBLOCK)
	if err != nil {
		return err
	}
	defer f.Close()
	n, err := io.CopyBuffer(struct{ io.Writer }{p.tar}, struct{ io.Reader }{f}, p.buf)
	if err == nil && n != size {
		err = errdefs.New(errdefs.ErrConflict, "the file changes while it is packed")
	}
	return err
}

// open opens an object for reading, never through a link.
func (p place) open(flags int) (*os.File, error) {
	fd, err := unix.Openat(int(p.dir.Fd()), p.base, flags|unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), p.name), nil
}

// xattrs collects the xattrs that belong into an archive.
func xattrs(at place) (map[string]string, error) {
	list := make([]byte, 64<<10) // XATTR_LIST_MAX
	n, err := unix.Llistxattr(at.path(), list)
	if err == unix.ENOTSUP {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list xattrs: %w", err)
	}
	records := map[string]string{}
	value := make([]byte, 64<<10) // XATTR_SIZE_MAX
	for name := range strings.SplitSeq(strings.TrimRight(string(list[:n]), "\x00"), "\x00") {
		if name == "" || !portable(name) {
			continue
		}
		n, err := unix.Lgetxattr(at.path(), name, value)
		if err != nil {
			return nil, fmt.Errorf("read xattr %s: %w", name, err)
		}
		records["SCHILY.xattr."+name] = string(value[:n])
	}
	return records, nil
}

// portable reports whether an xattr belongs to the file and not to the machine:
// labels of security modules and overlay's marks do not leave it.
func portable(name string) bool {
	if overlay.IsPrivateXattr(name) {
		return false
	}
	return name == "security.capability" || !strings.HasPrefix(name, "security.")
}
