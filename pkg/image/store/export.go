package store

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"box/internal/atomicfile"
	"box/pkg/image"
	"box/pkg/image/layer"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"
)

// Export is an image in the form in which it leaves the machine.
type Export struct {
	Manifest    ocispec.Descriptor // as the registry shall have it
	RawManifest []byte
	Config      ocispec.Descriptor
	Layers      []ocispec.Descriptor
}

// Export prepares an image for a registry. Layers that were built here are
// compressed, all at once, and remembered by diffID, so that this is paid once.
// An image that came from a registry leaves exactly as it came. The caller
// holds the store until it has used the result.
func (s *Store) Export(ctx context.Context, img *image.Image) (Export, error) {
	if img.Source.Digest != "" && img.Source.Digest != img.Manifest.Digest && s.Has(img.Source.Digest) {
		return s.exportManifest(img.Source)
	}
	layers := make([]ocispec.Descriptor, len(img.Layers))
	group, gctx := errgroup.WithContext(ctx)
	for i, d := range img.Layers {
		layers[i] = d
		if d.MediaType == ocispec.MediaTypeImageLayer {
			group.Go(func() error {
				var err error
				layers[i], err = s.compress(gctx, d, img.Config.RootFS.DiffIDs[i])
				return err
			})
		}
	}
	if err := group.Wait(); err != nil {
		return Export{}, err
	}
	if equalDigests(layers, img.Layers) {
		return s.exportManifest(img.Manifest)
	}
	m, _, err := s.manifestOf(img.Manifest)
	if err != nil {
		return Export{}, err
	}
	desc, err := s.putManifest(m.Config, layers)
	if err != nil {
		return Export{}, err
	}
	return s.exportManifest(desc)
}

func equalDigests(a, b []ocispec.Descriptor) bool {
	for i := range a {
		if a[i].Digest != b[i].Digest {
			return false
		}
	}
	return true
}

// exportManifest is the Export of a manifest as it stands.
func (s *Store) exportManifest(d ocispec.Descriptor) (Export, error) {
	m, raw, err := s.manifestOf(d)
	if err != nil {
		return Export{}, err
	}
	d.Size = int64(len(raw))
	return Export{Manifest: d, RawManifest: raw, Config: m.Config, Layers: m.Layers}, nil
}

// Exported notes that a registry has the image under name, in the form that
// Export gave it: the image's manifest is that one from now on, so that a later
// pull finds the same digest, and the uncompressed blobs can go.
func (s *Store) Exported(ctx context.Context, img *image.Image, e Export, name image.Reference) (*image.Image, error) {
	known := name.Name() + "@" + e.Manifest.Digest.String()
	if e.Manifest.Digest == img.Source.Digest {
		return s.add(ctx, s.entryFor(img, img.Manifest, known), nil)
	}
	return s.add(ctx, s.entryFor(img, e.Manifest, known), nil)
}

// entryFor is the entry of an image with one more repo digest.
func (s *Store) entryFor(img *image.Image, manifest ocispec.Descriptor, known string) entry {
	e := entry{manifest: manifest, id: img.ID, digests: union(img.RepoDigests, []string{known})}
	if img.Source.Digest != img.Manifest.Digest {
		e.source = img.Source.Digest
	}
	return e
}

// compress returns the compressed form of an uncompressed layer blob.
func (s *Store) compress(ctx context.Context, d ocispec.Descriptor, diffID digest.Digest) (ocispec.Descriptor, error) {
	if have, err := s.compressed(diffID); err == nil && have.Digest != "" {
		return have, nil
	}
	f, err := s.Blob(d.Digest)
	if err != nil {
		return d, err
	}
	defer f.Close()
	w, err := s.newBlob("", -1)
	if err != nil {
		return d, err
	}
	defer w.abort()
	if err := gzipTo(w, &ctxReader{ctx, f}); err != nil {
		return d, fmt.Errorf("compress layer %s: %w", d.Digest, err)
	}
	out, err := w.commit()
	if err != nil {
		return d, err
	}
	out.MediaType = ocispec.MediaTypeImageLayerGzip
	return out, s.rememberCompressed(diffID, out)
}

// gzipTo compresses r into w.
func gzipTo(w io.Writer, r io.Reader) error {
	buf := bufio.NewWriterSize(w, 256<<10)
	gz, err := layer.Compress(buf)
	if err != nil {
		return err
	}
	if _, err := io.Copy(gz, r); err != nil {
		return errors.Join(err, gz.Close())
	}
	return errors.Join(gz.Close(), buf.Flush())
}

// compressed looks up the compressed form of a layer; the zero descriptor if
// there is none, or its blob is gone.
func (s *Store) compressed(diffID digest.Digest) (ocispec.Descriptor, error) {
	var d ocispec.Descriptor
	if err := image.CheckDigest(diffID); err != nil {
		return d, err
	}
	data, err := os.ReadFile(filepath.Join(s.dir, "compressed", diffID.Encoded()))
	if errors.Is(err, fs.ErrNotExist) {
		return d, nil
	}
	if err != nil {
		return d, fmt.Errorf("look up compressed layer: %w", err)
	}
	if err := json.NewDecoder(bytes.NewReader(data)).Decode(&d); err != nil || !s.has(d) {
		return ocispec.Descriptor{}, nil // a note that is of no use is no note
	}
	return d, nil
}

// rememberCompressed notes the compressed form of a layer.
func (s *Store) rememberCompressed(diffID digest.Digest, d ocispec.Descriptor) error {
	data, err := json.Marshal(d)
	if err != nil {
		return fmt.Errorf("remember compressed layer: %w", err)
	}
	return atomicfile.WriteVolatile(filepath.Join(s.dir, "compressed", diffID.Encoded()), data, 0o644)
}
