package cli

import (
	"context"
	"path/filepath"
	"sync"

	"github.com/opencontainers/go-digest"

	"box/pkg/build"
	"box/pkg/engine"
	"box/pkg/image/store"
	"box/pkg/network"
	"box/pkg/ocirt"
)

// rooms are what a command has opened so far. Opening is left to the first
// use, so that a command pays for what it needs only.
type rooms struct {
	once struct{ engine, images, network sync.Once }

	engine    *engine.Engine
	engineErr error
	images    *store.Store
	imagesErr error

	network    *network.Manager
	networkErr error
}

// engine opens the engine.
func (a *app) engine() (*engine.Engine, error) {
	r := &a.rooms
	r.once.engine.Do(func() {
		r.engine, r.engineErr = engine.Open(engine.Config{Root: a.root, RunRoot: a.runRoot, Runtime: a.runtime, SweepOthers: a.sweep})
	})
	return r.engine, r.engineErr
}

// images opens the image store.
func (a *app) images() (*store.Store, error) {
	r := &a.rooms
	r.once.images.Do(func() {
		r.images, r.imagesErr = store.Open(a.root)
		if r.imagesErr == nil {
			r.images.Roots = build.CacheRoots(a.root)
		}
	})
	return r.images, r.imagesErr
}

// network opens the networks.
func (a *app) network() (*network.Manager, error) {
	r := &a.rooms
	r.once.network.Do(func() { r.network, r.networkErr = network.Open(a.root, a.runRoot) })
	return r.network, r.networkErr
}

// ociRuntime is the runtime for the steps of a build. Its state lies with that
// of box's containers.
func (a *app) ociRuntime() (ocirt.Runtime, error) {
	path, err := ocirt.Find(a.runtime)
	return ocirt.Runtime{Path: path, Root: filepath.Join(a.runRoot, "runtime")}, err
}

// close gives back what was opened.
func (a *app) close() {
	if n := a.rooms.network; n != nil {
		n.Close()
	}
}

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
