package overlay

import (
	_ "crypto/sha256" // digests can only be checked if their algorithm is linked
	_ "crypto/sha512"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"

	"box/internal/errdefs"

	"github.com/opencontainers/go-digest"
)

// maxChain bounds the walk from a layer to its base, so that a damaged parent
// file cannot loop. The kernel itself stops at 500 lower directories
// (OVL_MAX_STACK in fs/overlayfs/params.h).
const maxChain = 500

// Store is a directory of layers and snapshots. It is safe for concurrent use
// by any number of goroutines and processes.
type Store struct {
	dir    string
	boot   string
	oldAPI atomic.Bool // mount(2) instead of fsconfig: the kernel is too old, or a test wants it
}

// Open opens the store in dir and makes it if it is not there.
// The directory must lie on a filesystem that overlay accepts as upper layer.
func Open(dir string) (*Store, error) {
	for _, sub := range []string{"layers", "active", "stage", "empty"} {
		if err := os.MkdirAll(filepath.Join(dir, sub), 0o700); err != nil {
			return nil, fmt.Errorf("open snapshot store: %w", err)
		}
	}
	// Overlay shows the mode of the lowest directory where nothing lies above it.
	if err := os.Chmod(filepath.Join(dir, "empty"), 0o755); err != nil {
		return nil, fmt.Errorf("open snapshot store: %w", err)
	}
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return nil, fmt.Errorf("open snapshot store: %w", err)
	}
	return &Store{dir: dir, boot: strings.TrimSpace(string(boot))}, nil
}

// Dir is the directory that Open was given.
func (s *Store) Dir() string { return s.dir }

// layerDir is where the committed layer lives. The digest is validated first:
// it may come from an image config, and it becomes a path (CVE-2024-3727).
func (s *Store) layerDir(chain digest.Digest) (string, error) {
	if err := chain.Validate(); err != nil {
		return "", errdefs.New(errdefs.ErrInvalid, "chain id %q: %w", chain, err)
	}
	return filepath.Join(s.dir, "layers", chain.Encoded()), nil
}

// Has reports whether the layer is committed and whole. The empty chain, which
// stands for "nothing below", is always there.
func (s *Store) Has(chain digest.Digest) bool {
	if chain == "" {
		return true
	}
	_, err := s.Parent(chain)
	return err == nil
}

// Parent returns the chainID below chain, empty for a base layer.
// A layer that is not there gives errdefs.ErrNotFound.
func (s *Store) Parent(chain digest.Digest) (digest.Digest, error) {
	dir, err := s.layerDir(chain)
	if err != nil {
		return "", err
	}
	if s.torn(dir) {
		return "", errdefs.New(errdefs.ErrNotFound, "layer %s: not completely written before the machine went down", chain)
	}
	return readParent(dir, "layer "+chain.String())
}

// readParent reads the parent file of a layer or an active snapshot.
func readParent(dir, what string) (digest.Digest, error) {
	data, err := os.ReadFile(filepath.Join(dir, "parent"))
	if errors.Is(err, fs.ErrNotExist) {
		return "", errdefs.New(errdefs.ErrNotFound, "%s: not in the snapshot store", what)
	}
	if err != nil {
		return "", fmt.Errorf("read %s: %w", what, err)
	}
	parent := digest.Digest(strings.TrimSpace(string(data)))
	if parent == "" {
		return "", nil
	}
	if err := parent.Validate(); err != nil {
		return "", errdefs.New(errdefs.ErrCorrupt, "%s: parent %q: %w", what, parent, err)
	}
	return parent, nil
}

// Chain returns chain and everything below it, top first.
func (s *Store) Chain(chain digest.Digest) ([]digest.Digest, error) {
	var all []digest.Digest
	for at := chain; at != ""; {
		if len(all) == maxChain {
			return nil, errdefs.New(errdefs.ErrInvalid, "layer %s: more than %d layers", chain, maxChain)
		}
		parent, err := s.Parent(at)
		if err != nil {
			return nil, err
		}
		all = append(all, at)
		at = parent
	}
	return all, nil
}

// Lowers returns the directories of chain and everything below it, top first,
// as overlay wants them. The empty chain has none.
func (s *Store) Lowers(chain digest.Digest) ([]string, error) {
	ids, err := s.Chain(chain)
	if err != nil {
		return nil, err
	}
	dirs := make([]string, len(ids))
	for i, id := range ids {
		dirs[i] = filepath.Join(s.dir, "layers", id.Encoded(), "diff")
	}
	return dirs, nil
}

// List returns the chainIDs of all committed layers, in no particular order.
func (s *Store) List() ([]digest.Digest, error) {
	entries, err := os.ReadDir(filepath.Join(s.dir, "layers"))
	if err != nil {
		return nil, fmt.Errorf("list layers: %w", err)
	}
	all := make([]digest.Digest, 0, len(entries))
	for _, e := range entries {
		if id := digestOf(e.Name()); id.Validate() == nil {
			all = append(all, id)
		}
	}
	return all, nil
}

// digestOf turns the name of a layer directory back into its digest; the length
// tells the algorithm.
func digestOf(hex string) digest.Digest {
	if len(hex) == 128 {
		return digest.NewDigestFromEncoded(digest.SHA512, hex)
	}
	return digest.NewDigestFromEncoded(digest.SHA256, hex)
}

// Remove deletes a committed layer. Whoever calls it has made sure that no
// other layer and no active snapshot stands on it. A missing layer is no error.
func (s *Store) Remove(chain digest.Digest) error {
	dir, err := s.layerDir(chain)
	if err != nil {
		return err
	}
	if err := s.discard(dir); err != nil {
		return fmt.Errorf("remove layer %s: %w", chain, err)
	}
	return nil
}
