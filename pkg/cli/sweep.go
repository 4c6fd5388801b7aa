package cli

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"box/internal/errdefs"
	"box/pkg/build"
)

// sweep clears up behind commands that were killed: builds, and what is left
// half-way in the store. Commands that look at containers call it, as the
// engine sweeps behind killed monitors.
func (a *app) sweep(ctx context.Context) error {
	env, err := a.buildEnv(true)
	if errors.Is(err, errdefs.ErrNotFound) {
		return a.sweepStore(ctx) // without a runtime there was no build to clear up behind
	}
	if err != nil {
		return err
	}
	return errors.Join(build.Sweep(ctx, env), a.sweepStore(ctx))
}

// sweepStore costs a look at two directories. If something lies there it is
// being made at this moment, and then the collection of garbage leaves it
// alone, or its maker is dead.
func (a *app) sweepStore(ctx context.Context) error {
	for _, dir := range []string{filepath.Join(a.root, "snapshots", "stage"), filepath.Join(a.root, "image", "ingest")} {
		entries, err := os.ReadDir(dir)
		if errors.Is(err, fs.ErrNotExist) || err == nil && len(entries) == 0 {
			continue
		}
		if err != nil {
			return err
		}
		images, err := a.images()
		if err != nil {
			return err
		}
		return images.GC(ctx)
	}
	return nil
}
