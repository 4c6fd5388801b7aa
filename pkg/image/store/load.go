package store

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"box/internal/errdefs"
	"box/pkg/image"
	"box/pkg/image/layer"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Load adds the images of an archive, which may be compressed: what "docker
// save", "podman save" and skopeo write, with Docker's manifest.json or an OCI
// layout inside. For a multi-platform image the one for this machine is taken.
// The images are returned in the archive's order.
func (s *Store) Load(ctx context.Context, r io.Reader) ([]*image.Image, error) {
	release, err := s.Hold(ctx)
	if err != nil {
		return nil, err
	}
	defer release()
	dir, err := os.MkdirTemp(filepath.Join(s.dir, "ingest"), "load-")
	if err != nil {
		return nil, fmt.Errorf("load images: %w", err)
	}
	defer os.RemoveAll(dir)
	l := &loader{store: s, dir: dir, files: map[string]spooled{}, links: map[string]string{}}
	images, err := l.run(ctx, r)
	if err == nil && len(images) == 0 {
		err = errdefs.New(errdefs.ErrInvalid, "the archive lists no image")
	}
	if err != nil {
		return nil, fmt.Errorf("load images: %w", err)
	}
	return images, nil
}

// loader is one Load at work. The documents that tell what the other files are
// often come last, so everything is written aside first.
type loader struct {
	store *Store
	dir   string
	files map[string]spooled
	links map[string]string // symlinks: Docker before 25 links equal layers
}

// run reads the archive and adds what is in it.
func (l *loader) run(ctx context.Context, r io.Reader) ([]*image.Image, error) {
	plain, err := layer.Decompress(&ctxReader{ctx, r})
	if err != nil {
		return nil, err
	}
	defer plain.Close()
	if err := l.spool(plain); err != nil {
		return nil, err
	}
	switch {
	case l.has("index.json") && l.has("oci-layout"):
		return l.layout(ctx)
	case l.has("manifest.json"):
		return l.legacy(ctx)
	}
	err = errdefs.New(errdefs.ErrInvalid, "the archive has neither index.json nor manifest.json: it is no archive of images")
	return nil, errdefs.WithHint(err, "for a root filesystem use box import")
}

// legacy loads by Docker's manifest.json.
func (l *loader) legacy(ctx context.Context) ([]*image.Image, error) {
	raw, err := l.read("manifest.json", maxLoadJSON)
	if err != nil {
		return nil, err
	}
	var entries []legacyEntry
	if err := json.Unmarshal(raw, &entries); err != nil {
		return nil, errdefs.New(errdefs.ErrInvalid, "manifest.json: %w", err)
	}
	var all []*image.Image
	for _, e := range entries {
		img, err := l.legacyImage(ctx, e)
		if err != nil {
			return nil, err
		}
		all = append(all, img)
	}
	return all, nil
}

// legacyImage loads one image of manifest.json: it has no manifest, so one is
// written. Layers may be compressed or not.
func (l *loader) legacyImage(ctx context.Context, e legacyEntry) (*image.Image, error) {
	config, err := l.read(e.Config, image.MaxConfig)
	if err != nil {
		return nil, err
	}
	m := ocispec.Manifest{MediaType: ocispec.MediaTypeImageManifest, Layers: []ocispec.Descriptor{}}
	m.SchemaVersion = 2
	m.Config = ocispec.Descriptor{MediaType: ocispec.MediaTypeImageConfig, Digest: digest.FromBytes(config), Size: int64(len(config))}
	files := map[digest.Digest]spooled{}
	for _, name := range e.Layers {
		f, err := l.find(name)
		if err != nil {
			return nil, err
		}
		mediaType, err := layerType(f.path)
		if err != nil {
			return nil, err
		}
		files[f.digest] = f
		m.Layers = append(m.Layers, ocispec.Descriptor{MediaType: mediaType, Digest: f.digest, Size: f.size})
	}
	raw, err := json.Marshal(m)
	if err != nil {
		return nil, err
	}
	names, err := fullNames(e.RepoTags)
	if err != nil {
		return nil, err
	}
	in := Incoming{RawManifest: raw, MediaType: m.MediaType, RawConfig: config, Names: names}
	return l.store.Add(ctx, in, fromFiles(files))
}

