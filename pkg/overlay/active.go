package overlay

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"box/internal/errdefs"

	"github.com/opencontainers/go-digest"
)

// Active is a writable snapshot: an upper directory on a chain of layers.
type Active struct {
	// Key names the snapshot: a container id, or whatever a build step calls it.
	Key string
	// Parent is the chain below, empty for a tree that starts from nothing.
	Parent digest.Digest

	store    *Store
	dir      string
	volatile bool
}

// Prepare makes the writable snapshot key on top of parent. If key exists it is
// returned as it is, so that a container that is started again finds its files.
func (s *Store) Prepare(key string, parent digest.Digest) (*Active, error) {
	if a, err := s.Active(key); err == nil || !errors.Is(err, errdefs.ErrNotFound) {
		return a, err
	}
	home, err := s.newWorkDir()
	if err != nil {
		return nil, err
	}
	if err := s.furnish(home.path, parent); err != nil {
		return nil, fmt.Errorf("prepare snapshot %s: %w", key, errors.Join(err, home.remove()))
	}
	err = os.Rename(home.path, s.activeDir(key))
	if errors.Is(err, fs.ErrExist) {
		err = home.remove()
	} else {
		home.release()
	}
	if err != nil {
		return nil, fmt.Errorf("prepare snapshot %s: %w", key, err)
	}
	return s.Active(key)
}

// furnish fills the directory of a new active snapshot.
func (s *Store) furnish(dir string, parent digest.Digest) error {
	lowers, err := s.Lowers(parent)
	if err != nil {
		return err
	}
	upper := filepath.Join(dir, "upper")
	if err := mkdirExactly(upper, 0o755); err != nil {
		return err
	}
	// The upper directory itself becomes the root of the merged tree: what the
	// image says about "/" must be said again here.
	if len(lowers) > 0 {
		if err := copyDirMetadata(lowers[0], upper); err != nil {
			return err
		}
	}
	if err := os.Mkdir(filepath.Join(dir, "work"), 0o700); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, "parent"), []byte(parent), 0o600)
}

// Active returns an existing writable snapshot, or errdefs.ErrNotFound.
func (s *Store) Active(key string) (*Active, error) {
	if err := checkKey(key); err != nil {
		return nil, err
	}
	dir := s.activeDir(key)
	parent, err := readParent(dir, "snapshot "+key)
	if err != nil {
		return nil, err
	}
	return &Active{Key: key, Parent: parent, store: s, dir: dir}, nil
}

func (s *Store) activeDir(key string) string { return filepath.Join(s.dir, "active", key) }

// checkKey keeps a key a single path element that does not hide.
func checkKey(key string) error {
	if key == "" || len(key) > 200 || strings.ContainsAny(key, "/\x00") || key[0] == '.' {
		return errdefs.New(errdefs.ErrInvalid, "snapshot key %q: want 1 to 200 bytes without slash and leading dot", key)
	}
	return nil
}

// Actives returns the keys of all writable snapshots.
func (s *Store) Actives() ([]string, error) {
	entries, err := os.ReadDir(filepath.Join(s.dir, "active"))
	if err != nil {
		return nil, fmt.Errorf("list snapshots: %w", err)
	}
	keys := make([]string, len(entries))
	for i, e := range entries {
		keys[i] = e.Name()
	}
	return keys, nil
}

// RemoveActive deletes a writable snapshot; it must not be mounted any more.
// A snapshot that is not there is no error.
func (s *Store) RemoveActive(key string) error {
	if err := checkKey(key); err != nil {
		return err
	}
	if _, err := os.Lstat(s.activeDir(key)); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err := s.discard(s.activeDir(key)); err != nil {
		return fmt.Errorf("remove snapshot %s: %w", key, err)
	}
	return nil
}

// Upper is the directory that takes the writes.
func (a *Active) Upper() string { return filepath.Join(a.dir, "upper") }

// Commit turns the snapshot into the committed layer chain on top of its
// parent, by rename: the active snapshot is gone afterwards. It must not be
// mounted any more. If the chain is already there, the snapshot is removed.
func (a *Active) Commit(chain digest.Digest) error {
	if a.store.Has(chain) {
		return a.store.RemoveActive(a.Key)
	}
	home, err := a.store.newWorkDir()
	if err != nil {
		return err
	}
	if err := os.Rename(a.Upper(), filepath.Join(home.path, "diff")); err != nil {
		return fmt.Errorf("commit snapshot %s: %w", a.Key, errors.Join(err, home.remove()))
	}
	if err := a.store.publish(home, chain, a.Parent); err != nil {
		return fmt.Errorf("commit snapshot %s: %w", a.Key, errors.Join(err, home.remove()))
	}
	return a.store.RemoveActive(a.Key)
}
