package ocirt

import (
	"context"
	"os"
	"path/filepath"
	"testing"

	"box/pkg/cgroups"
	"box/pkg/record"
)

// A runtime that was killed between making a container and starting it leaves a
// process that waits for ever and has inherited what the runtime had. Clear
// waits for that only after having killed it.
func TestClearEndsWhatWaitsForAStart(t *testing.T) {
	requireGroups(t)
	name := "/box-" + record.NewID()
	group, err := cgroups.At(name)
	if err != nil {
		t.Fatal(err)
	}
	cmd := sleeper(t)
	occupy(t, group.Dir(), cmd)
	ended := make(chan struct{})
	go func() {
		_ = cmd.Wait() // killed, as checked below
		close(ended)
	}()
	over := func(ctx context.Context) error {
		select {
		case <-ended:
			return nil
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	r := fake(t, logs("container does not exist"))
	r.Root = t.TempDir()
	state := filepath.Join(r.Root, "web")
	if err := os.Mkdir(state, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := r.Clear(t.Context(), "web", name, over); err != nil {
		t.Error(err)
	}
	checkGone(t, group.Dir())
	checkGone(t, state)
}
