package store

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"box/internal/atomicfile"
	"box/pkg/overlay"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sync/errgroup"
)

// Store is the images and layers under one data root. It is safe for concurrent
// use by any number of goroutines and processes.
type Store struct {
	// Roots, if set, names further chainIDs and blob digests that must survive
	// a collection of garbage, such as those of a build cache. Set it right
	// after Open, before the store is shared.
	Roots func(ctx context.Context) ([]digest.Digest, error)

	dir   string // ROOT/image
	snaps *overlay.Store
}

// Open opens the store under the data root and makes it if it is not there.
func Open(root string) (*Store, error) {
	s := &Store{dir: filepath.Join(root, "image")}
	for _, sub := range []string{"blobs/sha256", "ingest", "compressed"} {
		if err := os.MkdirAll(filepath.Join(s.dir, sub), 0o700); err != nil {
			return nil, fmt.Errorf("open image store: %w", err)
		}
	}
	if err := s.ensureLayout(); err != nil {
		return nil, fmt.Errorf("open image store %s: %w", s.dir, err)
	}
	var err error
	if s.snaps, err = overlay.Open(filepath.Join(root, "snapshots")); err != nil {
		return nil, err
	}
	return s, nil
}

// ensureLayout writes the two files that make a directory an OCI image layout.
func (s *Store) ensureLayout() error {
	_, err := os.Lstat(filepath.Join(s.dir, "index.json"))
	if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	layout := filepath.Join(s.dir, "oci-layout")
	if err := atomicfile.Write(layout, []byte(`{"imageLayoutVersion":"1.0.0"}`), 0o644); err != nil {
		return err
	}
	// Another process may have tagged something meanwhile: look again, locked.
	lock, err := atomicfile.LockFile(s.indexLock())
	if err != nil {
		return err
	}
	defer lock.Unlock()
	if _, err := os.Lstat(s.indexPath()); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return s.writeIndex(emptyIndex())
}

func (s *Store) indexPath() string { return filepath.Join(s.dir, "index.json") }
func (s *Store) indexLock() string { return filepath.Join(s.dir, ".index.lock") }
func (s *Store) lockPath() string  { return filepath.Join(s.dir, ".lock") }

// Overlay is the snapshot store beside the images.
func (s *Store) Overlay() *overlay.Store { return s.snaps }

// Hold keeps the collection of garbage away until release is called. Take it
// before looking up an image that you are going to build on or run, and hold
// it until the result is tagged or the snapshot prepared.
func (s *Store) Hold(ctx context.Context) (release func(), err error) {
	if err := context.Cause(ctx); err != nil {
		return nil, err
	}
	lock, err := atomicfile.LockShared(s.lockPath())
	if err != nil {
		return nil, fmt.Errorf("lock image store: %w", err)
	}
	return func() { _ = lock.Unlock() }, nil // closing a lock file loses nothing
}

// settle makes the blobs of an image durable: the files, then their names.
// The unpacked layers need no waiting for (package overlay, torn.go): if power
// fails they are unpacked again from these blobs.
func (s *Store) settle(blobs []digest.Digest) error {
	var group errgroup.Group
	group.SetLimit(parallelLayers)
	for _, d := range blobs {
		group.Go(func() error {
			f, err := s.Blob(d)
			if err != nil {
				return err
			}
			return sync(f)
		})
	}
	if err := group.Wait(); err != nil {
		return err
	}
	dir, err := os.Open(filepath.Join(s.dir, "blobs", "sha256"))
	if err != nil {
		return fmt.Errorf("sync blobs: %w", err)
	}
	return sync(dir)
}

// sync waits until a file is on the disk, and closes it.
func sync(f *os.File) error {
	if err := errors.Join(f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("sync %s: %w", f.Name(), err)
	}
	return nil
}
