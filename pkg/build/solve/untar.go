package solve

import (
	"archive/tar"
	"bufio"
	"bytes"
	"compress/bzip2"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"path"
	"strings"

	"box/internal/errdefs"
	"box/pkg/image/layer"

	"golang.org/x/sys/unix"
)

// Magic bytes of the compressions that ADD recognises.
var (
	magicBzip2 = []byte("BZh")
	magicXZ    = []byte("\xfd7zXZ\x00")
)

// unpack extracts a local archive into dest. It says false if the file is not
// an archive: then it is copied as it is.
func (c *copier) unpack(ctx context.Context, dest string, it *item) (bool, error) {
	f, err := c.from.open(&it.node)
	if err != nil {
		return false, err
	}
	defer f.Close()
	plain, err := decompress(f)
	if plain == nil || err != nil {
		return false, err
	}
	defer plain.Close()
	tr := tar.NewReader(plain)
	head, err := tr.Next()
	if err != nil {
		return false, nil // not a tar archive after all
	}
	if _, err := c.sink.mkdirAll(dest); err != nil {
		return false, err
	}
	u := &untar{copier: c, dest: dest, left: layer.SizeLimit(it.st.Size)}
	for ; err == nil; head, err = tr.Next() {
		if ctx.Err() != nil {
			return true, context.Cause(ctx)
		}
		if err := u.entry(head, tr); err != nil {
			return true, fmt.Errorf("unpack %s: %w", it.path, err)
		}
	}
	if !errors.Is(err, io.EOF) {
		return true, errdefs.New(errdefs.ErrCorrupt, "unpack %s: %w", it.path, err)
	}
	return true, nil
}

// decompress looks at the first bytes; nil stands for something that cannot be
// an archive.
func decompress(r io.Reader) (io.ReadCloser, error) {
	br := bufio.NewReaderSize(r, 64<<10)
	head, err := br.Peek(6)
	switch {
	case err != nil:
		return nil, nil // shorter than any archive
	case bytes.HasPrefix(head, magicXZ):
		return nil, errdefs.WithHint(errdefs.New(errdefs.ErrUnsupported, "ADD of an xz archive is not supported yet"),
			"unpack it in a RUN step, or use --unpack=false to copy it as it is")
	case bytes.HasPrefix(head, magicBzip2):
		return io.NopCloser(bzip2.NewReader(br)), nil
	}
	plain, err := layer.Decompress(br)
	if err != nil {
		return nil, nil // begins like a compressed file and is none
	}
	return plain, nil
}

// untar extracts the entries of an archive below dest.
type untar struct {
	*copier
	dest string
	// left is how many bytes the archive may still unpack to.
	left int64
	// parent is where the last entry went, by name and with links followed.
	parent, real string
}

// entry extracts one entry. Owners and modes are the archive's own.
func (u *untar) entry(h *tar.Header, r io.Reader) error {
	if err := checkHeader(h); err != nil {
		return err
	}
	if h.Typeflag == tar.TypeReg { // some packers give other entries sizes, too, of data that do not follow
		u.left -= h.Size
	}
	if u.left < 0 {
		return errdefs.New(errdefs.ErrInvalid, "%s: the archive unpacks to far more than its own size: refused as a decompression bomb", h.Name)
	}
	name := path.Clean("/" + h.Name)
	it := itemOf(h)
	saved := u.sink.owner
	if u.op.Chown == "" {
		u.sink.owner = nil
		defer func() { u.sink.owner = saved }()
	}
	if name == "/" {
		return nil // dest itself stays as it is
	}
	target, err := u.place(path.Join(u.dest, name))
	if err != nil {
		return err
	}
	switch h.Typeflag {
	case tar.TypeDir:
		return u.extractDir(target, it)
	case tar.TypeReg:
		return u.sink.file(target, it, headerXattrs(h), r)
	case tar.TypeSymlink:
		return u.sink.symlink(target, it)
	case tar.TypeLink:
		err := u.sink.link(target, path.Join(u.dest, path.Clean("/"+h.Linkname)))
		if isMissing(err) {
			err = errdefs.New(errdefs.ErrInvalid, "%s: hard link to %q: no such file", h.Name, h.Linkname)
		}
		return err
	case tar.TypeChar, tar.TypeBlock, tar.TypeFifo:
		return u.sink.special(target, it)
	case tar.TypeXGlobalHeader:
		return nil
	}
	return errdefs.New(errdefs.ErrUnsupported, "%s: entries of type %q are not supported", h.Name, h.Typeflag)
}

