package store

import (
	"context"
	"slices"
	"strings"

	"box/internal/errdefs"
	"box/pkg/image"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// List returns all images, newest first; those without a name are included.
func (s *Store) List(ctx context.Context) ([]*image.Image, error) {
	release, err := s.Hold(ctx)
	if err != nil {
		return nil, err
	}
	defer release()
	idx, err := s.index()
	if err != nil {
		return nil, err
	}
	var all []*image.Image
	for _, id := range idsOf(idx) {
		img, err := s.load(idx, id)
		if err != nil {
			return nil, err
		}
		all = append(all, img)
	}
	slices.SortStableFunc(all, func(a, b *image.Image) int { return b.Created().Compare(a.Created()) })
	return all, nil
}

// idsOf are the ids of all images in the index, each once.
func idsOf(idx *ocispec.Index) []digest.Digest {
	var ids []digest.Digest
	for _, d := range idx.Manifests {
		if id := idOf(d); id != "" && !slices.Contains(ids, id) {
			ids = append(ids, idOf(d))
		}
	}
	return ids
}

// Lookup finds an image by what a user calls it: a reference (busybox,
// localhost:5000/a:b, busybox@sha256:...), an image id with or without
// "sha256:", or any unique prefix of an id. A name goes before a prefix.
// What is not there gives errdefs.ErrNotFound, a prefix of several ids
// errdefs.ErrInvalid.
func (s *Store) Lookup(nameOrID string) (*image.Image, error) {
	release, err := s.Hold(context.Background())
	if err != nil {
		return nil, err
	}
	defer release()
	idx, err := s.index()
	if err != nil {
		return nil, err
	}
	id, err := find(idx, nameOrID)
	if err != nil {
		return nil, err
	}
	return s.load(idx, id)
}

// find is Lookup on an index.
func find(idx *ocispec.Index, what string) (digest.Digest, error) {
	if ref, err := image.ParseReference(what); err == nil {
		for _, d := range idx.Manifests {
			if idOf(d) != "" && isCalled(d, ref) {
				return idOf(d), nil
			}
		}
	}
	return findPrefix(idx, what)
}

// isCalled reports whether the reference names this entry. A digest decides
// alone, whatever the tag beside it says; it must belong to the same repository.
func isCalled(d ocispec.Descriptor, ref image.Reference) bool {
	if ref.Digest == "" {
		return nameOf(d) == ref.Tagged()
	}
	if slices.Contains(digestsOf(d), ref.Name()+"@"+ref.Digest.String()) {
		return true
	}
	return d.Digest == ref.Digest && strings.HasPrefix(nameOf(d), ref.Name()+":")
}

// findPrefix finds an image by its id or the start of it.
func findPrefix(idx *ocispec.Index, what string) (digest.Digest, error) {
	prefix := strings.TrimPrefix(what, "sha256:")
	var found []digest.Digest
	if prefix != "" && strings.Trim(prefix, "0123456789abcdef") == "" {
		for _, id := range idsOf(idx) {
			if strings.HasPrefix(id.Encoded(), prefix) {
				found = append(found, id)
			}
		}
	}
	switch len(found) {
	case 0:
		return "", errdefs.New(errdefs.ErrNotFound, "image %s: no such image", what)
	case 1:
		return found[0], nil
	}
	return "", errdefs.New(errdefs.ErrInvalid, "image %s: %d images have an id that starts so", what, len(found))
}

// load reads one image of the index.
func (s *Store) load(idx *ocispec.Index, id digest.Digest) (*image.Image, error) {
	img := &image.Image{ID: id}
	for _, d := range idx.Manifests {
		if idOf(d) != id {
			continue
		}
		e := entryOf(d)
		img.Manifest, img.Source = e.manifest, e.manifest
		if e.source != "" {
			img.Source = ocispec.Descriptor{MediaType: image.DockerManifest, Digest: e.source}
		}
		if nameOf(d) != "" {
			img.Names = append(img.Names, nameOf(d))
		}
		img.RepoDigests = union(img.RepoDigests, e.digests)
	}
	if img.Manifest.Digest == "" {
		return nil, errdefs.New(errdefs.ErrNotFound, "image %s: no such image", id)
	}
	slices.Sort(img.Names)
	return img, s.fill(img)
}

// fill reads manifest and configuration of an image.
func (s *Store) fill(img *image.Image) error {
	raw, err := s.read(img.Manifest.Digest, image.MaxManifest)
	if err != nil {
		return err
	}
	m, err := image.ParseManifest(raw)
	if err != nil {
		return err
	}
	img.Layers = m.Layers
	if img.RawConfig, err = s.read(m.Config.Digest, image.MaxConfig); err != nil {
		return err
	}
	img.Config, err = image.ParseConfig(img.RawConfig)
	return err
}
