package store

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"box/internal/errdefs"
	"box/pkg/image"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Incoming is an image that arrives from a registry or an archive.
type Incoming struct {
	RawManifest []byte
	MediaType   string // of the manifest
	RawConfig   []byte
	// Names are the full names to tag it with, RepoDigests what registries
	// call it; both may be empty.
	Names       []string
	RepoDigests []string
}

// Add brings an image into the store: the layers that fetch delivers are
// verified, kept and unpacked, all at once, and only when everything is there
// and durable is the image tagged. If it fails nothing is tagged; verified blobs
// stay until the next collection, so that a second try is shorter. The digest
// of the manifest is the caller's business, that of everything else is checked
// here.
func (s *Store) Add(ctx context.Context, in Incoming, fetch Fetch) (*image.Image, error) {
	release, err := s.Hold(ctx)
	if err != nil {
		return nil, err
	}
	defer release()
	m, jobs, err := plan(in)
	if err != nil {
		return nil, err
	}
	if _, err := s.unpackAll(ctx, jobs, fetch); err != nil {
		return nil, err
	}
	e, err := s.putDocuments(in, m)
	if err != nil {
		return nil, err
	}
	return s.add(ctx, e, in.Names)
}

// Missing are the layers of an incoming image that a fetch would have to bring.
func (s *Store) Missing(in Incoming) ([]LayerJob, error) {
	_, jobs, err := plan(in)
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(jobs, func(j LayerJob) bool { return s.has(j.Descriptor) }), nil
}

// plan checks that manifest and configuration belong together and lists the layers.
func plan(in Incoming) (ocispec.Manifest, []LayerJob, error) {
	m, err := image.ParseManifest(in.RawManifest)
	if err != nil {
		return m, nil, err
	}
	if got := m.Config.Digest.Algorithm().FromBytes(in.RawConfig); got != m.Config.Digest {
		return m, nil, errdefs.New(errdefs.ErrCorrupt, "image config %s: digest mismatch: what arrived is %s", m.Config.Digest, got)
	}
	cfg, err := image.ParseConfig(in.RawConfig)
	if err != nil {
		return m, nil, err
	}
	diffs := cfg.RootFS.DiffIDs
	if len(diffs) != len(m.Layers) {
		return m, nil, errdefs.New(errdefs.ErrInvalid, "the manifest has %d layers and the config %d", len(m.Layers), len(diffs))
	}
	jobs := make([]LayerJob, len(diffs))
	for i, l := range m.Layers {
		jobs[i] = LayerJob{Descriptor: l, DiffID: diffs[i]}
	}
	return m, jobs, nil
}

// putDocuments writes configuration and manifest. A manifest of Docker's type is
// kept as it is, for pushing it on under the same digest; beside it goes an OCI
// twin, since a layout with Docker manifests cannot be read in place by others
// (containers/image looks only at OCI types in index.json).
func (s *Store) putDocuments(in Incoming, m ocispec.Manifest) (entry, error) {
	config, err1 := s.put(in.RawConfig, ocispec.MediaTypeImageConfig)
	manifest, err2 := s.put(in.RawManifest, in.MediaType)
	if err := errors.Join(err1, err2); err != nil {
		return entry{}, fmt.Errorf("add image: %w", err)
	}
	e := entry{manifest: manifest, id: digest.FromBytes(in.RawConfig), digests: in.RepoDigests}
	if in.MediaType != image.DockerManifest {
		return e, nil
	}
	layers := make([]ocispec.Descriptor, len(m.Layers))
	for i, l := range m.Layers {
		layers[i] = ociLayer(l)
	}
	e.source = manifest.Digest
	var err error
	e.manifest, err = s.putManifest(config, layers)
	return e, err
}
