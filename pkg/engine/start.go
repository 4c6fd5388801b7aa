package engine

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"syscall"

	"golang.org/x/sys/unix"

	"box/internal/errdefs"
	"box/pkg/ocirt"
	"box/pkg/record"
)

// Stdio is what a client joins to a container. A nil file is not attached.
// Stdout and Stderr are handed over to the monitor and written to from there;
// with a terminal only Stdout is. Stdin is read here.
type Stdio struct {
	Stdin          *os.File
	Stdout, Stderr *os.File
	DetachKeys     []byte // ends the session with ErrDetached; see ParseDetachKeys
}

// Run is Create and Start in one: quicker, because the monitor starts up while
// the container is being made, and leaving nothing when it fails or this
// process is killed before the command runs, if the container is auto-removed.
//
// When the command cannot be started the error is a *record.StartError, with
// the exit code for the command line; unless auto-removed the container stays,
// as with Docker.
func (e *Engine) Run(ctx context.Context, o CreateOptions, io Stdio) (*record.Record, *Session, error) {
	if err := e.sweepContainers(ctx); err != nil {
		return nil, nil, err
	}
	// Pure, and so done before anything is begun: most mistakes end here.
	if _, err := newRecord(record.NewID(), o); err != nil {
		return nil, nil, err
	}
	lock, id, err := e.newLock(ctx)
	if err != nil {
		return nil, nil, err
	}
	conn, err := e.spawn(id, or(o.Network, NetworkBridge), lock)
	if err != nil {
		return nil, nil, errors.Join(err, lock.Unlock())
	}
	r, err := e.prepare(ctx, id, o)
	if err != nil {
		// Without the word the monitor would clear up too, as if we had been killed.
		// If it cannot be sent the monitor is gone already.
		_ = conn.SendRequest(record.Request{Op: record.OpCancel})
		return nil, nil, errors.Join(err, conn.Close(), lock.Unlock())
	}
	s, err := e.begin(ctx, r, lock, conn, io)
	return r, s, err
}

// Start starts a container that was created or has exited. The Session is to
// be closed, or waited for, also if nothing is attached.
func (e *Engine) Start(ctx context.Context, nameOrID string, io Stdio) (*record.Record, *Session, error) {
	r, err := e.find(ctx, nameOrID)
	if err != nil {
		return nil, nil, err
	}
	if r.State.Status == record.Running {
		return r, nil, runsAlready(r)
	}
	// A container that has just exited is locked until its monitor has torn down.
	lock, err := e.records.LockAtRest(ctx, r.ID)
	if errors.Is(err, record.ErrRunning) { // somebody else was starting it
		return e.startedByOthers(r)
	}
	if err != nil {
		return r, nil, fmt.Errorf("start container %s: %w", r.Name, err)
	}
	if r, err = e.startable(r.ID); err != nil {
		return r, nil, errors.Join(err, lock.Unlock())
	}
	conn, err := e.spawn(r.ID, r.Host.NetworkMode, lock)
	if err != nil {
		return r, nil, errors.Join(err, lock.Unlock())
	}
	s, err := e.begin(ctx, r, lock, conn, io)
	return r, s, err
}

func runsAlready(r *record.Record) error {
	return errdefs.New(errdefs.ErrConflict, "start container %s: it is running already", r.Name)
}

// startedByOthers is the outcome of the slower one of two starts.
func (e *Engine) startedByOthers(r *record.Record) (*record.Record, *Session, error) {
	now, err := e.records.Load(r.ID)
	if err != nil {
		return r, nil, err
	}
	return now, nil, runsAlready(now)
}

// startable reads the record again under the lock.
func (e *Engine) startable(id string) (*record.Record, error) {
	r, err := e.records.Load(id)
	if err == nil && r.State.Status != record.Created && r.State.Status != record.Exited {
		err = errdefs.New(errdefs.ErrConflict, "start container %s: it is %s", r.Name, r.State.Status)
	}
	return r, err
}

// Descriptors that a monitor finds open, beside stdio, which is /dev/null.
// Package monitor has the other end of this table.
//
//	3  its first connection (record.Conn)
//	4  the container's lock, held

// spawn starts a monitor for id. It is a session of its own, so that a signal
// to our terminal does not reach it, and has a mount namespace of its own, in
// which it will mount what the host must not see.
func (e *Engine) spawn(id, mode string, lock *record.Lock) (*record.Conn, error) {
	path, err := ocirt.FindProgram(e.config.Monitor, MonitorName)
	if err != nil {
		return nil, err
	}
	ours, theirs, err := record.Pair()
	if err != nil {
		return nil, err
	}
	defer theirs.Close()
	cmd := exec.Command(path, "--root", e.config.Root, "--runroot", e.config.RunRoot, "--network", mode, id)
	cmd.Dir = "/"
	// Nothing of the user's environment: it would reach hooks, and hold secrets.
	cmd.Env = []string{"PATH=" + os.Getenv("PATH")}
	cmd.ExtraFiles = []*os.File{theirs, lock.File()}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Cloneflags: unix.CLONE_NEWNS}
	if err := cmd.Start(); err != nil {
		_ = ours.Close()
		return nil, fmt.Errorf("start monitor: %w", err)
	}
	go func() { _ = cmd.Wait() }() // so that it is no zombie of a long-lived caller
	return ours, nil
}

// begin asks the monitor to start the container. Our share of the lock ends
// here: from now on the monitor's is the one that counts.
func (e *Engine) begin(ctx context.Context, r *record.Record, lock *record.Lock, conn *record.Conn, io Stdio) (*Session, error) {
	s := newSession(e, r, conn, io)
	err := s.request(record.OpStart)
	if err == nil {
		err = s.awaitStart(ctx)
	}
	_ = lock.Abandon() // a descriptor without unwritten data
	if err == nil {
		return s, nil
	}
	s.close()
	var started *record.StartError
	if !errors.As(err, &started) {
		// The monitor is gone without a word: clear up behind it.
		err = errors.Join(fmt.Errorf("start container %s: %w", r.Name, err), e.clearUp(ctx, r.ID))
	}
	return nil, err
}

// clearUp recovers a container whose monitor has just died; a cancelled ctx
// must not keep it from that, but a living monitor does.
func (e *Engine) clearUp(ctx context.Context, id string) error {
	if context.Cause(ctx) != nil {
		return e.recover(context.WithoutCancel(ctx), id)
	}
	_, err := e.exitCode(ctx, id)
	return err
}