// layerType tells by the first bytes how a layer is compressed.
func layerType(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	magic := make([]byte, 4)
	n, err := io.ReadFull(f, magic)
	switch {
	case err != nil && n == 0:
		return ocispec.MediaTypeImageLayer, nil //nolint:nilerr // an empty file is an empty archive
	case magic[0] == 0x1f && magic[1] == 0x8b:
		return ocispec.MediaTypeImageLayerGzip, nil
	case string(magic) == "\x28\xb5\x2f\xfd":
		return ocispec.MediaTypeImageLayerZstd, nil
	}
	return ocispec.MediaTypeImageLayer, nil
}

// fromFiles fetches layers from files of the archive.
func fromFiles(files map[digest.Digest]spooled) Fetch {
	return func(_ context.Context, job LayerJob) (io.ReadCloser, error) {
		f, ok := files[job.Descriptor.Digest]
		if !ok {
			return nil, errdefs.New(errdefs.ErrInvalid, "the archive does not have layer %s", job.Descriptor.Digest)
		}
		return os.Open(f.path)
	}
}

// layout loads by an OCI layout.
func (l *loader) layout(ctx context.Context) ([]*image.Image, error) {
	raw, err := l.read("index.json", image.MaxManifest)
	if err != nil {
		return nil, err
	}
	idx, err := image.ParseIndex(raw)
	if err != nil {
		return nil, err
	}
	var all []*image.Image
	for _, d := range idx.Manifests {
		img, err := l.layoutImage(ctx, d)
		if err != nil {
			return nil, fmt.Errorf("manifest %s: %w", d.Digest, err)
		}
		if n := len(all); n > 0 && all[n-1].ID == img.ID {
			all = all[:n-1] // the same image under its next name
		}
		all = append(all, img)
	}
	return all, nil
}

// layoutImage loads one entry of the layout's index.
func (l *loader) layoutImage(ctx context.Context, d ocispec.Descriptor) (*image.Image, error) {
	raw, mediaType, err := l.document(d)
	if err != nil {
		return nil, err
	}
	if image.IsIndex(mediaType) {
		idx, err := image.ParseIndex(raw)
		if err != nil {
			return nil, err
		}
		chosen, err := image.Select(idx, image.Host())
		if err != nil {
			return nil, err
		}
		if raw, mediaType, err = l.document(chosen); err != nil {
			return nil, err
		}
	}
	m, err := image.ParseManifest(raw)
	if err != nil {
		return nil, err
	}
	config, err := l.verified(m.Config, image.MaxConfig)
	if err != nil {
		return nil, err
	}
	in := Incoming{RawManifest: raw, MediaType: mediaType, RawConfig: config, Names: layoutNames(d)}
	return l.store.Add(ctx, in, l.fetchBlob)
}

// document reads a manifest or an index of the layout.
func (l *loader) document(d ocispec.Descriptor) ([]byte, string, error) {
	raw, err := l.verified(d, image.MaxManifest)
	if err != nil {
		return nil, "", err
	}
	mediaType, err := image.MediaType(raw, d.MediaType)
	return raw, mediaType, err
}

// verified reads a blob of the layout. Its name says one digest; whether it is
// true is seen here.
func (l *loader) verified(d ocispec.Descriptor, limit int64) ([]byte, error) {
	data, err := l.read(blobName(d.Digest), limit)
	if err != nil {
		return nil, err
	}
	if got := d.Digest.Algorithm().FromBytes(data); got != d.Digest || int64(len(data)) != d.Size {
		return nil, errdefs.New(errdefs.ErrCorrupt, "blob %s: digest mismatch: the archive has %s", d.Digest, got)
	}
	return data, nil
}

// fetchBlob fetches layers from the blobs of the layout.
func (l *loader) fetchBlob(_ context.Context, job LayerJob) (io.ReadCloser, error) {
	f, err := l.find(blobName(job.Descriptor.Digest))
	if err != nil {
		return nil, err
	}
	return os.Open(f.path)
}

// layoutNames are the names of an entry of a layout's index: containerd's full
// name, or ref.name where that is more than a tag.
func layoutNames(d ocispec.Descriptor) []string {
	for _, name := range []string{d.Annotations[annContainerd], d.Annotations[annName]} {
		if !strings.ContainsAny(name, "/:") {
			continue
		}
		if ref, err := image.ParseReference(name); err == nil && ref.Digest == "" {
			return []string{ref.Tagged()}
		}
	}
	return nil
}
