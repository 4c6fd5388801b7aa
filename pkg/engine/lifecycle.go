package engine

import (
	"context"
	"errors"
	"fmt"
	"io"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"box/internal/errdefs"
	"box/pkg/ocirt"
	"box/pkg/record"
)

// find looks a container up after clearing away what killed processes left.
func (e *Engine) find(ctx context.Context, nameOrID string) (*record.Record, error) {
	if err := e.sweepContainers(ctx); err != nil {
		return nil, err
	}
	r, err := e.records.Find(nameOrID)
	if err != nil {
		return nil, err
	}
	return e.current(ctx, r)
}

// current corrects a record that says "running" although no monitor is there:
// after a reboot the run directory, which Sweep goes by, is gone too.
func (e *Engine) current(ctx context.Context, r *record.Record) (*record.Record, error) {
	if r.State.Status != record.Running || e.records.Locked(r.ID) {
		return r, nil
	}
	if err := e.recover(ctx, r.ID); err != nil {
		return nil, err
	}
	return e.records.Load(r.ID)
}

// Kill sends a signal to the container's first process.
func (e *Engine) Kill(ctx context.Context, nameOrID string, sig syscall.Signal) error {
	r, err := e.find(ctx, nameOrID)
	if err != nil {
		return err
	}
	if r.State.Status != record.Running {
		return notRunning("kill", r)
	}
	err = runtimeOf(r).Kill(ctx, r.ID, sig, false)
	if errors.Is(err, errdefs.ErrNotFound) || errors.Is(err, errdefs.ErrConflict) {
		return notRunning("kill", r) // it ended meanwhile
	}
	if err != nil {
		return ocirt.Explain(err, "kill container %s", r.Name)
	}
	return nil
}

func notRunning(verb string, r *record.Record) error {
	return errdefs.New(errdefs.ErrConflict, "%s container %s: it is not running", verb, r.Name)
}

// Wait waits until the container is over and returns its exit code; at once for
// one that is not running. If the container is removed meanwhile the code is
// that of its end all the same.
func (e *Engine) Wait(ctx context.Context, nameOrID string) (int, error) {
	r, err := e.find(ctx, nameOrID)
	if err != nil {
		return 0, err
	}
	return e.waitFor(ctx, r)
}

// waitFor waits for the end of the container's present run.
func (e *Engine) waitFor(ctx context.Context, r *record.Record) (int, error) {
	for {
		code, err := e.waitOnce(ctx, r)
		if !errors.Is(err, record.ErrRunning) {
			return code, err
		}
		// It was about to start when it was looked at.
		if r, err = e.records.Load(r.ID); err != nil {
			return 0, err
		}
	}
}

func (e *Engine) waitOnce(ctx context.Context, r *record.Record) (int, error) {
	// A container that has just exited is over when its monitor has let go.
	if r.State.Status != record.Running && !e.records.Locked(r.ID) {
		return r.State.ExitCode, nil
	}
	w, err := e.watch(r)
	if errors.Is(err, errdefs.ErrNotFound) {
		return e.exitCode(ctx, r.ID)
	}
	if err != nil {
		return 0, err
	}
	return w.wait(ctx)
}

// watcher is a connection to a monitor on which nothing comes but the end.
type watcher struct {
	engine *Engine
	record *record.Record
	conn   *record.Conn
}

func (e *Engine) watch(r *record.Record) (*watcher, error) {
	conn, err := e.records.Dial(r.ID)
	if err != nil {
		return nil, err
	}
	if err := conn.SendRequest(record.Request{Op: record.OpWait}); err != nil {
		return nil, errors.Join(errdefs.Wrap(errdefs.ErrNotFound, err), conn.Close())
	}
	return &watcher{e, r, conn}, nil
}

func (w *watcher) wait(ctx context.Context) (int, error) {
	defer w.conn.Close()
	stop := context.AfterFunc(ctx, func() { _ = w.conn.Close() })
	defer stop()
	event, _, err := w.conn.ReadEvent()
	if cause := context.Cause(ctx); cause != nil {
		return 0, cause
	}
	switch {
	case err == nil && event.Kind == record.EventExited:
		return event.Code, nil
	case err == nil:
		return 0, event.Err()
	case !errors.Is(err, io.EOF) && !errors.Is(err, unix.ECONNRESET):
		return 0, fmt.Errorf("wait for container %s: %w", w.record.Name, err)
	}
	return w.engine.exitCode(ctx, w.record.ID)
}

// exitCode reads the code from the record after the monitor has gone: it
// finished just now, or it was killed. It waits for the lock first: a process
// that is torn down by the kernel closes its connections before its lock. If the
// container has been started again it returns record.ErrRunning.
func (e *Engine) exitCode(ctx context.Context, id string) (int, error) {
	lock, err := e.records.LockAtRest(ctx, id)
	if err != nil {
		return 0, err
	}
	if err := e.recoverLocked(ctx, id, lock); err != nil {
		return 0, err
	}
	r, err := e.records.Load(id)
	if errors.Is(err, errdefs.ErrNotFound) {
		return killedCode, nil // auto-removed; nobody is left who knows the code
	}
	if err != nil {
		return 0, err
	}
	return r.State.ExitCode, nil
}

