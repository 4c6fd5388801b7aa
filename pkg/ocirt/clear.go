package ocirt

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"
)

// Clear removes a container whose user was killed, perhaps together with the
// runtime, at any moment of its making or running. over waits until no runtime
// process works for the container any more, or its context ends. A container
// that does not exist is no error.
func (r Runtime) Clear(ctx context.Context, id, cgroupsPath string, over func(context.Context) error) error {
	if err := killUntil(ctx, cgroupsPath, over); err != nil {
		return err
	}
	deleted := r.Delete(ctx, id, true)
	// The runtime may have been killed before it knew of its own container.
	if err := KillCgroups(ctx, cgroupsPath); err != nil {
		return errors.Join(deleted, err)
	}
	if r.Root == "" {
		return deleted
	}
	// What the runtime has no words for is no matter once the processes are gone,
	// but its state directory would be in the way of the next container.
	if err := os.RemoveAll(filepath.Join(r.Root, id)); err != nil {
		return fmt.Errorf("remove the runtime's state: %w", err)
	}
	return nil
}

// killUntil kills what is in the groups until the runtime is over: it may only
// just be making processes, and one that waits in the container for its start
// counts as the runtime until it is killed.
func killUntil(ctx context.Context, cgroupsPath string, over func(context.Context) error) error {
	ctx, cancel := context.WithTimeoutCause(ctx, killLimit, errKillLimit)
	defer cancel()
	for patience := time.Millisecond; ; patience *= 2 {
		if err := KillCgroups(ctx, cgroupsPath); err != nil {
			return err
		}
		turn, done := context.WithTimeoutCause(ctx, patience, errTurn)
		err := over(turn)
		done()
		if !errors.Is(err, errTurn) {
			return err
		}
	}
}

var errTurn = errors.New("it is time to kill again")