// place makes the parents of an entry. Links that the archive has made on the
// way are followed inside the root, also where they dangle.
func (u *untar) place(p string) (string, error) {
	if dir := path.Dir(p); u.real == "" || dir != u.parent {
		real, err := u.sink.follow(dir)
		if err != nil {
			return "", err
		}
		if _, err := u.sink.mkdirAll(real); err != nil {
			return "", err
		}
		u.parent, u.real = dir, real
	}
	return path.Join(u.real, path.Base(p)), nil
}

func (u *untar) extractDir(target string, it *item) error {
	exists, err := u.sink.hasDir(target)
	if err != nil {
		return err
	}
	if !exists {
		return u.sink.mkdir(target, it)
	}
	return u.sink.dressDir(target, it, nil)
}

// checkHeader refuses what would become something else than it says: owners of
// which the kernel takes the lower 32 bits, or -1 for "as it is"; devices of which
// it takes the lower 12 and 20; and the device by which a snapshot marks a removed
// file.
func checkHeader(h *tar.Header) error {
	for _, id := range []int{h.Uid, h.Gid} {
		if id < 0 || id >= math.MaxUint32 {
			return errdefs.New(errdefs.ErrInvalid, "%s: owner %d:%d: no such number", h.Name, h.Uid, h.Gid)
		}
	}
	isDevice := h.Typeflag == tar.TypeChar || h.Typeflag == tar.TypeBlock // of others nobody looks at the numbers
	if isDevice && (h.Devmajor < 0 || h.Devmajor >= 1<<12 || h.Devminor < 0 || h.Devminor >= 1<<20) {
		return errdefs.New(errdefs.ErrInvalid, "%s: device %d:%d: no such number", h.Name, h.Devmajor, h.Devminor)
	}
	if h.Typeflag == tar.TypeChar && h.Devmajor == 0 && h.Devminor == 0 {
		return errdefs.New(errdefs.ErrUnsupported, "%s: character device 0:0 cannot be made: it marks removed files", h.Name)
	}
	return nil
}

// itemOf makes of a header what a file in a tree would look like.
func itemOf(h *tar.Header) *item {
	it := &item{}
	it.link = h.Linkname
	it.st.Uid, it.st.Gid = uint32(h.Uid), uint32(h.Gid)
	// Not by nanoseconds: they end in the year 2262.
	it.st.Mtim = unix.Timespec{Sec: h.ModTime.Unix(), Nsec: int64(h.ModTime.Nanosecond())}
	it.st.Mode = uint32(h.Mode) & 0o7777
	switch h.Typeflag {
	case tar.TypeDir:
		it.st.Mode |= unix.S_IFDIR
	case tar.TypeSymlink:
		it.st.Mode |= unix.S_IFLNK
	case tar.TypeChar:
		it.st.Mode |= unix.S_IFCHR
	case tar.TypeBlock:
		it.st.Mode |= unix.S_IFBLK
	case tar.TypeFifo:
		it.st.Mode |= unix.S_IFIFO
	default:
		it.st.Mode |= unix.S_IFREG
	}
	it.st.Rdev = unix.Mkdev(uint32(h.Devmajor), uint32(h.Devminor))
	return it
}

// headerXattrs gives the attributes of an entry that are copied.
func headerXattrs(h *tar.Header) []xattr {
	var out []xattr
	for k, v := range h.PAXRecords {
		name, ok := strings.CutPrefix(k, "SCHILY.xattr.")
		if ok && copiedXattr(name) {
			out = append(out, xattr{name, v})
		}
	}
	return out
}