// Stop asks the container to end, with its stop signal, and kills it when it
// has not ended after timeout: nil for the container's own, negative for ever.
// A container that is not running is not an error.
func (e *Engine) Stop(ctx context.Context, nameOrID string, timeout *time.Duration) error {
	r, err := e.find(ctx, nameOrID)
	if err != nil || r.State.Status != record.Running {
		return err
	}
	sig, err := ParseSignal(or(r.Config.StopSignal, "TERM"))
	if err != nil {
		return err
	}
	patience := time.Duration(r.Config.StopTimeout) * time.Second
	if timeout != nil {
		patience = *timeout
	}
	ended, err := e.killAndWait(ctx, r, sig, patience)
	if err != nil || ended {
		return err
	}
	_, err = e.killAndWait(ctx, r, unix.SIGKILL, -1)
	return err
}

// killAndWait sends sig and waits for the end, for ever if patience is
// negative. The connection is made before the signal, so that the end is not
// missed.
func (e *Engine) killAndWait(ctx context.Context, r *record.Record, sig syscall.Signal, patience time.Duration) (ended bool, err error) {
	w, err := e.watch(r)
	if errors.Is(err, errdefs.ErrNotFound) {
		_, err = e.exitCode(ctx, r.ID)
		if errors.Is(err, record.ErrRunning) {
			err = nil // what we were to end has ended
		}
		return true, err
	}
	if err != nil {
		return false, err
	}
	err = runtimeOf(r).Kill(ctx, r.ID, sig, false)
	if err != nil && !errors.Is(err, errdefs.ErrNotFound) && !errors.Is(err, errdefs.ErrConflict) {
		return false, errors.Join(err, w.conn.Close())
	}
	limited, cancel := ctx, context.CancelFunc(func() {})
	if patience >= 0 {
		limited, cancel = context.WithTimeoutCause(ctx, patience, errPatience)
	}
	defer cancel()
	_, err = w.wait(limited)
	if errors.Is(err, errPatience) {
		return false, nil
	}
	return err == nil, err
}

var errPatience = errors.New("stop timeout is over")

// RemoveOptions say how far Remove may go.
type RemoveOptions struct {
	Force   bool // kill it first if it runs
	Volumes bool // also remove its anonymous volumes
}

// Remove removes a container and everything of it but its named volumes.
func (e *Engine) Remove(ctx context.Context, nameOrID string, o RemoveOptions) error {
	r, err := e.find(ctx, nameOrID)
	if err != nil {
		return err
	}
	lock, err := e.lockEnded(ctx, r, o.Force)
	if err != nil {
		return fmt.Errorf("remove container %s: %w", r.Name, err)
	}
	return errors.Join(e.remove(r.ID, o.Volumes), lock.Unlock())
}

// lockEnded takes the lock of a container that does not run, or, with force,
// after it has been killed: again if somebody starts it meanwhile.
func (e *Engine) lockEnded(ctx context.Context, r *record.Record, force bool) (*record.Lock, error) {
	for {
		if r.State.Status == record.Running {
			if !force {
				return nil, errdefs.WithHint(errdefs.New(errdefs.ErrConflict, "it is running"),
					"stop it first with `box stop %s`, or use `box rm --force`", r.Name)
			}
			if _, err := e.killAndWait(ctx, r, unix.SIGKILL, -1); err != nil {
				return nil, err
			}
		}
		lock, err := e.records.LockAtRest(ctx, r.ID)
		if !errors.Is(err, record.ErrRunning) {
			return lock, err
		}
		if r, err = e.records.Load(r.ID); err != nil {
			return nil, err
		}
	}
}

// remove deletes a container that does not run. The caller holds the lock.
func (e *Engine) remove(id string, volumes bool) error {
	r, err := e.records.Load(id)
	switch {
	case errors.Is(err, errdefs.ErrNotFound):
		return nil // it was auto-removed, or somebody was quicker
	case errors.Is(err, errdefs.ErrCorrupt):
		return e.scrap(id, nil)
	case err != nil:
		return err
	case r.State.Status == record.Running:
		return errdefs.New(errdefs.ErrConflict, "remove container %s: it is running", r.Name)
	}
	// From here on a killed remover is finished by the next Sweep.
	r.State.Status = record.Removing
	r.Host.AutoRemove = r.Host.AutoRemove || volumes
	if err := e.records.Save(r, record.Volatile); err != nil {
		return err
	}
	return e.scrap(id, r)
}

// scrap deletes everything that create made, in an order that can be repeated.
// r is nil when there is no readable record: anonymous volumes are unknown
// then. The caller holds the lock.
func (e *Engine) scrap(id string, r *record.Record) error {
	ov, err := e.overlays()
	if err != nil {
		return err
	}
	return e.records.Scrap(id, r, ov.RemoveActive)
}
