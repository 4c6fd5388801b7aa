package store

import (
	"context"
	"crypto/sha256"
	_ "crypto/sha512" // the other algorithm that digests may use
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"box/internal/errdefs"
	"box/pkg/image"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sys/unix"
)

// blobPath is where a blob lies. The digest is checked first: it may come from
// a manifest or a configuration, and it becomes a path (CVE-2024-3727).
func (s *Store) blobPath(d digest.Digest) (string, error) {
	if err := image.CheckDigest(d); err != nil {
		return "", err
	}
	return filepath.Join(s.dir, "blobs", d.Algorithm().String(), d.Encoded()), nil
}

// Has reports whether the blob is in the store.
func (s *Store) Has(d digest.Digest) bool {
	path, err := s.blobPath(d)
	if err != nil {
		return false
	}
	info, err := os.Lstat(path)
	return err == nil && info.Mode().IsRegular()
}

// has is Has with the size as a second witness: a blob that a power failure has
// cut short does not count.
func (s *Store) has(d ocispec.Descriptor) bool {
	path, err := s.blobPath(d.Digest)
	if err != nil {
		return false
	}
	info, err := os.Lstat(path)
	return err == nil && info.Mode().IsRegular() && info.Size() == d.Size
}

// Blob opens a blob for reading. A blob that is not there gives
// errdefs.ErrNotFound.
func (s *Store) Blob(d digest.Digest) (*os.File, error) {
	path, err := s.blobPath(d)
	if err != nil {
		return nil, err
	}
	// O_NOFOLLOW: a blob is never a symlink, whoever has put it there.
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, errdefs.New(errdefs.ErrNotFound, "blob %s: not in the image store", d)
	}
	if err != nil {
		return nil, fmt.Errorf("open blob: %w", err)
	}
	return f, nil
}

// read returns a whole blob of at most limit bytes.
func (s *Store) read(d digest.Digest, limit int64) ([]byte, error) {
	f, err := s.Blob(d)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil {
		return nil, fmt.Errorf("read blob %s: %w", d, err)
	}
	if int64(len(data)) > limit {
		return nil, errdefs.New(errdefs.ErrInvalid, "blob %s: larger than the %d bytes that are read", d, limit)
	}
	return data, nil
}

// Ingest writes a blob. want is the digest it must have, empty if not known;
// size the number of bytes it must have, negative if not known. A blob that is
// not what it should be gives errdefs.ErrCorrupt and leaves nothing behind.
// Ingesting a blob that is there already reads r and changes nothing.
func (s *Store) Ingest(ctx context.Context, r io.Reader, want digest.Digest, size int64) (ocispec.Descriptor, error) {
	release, err := s.Hold(ctx)
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	defer release()
	w, err := s.newBlob(want, size)
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	defer w.abort()
	if _, err := io.Copy(w, &ctxReader{ctx, r}); err != nil {
		return ocispec.Descriptor{}, fmt.Errorf("write blob %s: %w", want, err)
	}
	return w.commit()
}

// blobWriter is one blob on its way into the store: it is hashed and counted
// while it is written, and gets its name only if both are right.
type blobWriter struct {
	store *Store
	file  *os.File
	want  digest.Digest
	size  int64 // wanted, negative if not known
	n     int64
	hash  hash.Hash
	alg   digest.Algorithm

	failed error // more has come than was promised
}

// newBlob starts a blob; the caller holds the store.
func (s *Store) newBlob(want digest.Digest, size int64) (*blobWriter, error) {
	w := &blobWriter{store: s, want: want, size: size, alg: digest.SHA256}
	if want != "" {
		if err := image.CheckDigest(want); err != nil {
			return nil, err
		}
		w.alg = want.Algorithm()
	}
	w.hash = sha256.New()
	if w.alg != digest.SHA256 {
		w.hash = w.alg.Hash()
	}
	var err error
	if w.file, err = os.CreateTemp(filepath.Join(s.dir, "ingest"), "blob-"); err != nil {
		return nil, fmt.Errorf("write blob: %w", err)
	}
	return w, nil
}

// Write takes the next bytes. More than the wanted size is refused at once, so
// that an endless answer does not fill the disk.
func (w *blobWriter) Write(p []byte) (int, error) {
	if w.size >= 0 && w.n+int64(len(p)) > w.size {
		w.failed = errdefs.New(errdefs.ErrCorrupt, "blob %s: longer than the promised %d bytes", w.want, w.size)
		return 0, w.failed
	}
	n, err := w.file.Write(p)
	w.hash.Write(p[:n]) // a hash never fails
	w.n += int64(n)
	return n, err
}

// digest is what has been written so far.
func (w *blobWriter) digest() digest.Digest { return digest.NewDigest(w.alg, w.hash) }

// verify compares what came with what was promised.
func (w *blobWriter) verify() error {
	if w.failed != nil {
		return w.failed
	}
	if w.size >= 0 && w.n != w.size {
		return errdefs.New(errdefs.ErrCorrupt, "blob %s: %d bytes arrived, %d were promised", w.want, w.n, w.size)
	}
	if got := w.digest(); w.want != "" && got != w.want {
		return errdefs.New(errdefs.ErrCorrupt, "blob %s: digest mismatch: what arrived is %s", w.want, got)
	}
	return nil
}

// commit verifies the blob and gives it its name.
func (w *blobWriter) commit() (ocispec.Descriptor, error) {
	none := ocispec.Descriptor{}
	if err := w.verify(); err != nil {
		return none, err
	}
	d := w.digest()
	path, err := w.store.blobPath(d)
	if err != nil {
		return none, err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil { // blobs/sha512
		return none, fmt.Errorf("write blob %s: %w", d, err)
	}
	name := w.file.Name()
	if err := errors.Join(w.file.Chmod(0o644), w.file.Close()); err != nil {
		return none, fmt.Errorf("write blob %s: %w", d, err)
	}
	if err := os.Rename(name, path); err != nil {
		return none, fmt.Errorf("write blob %s: %w", d, err)
	}
	w.file = nil
	return ocispec.Descriptor{Digest: d, Size: w.n}, nil
}

// abort removes a blob that was not committed; after commit it does nothing.
func (w *blobWriter) abort() {
	if w.file == nil {
		return
	}
	_ = w.file.Close() // it is thrown away
	_ = os.Remove(w.file.Name())
}

// put writes a small blob from memory; the caller holds the store.
func (s *Store) put(data []byte, mediaType string) (ocispec.Descriptor, error) {
	d := ocispec.Descriptor{MediaType: mediaType, Digest: digest.FromBytes(data), Size: int64(len(data))}
	if s.has(d) {
		return d, nil
	}
	w, err := s.newBlob(d.Digest, d.Size)
	if err != nil {
		return d, err
	}
	defer w.abort()
	if _, err := w.Write(data); err != nil {
		return d, fmt.Errorf("write blob %s: %w", d.Digest, err)
	}
	_, err = w.commit()
	return d, err
}

// ctxReader stops reading when its context is cancelled.
type ctxReader struct {
	ctx context.Context
	r   io.Reader
}

// Read checks the context before each read.
func (c *ctxReader) Read(p []byte) (int, error) {
	if c.ctx.Err() != nil {
		return 0, context.Cause(c.ctx)
	}
	return c.r.Read(p)
}
