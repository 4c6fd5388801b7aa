package layer

import (
	"archive/tar"
	"bufio"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"maps"
	"os"
	"path"
	"slices"
	"strings"

	"box/internal/errdefs"
	"box/pkg/overlay"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"
)

// Bounds on one layer. They are far above what images have and below what
// exhausts a machine.
const (
	defaultMaxSize    = 64 << 30 // bytes of the uncompressed archive
	defaultMaxEntries = 8 << 20
	defaultMaxNames   = 256 << 20 // bytes of memory: names compress a thousandfold
)

// SizeLimit is how many bytes a layer of so many compressed bytes may unpack to.
// gzip cannot do more than 1:1032; zstd can, and a few hundred bytes of it would
// fill any disk (CVE-2017-14992 is the older sibling).
func SizeLimit(compressed int64) int64 { return slack + 1032*min(max(compressed, 0), 1<<50) }

// slack is how much little data may unpack to, in bytes: a sparse file of some
// gigabytes is nothing special. It varies in tests.
var slack int64 = 8 << 30

// Options bound and verify one Unpack. The zero value means the defaults.
type Options struct {
	MaxSize    int64         // bytes of the uncompressed archive
	MaxEntries int           // number of entries
	MaxNames   int           // bytes of memory for names that are needed to the end
	DiffID     digest.Digest // what the archive must hash to; empty: anything
}

// fill sets the defaults.
func (o Options) fill() Options {
	if o.MaxSize <= 0 {
		o.MaxSize = defaultMaxSize
	}
	if o.MaxEntries <= 0 {
		o.MaxEntries = defaultMaxEntries
	}
	if o.MaxNames <= 0 {
		o.MaxNames = defaultMaxNames
	}
	return o
}

// Unpacked is what Unpack has found.
type Unpacked struct {
	DiffID digest.Digest // digest of the uncompressed archive, padding included
	Size   int64         // its length in bytes
	// Implied and Links are for overlay.Staged: directories that the archive
	// needs but does not describe, and hard links to files it does not have.
	Implied []string
	Links   []overlay.Link
}

// Unpack writes the uncompressed tar stream r into the directory dst, which must
// be empty and ours alone. The stream is read to its end. On an error dst holds
// part of the layer and is of no use. Hostile input gives errdefs.ErrInvalid,
// damaged input errdefs.ErrCorrupt.
func Unpack(ctx context.Context, r io.Reader, dst string, opt Options) (Unpacked, error) {
	opt = opt.fill()
	root, err := os.OpenFile(dst, unix.O_PATH|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return Unpacked{}, fmt.Errorf("open layer directory: %w", err)
	}
	defer root.Close()
	in := newInput(r, opt)
	u := newUnpacker(root, opt)
	defer u.close()
	if err := u.all(ctx, in, opt); err != nil {
		return Unpacked{}, err
	}
	if err := u.finish(); err != nil {
		return Unpacked{}, err
	}
	got := Unpacked{DiffID: in.digest(), Size: in.n, Implied: u.impliedList(), Links: u.linkList()}
	if opt.DiffID != "" && got.DiffID != opt.DiffID {
		return Unpacked{}, errdefs.New(errdefs.ErrCorrupt, "content digest mismatch: it is %s, the image config says %s", got.DiffID, opt.DiffID)
	}
	return got, nil
}

// input counts, bounds and hashes the archive while it is read.
type input struct {
	src  *source
	n    int64
	max  int64
	alg  digest.Algorithm
	hash hash.Hash
}

// newInput hashes with the algorithm of the digest that is to be matched.
func newInput(r io.Reader, opt Options) *input {
	in := &input{src: &source{r: r}, max: opt.MaxSize, alg: digest.SHA256, hash: sha256.New()}
	if strings.HasPrefix(string(opt.DiffID), "sha512:") {
		in.alg, in.hash = digest.SHA512, digest.SHA512.Hash()
	}
	return in
}

