package store

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"slices"

	"box/internal/errdefs"
	"box/pkg/image"
	"box/pkg/image/layer"
	"box/pkg/overlay"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// BuiltLayer is one layer of an image being built: plain data, which a build
// cache may keep.
type BuiltLayer struct {
	// Descriptor is the blob: the uncompressed tar of a layer made here, or
	// whatever the base image has.
	Descriptor ocispec.Descriptor `json:"descriptor"`
	DiffID     digest.Digest      `json:"diffID"`
	ChainID    digest.Digest      `json:"chainID"`
	// Size is the number of bytes of the uncompressed tar; 0 for a layer of a
	// base image, where nobody has counted.
	Size int64 `json:"size,omitempty"`
	// Empty says that the layer changes nothing.
	Empty bool `json:"empty,omitempty"`
}

// Built is a finished image.
type Built struct {
	// Config is the configuration as JSON, kept byte for byte: its digest is
	// the image id. Its rootfs.diff_ids must be those of Layers.
	Config []byte
	// Layers are all layers, those of the base image included, base first.
	Layers []BuiltLayer
	// Names are the tags; none makes an image that only has an id.
	Names []string
}

// BaseLayers are the layers of an image in the form in which a build on top of
// it passes them to AddBuilt.
func BaseLayers(img *image.Image) []BuiltLayer {
	diffs := img.Config.RootFS.DiffIDs
	chain := image.ChainIDs(diffs)
	layers := make([]BuiltLayer, len(img.Layers))
	for i, d := range img.Layers {
		layers[i] = BuiltLayer{Descriptor: d, DiffID: diffs[i], ChainID: chain[i]}
	}
	return layers
}

// CommitLayer makes a layer of what was written into an active snapshot: the tar
// is written into the store and hashed on the way, then the upper directory
// becomes the snapshot, by rename. The snapshot must not be mounted any more;
// it is gone afterwards. A snapshot without changes gives an empty layer.
func (s *Store) CommitLayer(ctx context.Context, active *overlay.Active) (BuiltLayer, error) {
	release, err := s.Hold(ctx)
	if err != nil {
		return BuiltLayer{}, err
	}
	defer release()
	w, err := s.newBlob("", -1)
	if err != nil {
		return BuiltLayer{}, err
	}
	defer w.abort()
	entries, err := layer.Pack(ctx, active.Upper(), w)
	if err != nil {
		return BuiltLayer{}, fmt.Errorf("commit layer %s: %w", active.Key, err)
	}
	desc, err := w.commit()
	if err != nil {
		return BuiltLayer{}, err
	}
	desc.MediaType = ocispec.MediaTypeImageLayer
	built := BuiltLayer{
		Descriptor: desc, DiffID: desc.Digest, Size: desc.Size, Empty: entries == 0,
		ChainID: image.ChainID(active.Parent, desc.Digest),
	}
	return built, active.Commit(built.ChainID)
}

// AddBuilt writes configuration and manifest of a built image and tags it.
func (s *Store) AddBuilt(ctx context.Context, b Built) (*image.Image, error) {
	release, err := s.Hold(ctx)
	if err != nil {
		return nil, err
	}
	defer release()
	if err := s.checkBuilt(b); err != nil {
		return nil, fmt.Errorf("add image: %w", err)
	}
	config, err := s.put(b.Config, ocispec.MediaTypeImageConfig)
	if err != nil {
		return nil, err
	}
	layers := make([]ocispec.Descriptor, len(b.Layers))
	for i, l := range b.Layers {
		layers[i] = ociLayer(l.Descriptor)
	}
	manifest, err := s.putManifest(config, layers)
	if err != nil {
		return nil, err
	}
	names, err := fullNames(b.Names)
	if err != nil {
		return nil, err
	}
	return s.add(ctx, entry{manifest: manifest, id: config.Digest}, names)
}

// checkBuilt refuses an image whose configuration and layers do not belong
// together, or whose layers are not there.
func (s *Store) checkBuilt(b Built) error {
	cfg, err := image.ParseConfig(b.Config)
	if err != nil {
		return err
	}
	diffs := make([]digest.Digest, len(b.Layers))
	for i, l := range b.Layers {
		diffs[i] = l.DiffID
		if !s.has(l.Descriptor) {
			return errdefs.New(errdefs.ErrNotFound, "layer %s: not in the image store", l.Descriptor.Digest)
		}
	}
	if !slices.Equal(diffs, cfg.RootFS.DiffIDs) {
		return errdefs.New(errdefs.ErrInvalid, "the %d diff ids of the config are not those of the %d layers", len(cfg.RootFS.DiffIDs), len(diffs))
	}
	return nil
}

// putManifest writes an OCI manifest.
func (s *Store) putManifest(config ocispec.Descriptor, layers []ocispec.Descriptor) (ocispec.Descriptor, error) {
	if layers == nil {
		layers = []ocispec.Descriptor{} // the spec wants an array
	}
	raw, err := json.Marshal(ocispec.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2},
		MediaType: ocispec.MediaTypeImageManifest,
		Config:    config,
		Layers:    layers,
	})
	if err != nil {
		return ocispec.Descriptor{}, fmt.Errorf("write manifest: %w", err)
	}
	return s.put(raw, ocispec.MediaTypeImageManifest)
}

// ociLayer is the descriptor with the OCI name of its media type.
func ociLayer(d ocispec.Descriptor) ocispec.Descriptor {
	switch d.MediaType {
	case image.DockerLayer:
		d.MediaType = ocispec.MediaTypeImageLayerGzip
	case image.DockerTarLayer:
		d.MediaType = ocispec.MediaTypeImageLayer
	case image.DockerTarLayer + ".zstd":
		d.MediaType = ocispec.MediaTypeImageLayerZstd
	}
	return d
}

// fullNames normalises tags.
func fullNames(names []string) ([]string, error) {
	var full []string
	for _, name := range names {
		ref, err := image.ParseReference(name)
		if err != nil {
			return nil, err
		}
		if ref.Digest != "" {
			return nil, errdefs.New(errdefs.ErrInvalid, "tag %s: a name for an image has no digest", name)
		}
		full = append(full, ref.Tagged())
	}
	return full, nil
}

// UnpackChain makes sure that the layers are unpacked and returns the chainID of
// the top one. It is how a cached layer whose snapshot is gone comes back.
func (s *Store) UnpackChain(ctx context.Context, layers []BuiltLayer) (digest.Digest, error) {
	release, err := s.Hold(ctx)
	if err != nil {
		return "", err
	}
	defer release()
	jobs := make([]LayerJob, len(layers))
	for i, l := range layers {
		jobs[i] = LayerJob{Descriptor: l.Descriptor, DiffID: l.DiffID}
	}
	return s.unpackAll(ctx, jobs, s.fromBlob)
}

// Unpack makes sure that all layers of the image are unpacked and returns the
// chainID of its tree.
func (s *Store) Unpack(ctx context.Context, img *image.Image) (digest.Digest, error) {
	return s.UnpackChain(ctx, BaseLayers(img))
}

// fromBlob reads a layer that is in the store.
func (s *Store) fromBlob(_ context.Context, job LayerJob) (io.ReadCloser, error) {
	return s.Blob(job.Descriptor.Digest)
}
