package engine

import (
	"context"
	"errors"
	"fmt"
	"time"

	"box/internal/errdefs"
	"box/pkg/ocirt"
	"box/pkg/record"
)

// Sweep clears up behind processes that were killed, and lets the network
// repair what others have done to its rules. Every method that looks at
// containers does the first part by itself, and List does both.
func (e *Engine) Sweep(ctx context.Context) error {
	err := e.sweepContainers(ctx)
	networks, openErr := e.networks()
	if openErr != nil {
		return errors.Join(err, openErr)
	}
	return errors.Join(err, networks.Sweep(ctx, e.records.Locked))
}

// sweepContainers costs one look at the run directory when there is nothing to
// do: a run directory exists exactly as long as somebody works for its
// container, and the kernel tells whether he lives.
func (e *Engine) sweepContainers(ctx context.Context) error {
	ids, err := e.records.Orphans()
	if err != nil {
		return err
	}
	var errs []error
	others := false
	for _, id := range ids {
		if !record.IsID(id) {
			others = true
			continue
		}
		if err := e.recover(ctx, id); err != nil {
			errs = append(errs, fmt.Errorf("clear up container %s: %w", record.Short(id), err))
		}
	}
	if others && e.config.SweepOthers != nil {
		errs = append(errs, e.config.SweepOthers(ctx))
	}
	return errors.Join(errs...)
}

// recover brings a container whose monitor, creator or remover is gone into a
// resting state. If somebody holds the lock there is nothing to recover.
func (e *Engine) recover(ctx context.Context, id string) error {
	lock, err := e.records.TryLock(id)
	if errors.Is(err, record.ErrLocked) {
		return nil
	}
	if err != nil {
		return err
	}
	return e.recoverLocked(ctx, id, lock)
}

// recoverLocked does the work, and lets the lock go. A container that is at
// rest already is left as it is.
func (e *Engine) recoverLocked(ctx context.Context, id string, lock *record.Lock) error {
	if err := e.bringToRest(ctx, id, lock); err != nil {
		// The run directory stays, so that the next Sweep tries again.
		return errors.Join(err, lock.Abandon())
	}
	return lock.Unlock()
}

func (e *Engine) bringToRest(ctx context.Context, id string, lock *record.Lock) error {
	r, err := e.records.Load(id)
	switch {
	case errors.Is(err, errdefs.ErrNotFound):
		return e.scrap(id, nil)
	case errors.Is(err, errdefs.ErrCorrupt):
		// It stays as Dead: its files may be wanted.
		return ocirt.KillCgroups(ctx, cgroupPath(id))
	case err != nil:
		return err
	}
	if err := e.release(ctx, r, lock); err != nil {
		return err
	}
	return e.settle(r)
}

// release takes from a container what the kernel does not tie to a process.
func (e *Engine) release(ctx context.Context, r *record.Record, lock *record.Lock) error {
	err := runtimeOf(r).Clear(ctx, r.ID, r.Host.CgroupsPath, lock.AwaitRuntime)
	if r.Host.NetworkMode != NetworkBridge {
		return err
	}
	networks, openErr := e.networks()
	if openErr != nil {
		return errors.Join(err, openErr)
	}
	// Nobody else is left to settle behind this container.
	return errors.Join(err, networks.Detach(ctx, r.ID), networks.Settle(ctx, 0))
}

// settle writes down the end of a container, or removes it.
func (e *Engine) settle(r *record.Record) error {
	if r.Host.AutoRemove || r.State.Status == record.Removing {
		return e.scrap(r.ID, r)
	}
	if r.State.Status != record.Running {
		return nil
	}
	r.MarkExited(killedCode, time.Now().UTC())
	r.State.Error = "its monitor was killed"
	return e.records.Save(r, record.Volatile)
}
