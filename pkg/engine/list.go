package engine

import (
	"context"

	"github.com/opencontainers/go-digest"

	"box/pkg/image/store"
	"box/pkg/record"
)

// List returns the running containers, or all of them, newest first.
func (e *Engine) List(ctx context.Context, all bool) ([]*record.Record, error) {
	if err := e.Sweep(ctx); err != nil {
		return nil, err
	}
	records, err := e.records.List()
	if err != nil {
		return nil, err
	}
	kept := records[:0]
	for _, r := range records {
		if r, err = e.current(ctx, r); err != nil {
			return nil, err
		}
		if all || r.State.Status == record.Running {
			kept = append(kept, r)
		}
	}
	return kept, nil
}

// Find returns the record of one container.
func (e *Engine) Find(ctx context.Context, nameOrID string) (*record.Record, error) {
	return e.find(ctx, nameOrID)
}

// ImagesInUse tells for each image that a container was made from one container
// that uses it, a running one if there is one: for the image store's Delete.
func (e *Engine) ImagesInUse(ctx context.Context) (map[digest.Digest]store.Use, error) {
	records, err := e.List(ctx, true)
	if err != nil {
		return nil, err
	}
	use := map[digest.Digest]store.Use{}
	for _, r := range records {
		running := r.State.Status == record.Running
		if have, ok := use[r.Image.ID]; !ok || running && !have.Running {
			use[r.Image.ID] = store.Use{Container: r.Name, Running: running}
		}
	}
	return use, nil
}