// Read passes the bytes on.
func (in *input) Read(p []byte) (int, error) {
	n, err := in.src.Read(p)
	in.hash.Write(p[:n])
	in.n += int64(n)
	if in.n > in.max {
		in.src.err = errdefs.New(errdefs.ErrInvalid, "archive is larger than %d bytes: refused as a decompression bomb", in.max)
		return n, in.src.err
	}
	return n, err
}

func (in *input) digest() digest.Digest { return digest.NewDigest(in.alg, in.hash) }

// all writes every entry and reads the stream to its end.
func (u *unpacker) all(ctx context.Context, in *input, opt Options) error {
	buf := bufio.NewReaderSize(in, chunk)
	tr := tar.NewReader(buf)
	for count := 0; ; count++ {
		hdr, err := tr.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return in.archiveError(err)
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if count >= opt.MaxEntries {
			return errdefs.New(errdefs.ErrInvalid, "archive has more than %d entries", opt.MaxEntries)
		}
		if hdr.Size > opt.MaxSize-u.written {
			return errdefs.New(errdefs.ErrInvalid, "entry %q: archive unpacks to more than %d bytes", hdr.Name, opt.MaxSize)
		}
		if err := u.entry(hdr, &content{ctx, tr, in, &u.written}); err != nil {
			return fmt.Errorf("entry %q: %w", hdr.Name, err)
		}
	}
	// Padding and whatever else follows belongs to the diffID.
	if _, err := io.Copy(io.Discard, buf); err != nil {
		return in.archiveError(err)
	}
	return nil
}

// archiveError tells broken content from a broken source.
func (in *input) archiveError(err error) error {
	if in.src.err != nil {
		return in.src.err
	}
	if errors.Is(err, io.ErrUnexpectedEOF) {
		return errdefs.New(errdefs.ErrCorrupt, "archive ends too early")
	}
	return errdefs.New(errdefs.ErrCorrupt, "read archive: %w", err)
}

// content is the data of one entry, with errors classified as those of the
// archive, so that they differ from errors of writing. Holes cost the archive
// nothing and us the time to read them: they are bounded by what it has cost.
type content struct {
	ctx context.Context
	tr  *tar.Reader
	in  *input
	n   *int64 // bytes of all entries so far
}

// Read reads on.
func (c *content) Read(p []byte) (int, error) {
	if c.ctx.Err() != nil {
		return 0, context.Cause(c.ctx)
	}
	n, err := c.tr.Read(p)
	if *c.n += int64(n); *c.n > SizeLimit(c.in.n) {
		return 0, errdefs.New(errdefs.ErrInvalid, "archive of %d bytes unpacks to more than %d", c.in.n, *c.n)
	}
	if err != nil && !errors.Is(err, io.EOF) {
		err = c.in.archiveError(err)
	}
	return n, err
}

// cleanName brings the name of an entry, or the target of a hard link, to the
// form "a/b", or "." for the root. Absolute names are meant relative to the
// root. A name with ".." is refused, not cleaned: no packer writes one.
func cleanName(name string) (string, error) {
	if strings.Contains(name, "\x00") {
		return "", errdefs.New(errdefs.ErrInvalid, "the name has a zero byte")
	}
	for word := range strings.SplitSeq(name, "/") {
		if word == ".." {
			return "", errdefs.New(errdefs.ErrInvalid, `the name has a ".."`)
		}
	}
	clean := strings.TrimPrefix(path.Clean("/"+name), "/")
	if clean == "" {
		clean = "."
	}
	return clean, nil
}

// linkList are the links to files below the layer, by name.
func (u *unpacker) linkList() []overlay.Link {
	var all []overlay.Link
	for _, name := range slices.Sorted(maps.Keys(u.links)) {
		all = append(all, overlay.Link{Name: name, Target: u.links[name]})
	}
	return all
}

// impliedList are the implied directories, parents first.
func (u *unpacker) impliedList() []string { return slices.Sorted(maps.Keys(u.implied)) }
