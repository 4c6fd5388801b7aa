package store

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"strings"

	"box/internal/errdefs"

	"github.com/opencontainers/go-digest"
)

// Bounds on an archive of images.
const (
	maxLoadEntries = 100_000
	maxLoadName    = 1 << 10  // of an entry or of what it links to, in bytes
	maxLoadJSON    = 16 << 20 // manifest.json of an archive with very many images
)

// spooled is one file of the archive on our disk.
type spooled struct {
	path   string
	digest digest.Digest
	size   int64
}

// spool writes the files of the archive aside, under names of our own.
func (l *loader) spool(r io.Reader) error {
	tr := tar.NewReader(r)
	for count := 0; ; count++ {
		hdr, err := tr.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return archiveError(err)
		}
		if count == maxLoadEntries {
			return errdefs.New(errdefs.ErrInvalid, "the archive has more than %d entries", maxLoadEntries)
		}
		if err := checkSpooled(hdr); err != nil {
			return err
		}
		name := strings.TrimPrefix(path.Clean("/"+hdr.Name), "/")
		switch hdr.Typeflag {
		case tar.TypeReg, '\x00':
			if l.files[name], err = l.spoolFile(tr, count); err != nil {
				return fmt.Errorf("%s: %w", hdr.Name, err)
			}
		case tar.TypeSymlink:
			l.links[name] = strings.TrimPrefix(path.Join("/", path.Dir(name), hdr.Linkname), "/")
		case tar.TypeLink:
			l.links[name] = strings.TrimPrefix(path.Clean("/"+hdr.Linkname), "/")
		}
	}
}

// checkSpooled refuses entries that cost an archive less than us: long names, which
// compress well and stay in memory, and sparse files, whose holes would be written
// out. No archive of images has either.
func checkSpooled(hdr *tar.Header) error {
	if len(hdr.Name) > maxLoadName || len(hdr.Linkname) > maxLoadName {
		return errdefs.New(errdefs.ErrInvalid, "the archive has an entry with a name longer than %d bytes", maxLoadName)
	}
	sparse := hdr.Typeflag == tar.TypeGNUSparse
	for key := range hdr.PAXRecords {
		sparse = sparse || strings.HasPrefix(key, "GNU.sparse.")
	}
	if sparse {
		return errdefs.New(errdefs.ErrInvalid, "%s: sparse files do not belong into an archive of images", hdr.Name)
	}
	return nil
}

// archiveError says that the archive is damaged, unless it could not be read.
func archiveError(err error) error {
	if errors.Is(err, tar.ErrHeader) || errors.Is(err, io.ErrUnexpectedEOF) {
		return errdefs.New(errdefs.ErrCorrupt, "the archive is damaged: %w", err)
	}
	return err
}

// spoolFile writes one file aside and hashes it.
func (l *loader) spoolFile(r io.Reader, n int) (spooled, error) {
	f, err := os.OpenFile(filepath.Join(l.dir, fmt.Sprint(n)), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return spooled{}, err
	}
	sum := digest.SHA256.Digester()
	size, err := io.Copy(io.MultiWriter(f, sum.Hash()), r)
	if err := errors.Join(err, f.Close()); err != nil {
		return spooled{}, archiveError(err)
	}
	return spooled{path: f.Name(), digest: sum.Digest(), size: size}, nil
}

// find returns a file of the archive, through at most a few links.
func (l *loader) find(name string) (spooled, error) {
	at := strings.TrimPrefix(path.Clean("/"+name), "/")
	for range 8 {
		if f, ok := l.files[at]; ok {
			return f, nil
		}
		at = l.links[at]
	}
	return spooled{}, errdefs.New(errdefs.ErrInvalid, "the archive names the file %q and does not have it", name)
}

func (l *loader) has(name string) bool {
	_, err := l.find(name)
	return err == nil
}

// read returns the contents of a file of the archive.
func (l *loader) read(name string, limit int64) ([]byte, error) {
	f, err := l.find(name)
	if err != nil {
		return nil, err
	}
	if f.size > limit {
		return nil, errdefs.New(errdefs.ErrInvalid, "%s: larger than the %d bytes that are read", name, limit)
	}
	return os.ReadFile(f.path)
}
