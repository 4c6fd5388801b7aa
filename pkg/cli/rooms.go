package cli

import (
	"context"
	"sync"

	"github.com/opencontainers/go-digest"

	"box/pkg/engine"
	"box/pkg/image/store"
)

// rooms are what a command has opened so far. Opening is left to the first
// use, so that a command pays for what it needs only.
type rooms struct {
	once struct{ engine, images sync.Once }

	engine    *engine.Engine
	engineErr error
	images    *store.Store
	imagesErr error
}

// engine opens the engine.
func (a *app) engine() (*engine.Engine, error) {
	r := &a.rooms
	r.once.engine.Do(func() {
		r.engine, r.engineErr = engine.Open(engine.Config{Root: a.root, RunRoot: a.runRoot, Runtime: a.runtime})
	})
	return r.engine, r.engineErr
}

// images opens the image store.
func (a *app) images() (*store.Store, error) {
	r := &a.rooms
	r.once.images.Do(func() { r.images, r.imagesErr = store.Open(a.root) })
	return r.images, r.imagesErr
}

// close gives back what was opened. Nothing holds more than file descriptors
// at the moment, which the end of the process closes.
func (a *app) close() {}

// imagesInUse tells which images containers were made from.
func (a *app) imagesInUse(ctx context.Context) (map[digest.Digest]store.Use, error) {
	e, err := a.engine()
	if err != nil {
		return nil, err
	}
	uses, err := e.ImagesInUse(ctx)
	if err != nil {
		return nil, err
	}
	used := make(map[digest.Digest]store.Use, len(uses))
	for id, u := range uses {
		used[id] = store.Use{Container: u.Container, Running: u.Running}
	}
	return used, nil
}
