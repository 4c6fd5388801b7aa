package runtime

import (
	"slices"

	"box/internal/errdefs"
)

// This file is the state machine of a container: which verb is for which state, and
// what is said to the others. Where a container stands is looked up in the kernel
// (status); what may be done to it there is only written here.

// verb is something that can be asked of a container.
type verb struct {
	// from are the states in which it can be done.
	from []Status
	// refusal says why it cannot be done in any other; the words are runc's.
	refusal func(id string, st Status) error
}

// The verbs that not every state allows. Signals are missing: who they are for is
// known only when they are sent (Kill).
var (
	verbStart = verb{[]Status{Created}, func(id string, st Status) error {
		switch st {
		case Stopped:
			return errdefs.New(errdefs.ErrConflict, "cannot start a container that has stopped: %s", id)
		case Paused:
			return errdefs.WithHint(errdefs.New(errdefs.ErrConflict, "cannot start a container in the paused state: %s", id), "Resume it first.")
		}
		return errdefs.New(errdefs.ErrConflict, "cannot start an already running container: %s is %s", id, st)
	}}
	verbExec = verb{[]Status{Created, Running}, func(id string, st Status) error {
		if st == Paused {
			return errdefs.WithHint(errdefs.New(errdefs.ErrConflict, "cannot exec in a paused container: %s", id),
				"Resume it, or use --ignore-paused.")
		}
		return errdefs.New(errdefs.ErrConflict, "cannot exec in a %s container: container not running: %s", st, id)
	}}
	verbPause = verb{[]Status{Created, Running}, func(id string, st Status) error {
		return errdefs.New(errdefs.ErrConflict, "container not running or created: %s is %s", id, st)
	}}
	verbResume = verb{[]Status{Paused}, func(id string, st Status) error {
		return errdefs.New(errdefs.ErrConflict, "container not paused: %s is %s", id, st)
	}}
	verbWatch = verb{[]Status{Created, Running, Paused}, func(id string, st Status) error {
		return errdefs.New(errdefs.ErrConflict, "container with id %s is not running: it is %s", id, st)
	}}
	verbUpdate = verb{[]Status{Created, Running, Paused}, func(id string, st Status) error {
		return errdefs.New(errdefs.ErrConflict, "container not running: %s is %s", id, st)
	}}
	verbCheckpoint = verb{[]Status{Running, Paused}, func(id string, st Status) error {
		return errdefs.New(errdefs.ErrConflict, "Container cannot be checkpointed in %s state: %s", st, id)
	}}
	verbDelete = verb{[]Status{Created, Stopped}, func(id string, st Status) error {
		return errdefs.WithHint(
			errdefs.New(errdefs.ErrConflict, "cannot delete container %s that is not stopped: %s", id, st),
			"Kill it first, or use --force.")
	}}
)

// allows returns nil if the verb is for state st, and the refusal if it is not.
func (v *verb) allows(id string, st Status) error {
	if slices.Contains(v.from, st) {
		return nil
	}
	return v.refusal(id, st)
}

// ready loads a container that is in a state for v.
func (r *Runtime) ready(id string, v *verb) (*container, error) {
	c, err := r.load(id)
	if err != nil {
		return nil, err
	}
	return c, v.allows(id, r.status(c))
}

// change does something to a container that is in a state for v, while no other
// process changes it. Two kinds of verbs stay outside: signals, which must get through
// to a container whose create or start hangs, and exec, which hooks may call.
func (r *Runtime) change(id string, v *verb, do func(*container) error) error {
	lock, err := r.lock(id)
	if err != nil {
		return err
	}
	defer lock.Close()
	c, err := r.load(id)
	if err != nil {
		return err
	}
	if err := v.allows(id, c.status()); err != nil {
		return err
	}
	return do(c)
}
