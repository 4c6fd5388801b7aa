package store

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"box/internal/atomicfile"
	"box/internal/errdefs"
	"box/pkg/image"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// GC removes every blob and every unpacked layer that nothing needs: no image,
// no writable snapshot, none of the given roots (chainIDs or blob digests) and
// none that Store.Roots names. It also removes what killed processes left.
//
// If any other operation is using the store it does nothing: the next
// collection will find the same garbage.
func (s *Store) GC(ctx context.Context, roots ...digest.Digest) error {
	if err := context.Cause(ctx); err != nil {
		return err
	}
	lock, ok, err := atomicfile.TryLock(s.lockPath())
	if err != nil {
		return fmt.Errorf("lock image store: %w", err)
	}
	if !ok {
		return nil
	}
	defer lock.Unlock()
	marks, err := s.mark(ctx, roots)
	if err != nil {
		return fmt.Errorf("collect garbage: %w", err)
	}
	return errors.Join(s.sweepBlobs(marks), s.sweepCompressed(), s.sweepIngest(), s.sweepLayers(marks), s.snaps.Sweep())
}

// marks is what must stay. One set serves blobs and chains: a digest that is in
// it for the wrong reason keeps a thing alive, it does not remove one.
type marks map[digest.Digest]bool

// mark walks everything from the roots.
func (s *Store) mark(ctx context.Context, roots []digest.Digest) (marks, error) {
	m := marks{}
	if s.Roots != nil {
		more, err := s.Roots(ctx)
		if err != nil {
			return nil, err
		}
		roots = append(slices.Clone(roots), more...)
	}
	for _, d := range roots {
		m.chain(s, d)
	}
	if err := s.markActives(m); err != nil {
		return nil, err
	}
	return m, s.markImages(m)
}

// chain marks a digest and, if it is an unpacked layer, all below it.
func (m marks) chain(s *Store, d digest.Digest) {
	m[d] = true
	below, err := s.snaps.Chain(d)
	if err != nil {
		return // no layer of that name, or an incomplete one: nothing to keep
	}
	for _, id := range below {
		m[id] = true
	}
}

// markActives marks what the writable snapshots stand on.
func (s *Store) markActives(m marks) error {
	keys, err := s.snaps.Actives()
	if err != nil {
		return err
	}
	for _, key := range keys {
		if a, err := s.snaps.Active(key); err == nil {
			m.chain(s, a.Parent)
		} else if !errors.Is(err, errdefs.ErrNotFound) {
			return err
		}
	}
	return nil
}

// markImages marks what the images in the index need.
func (s *Store) markImages(m marks) error {
	idx, err := s.index()
	if err != nil {
		return err
	}
	for _, d := range idx.Manifests {
		e := entryOf(d)
		m[e.manifest.Digest], m[e.source] = true, true
		img := &image.Image{ID: e.id, Manifest: e.manifest}
		if err := s.fill(img); err != nil {
			if errors.Is(err, errdefs.ErrNotFound) {
				continue // damaged by hand: keep what is left
			}
			return err
		}
		m[e.id] = true
		for _, l := range img.Layers {
			m[l.Digest] = true
		}
		m.chain(s, img.ChainID())
		for _, id := range image.ChainIDs(img.Config.RootFS.DiffIDs) {
			m[id] = true
		}
	}
	return nil
}

// sweepBlobs removes the blobs that are not marked.
func (s *Store) sweepBlobs(m marks) error {
	return s.blobs(func(d digest.Digest, path string) error {
		if m[d] {
			return nil
		}
		return os.Remove(path)
	})
}

// blobs calls f for every blob.
func (s *Store) blobs(f func(d digest.Digest, path string) error) error {
	root := filepath.Join(s.dir, "blobs")
	algs, err := os.ReadDir(root)
	if err != nil {
		return fmt.Errorf("list blobs: %w", err)
	}
	for _, alg := range algs {
		files, err := os.ReadDir(filepath.Join(root, alg.Name()))
		if err != nil {
			return fmt.Errorf("list blobs: %w", err)
		}
		for _, file := range files {
			d := digest.NewDigestFromEncoded(digest.Algorithm(alg.Name()), file.Name())
			if err := f(d, filepath.Join(root, alg.Name(), file.Name())); err != nil {
				return fmt.Errorf("blob %s: %w", d, err)
			}
		}
	}
	return nil
}

// sweepIngest removes what is being written: we hold the store alone, so nobody
// is writing.
func (s *Store) sweepIngest() error {
	return removeIn(filepath.Join(s.dir, "ingest"), func(string) bool { return true })
}

// sweepCompressed removes the notes about compressed layers that are gone.
func (s *Store) sweepCompressed() error {
	return removeIn(filepath.Join(s.dir, "compressed"), func(name string) bool {
		d, err := s.compressed(digest.NewDigestFromEncoded(digest.SHA256, name))
		return err != nil || d.Digest == ""
	})
}

// removeIn removes the files of a directory that f picks.
func removeIn(dir string, f func(name string) bool) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return fmt.Errorf("sweep: %w", err)
	}
	var errs []error
	for _, e := range entries {
		if !f(e.Name()) {
			continue
		}
		if err := os.RemoveAll(filepath.Join(dir, e.Name())); err != nil && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, fmt.Errorf("sweep: %w", err))
		}
	}
	return errors.Join(errs...)
}

// sweepLayers removes the unpacked layers that are not marked, those on top
// first: whenever we are killed, no layer has lost its parent.
func (s *Store) sweepLayers(m marks) error {
	all, err := s.snaps.List()
	if err != nil {
		return err
	}
	depth := map[digest.Digest]int{}
	for _, id := range all {
		below, _ := s.snaps.Chain(id) // a broken chain has depth 0
		depth[id] = len(below)
	}
	slices.SortFunc(all, func(a, b digest.Digest) int { return depth[b] - depth[a] })
	for _, id := range all {
		if m[id] {
			continue
		}
		if err := s.snaps.Remove(id); err != nil {
			return err
		}
	}
	return nil
}

// manifestOf reads the manifest of an image.
func (s *Store) manifestOf(d ocispec.Descriptor) (ocispec.Manifest, []byte, error) {
	raw, err := s.read(d.Digest, image.MaxManifest)
	if err != nil {
		return ocispec.Manifest{}, nil, err
	}
	m, err := image.ParseManifest(raw)
	return m, raw, err
}
