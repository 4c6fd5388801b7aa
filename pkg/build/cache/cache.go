package cache

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"box/internal/atomicfile"
	"box/pkg/image/store"

	"github.com/opencontainers/go-digest"
)

// Cache is the builder's memory in one directory. It is safe for concurrent
// use by goroutines and processes.
type Cache struct{ dir string }

// Result is what an operation came to: one layer.
type Result struct {
	// Layer is the layer that the operation made.
	Layer store.BuiltLayer `json:"layer"`
	// Newest is the time of the newest file in the layer, or of what it stands on.
	Newest time.Time `json:"newest"`
	// Name is the step as it was shown when it ran, Took how long it ran.
	Name string        `json:"name"`
	Took time.Duration `json:"took"`
}

// The sub-directories.
const (
	resultsDir  = "results"
	contentsDir = "contents"
	stepsDir    = "steps"
	contextsDir = "contexts"
)

// Open opens the cache in dir and makes it if it is not there.
func Open(dir string) (*Cache, error) {
	for _, sub := range []string{resultsDir, contentsDir, stepsDir, contextsDir} {
		if err := os.MkdirAll(filepath.Join(dir, sub), 0o700); err != nil {
			return nil, fmt.Errorf("open build cache: %w", err)
		}
	}
	return &Cache{dir: dir}, nil
}

func (c *Cache) path(sub string, key digest.Digest) string {
	return filepath.Join(c.dir, sub, key.Encoded())
}

// Lookup gives the result stored under key, and whether there is one.
func (c *Cache) Lookup(key digest.Digest) (*Result, bool) {
	r := new(Result)
	if !c.read(resultsDir, key, r) || r.Layer.DiffID.Validate() != nil || r.Layer.ChainID.Validate() != nil {
		return nil, false
	}
	return r, true
}

// Store keeps the result of key.
func (c *Cache) Store(key digest.Digest, r *Result) error {
	return c.write(resultsDir, key, r)
}

// Forget removes the result of key: its layer has turned out to be gone.
func (c *Cache) Forget(key digest.Digest) error {
	err := os.Remove(c.path(resultsDir, key))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// Content gives the content digest kept for a selection of an immutable tree.
func (c *Cache) Content(selection digest.Digest) (digest.Digest, bool) {
	var d digest.Digest
	ok := c.read(contentsDir, selection, &d) && d.Validate() == nil
	return d, ok
}

// StoreContent keeps the content digest of a selection.
func (c *Cache) StoreContent(selection, content digest.Digest) error {
	return c.write(contentsDir, selection, content)
}

// Roots lists the layers that the results refer to, blobs and chains: what a
// collection of garbage must keep as long as the results stand.
func (c *Cache) Roots(ctx context.Context) ([]digest.Digest, error) {
	entries, err := os.ReadDir(filepath.Join(c.dir, resultsDir))
	if err != nil {
		return nil, fmt.Errorf("list build cache: %w", err)
	}
	var roots []digest.Digest
	for _, e := range entries {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		if r, ok := c.Lookup(digest.NewDigestFromEncoded(digest.SHA256, e.Name())); ok {
			roots = append(roots, r.Layer.Descriptor.Digest, r.Layer.ChainID)
		}
	}
	return roots, nil
}

func (c *Cache) read(sub string, key digest.Digest, into any) bool {
	text, err := os.ReadFile(c.path(sub, key))
	return err == nil && json.Unmarshal(text, into) == nil
}

// write does not sync: what a power failure takes is built again, and what it
// cuts short is not valid JSON.
func (c *Cache) write(sub string, key digest.Digest, v any) error {
	text, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("write build cache: %w", err)
	}
	return atomicfile.WriteVolatile(c.path(sub, key), text, 0o600)
}

// Dir is the directory of the cache.
func (c *Cache) Dir() string { return c.dir }
