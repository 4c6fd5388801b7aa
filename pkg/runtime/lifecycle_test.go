package runtime

import (
	"errors"
	"os"
	"strings"
	"testing"

	"box/internal/errdefs"
)

// Every verb in every state: what is not allowed is refused in the words that callers
// look for.
func TestStateMachine(t *testing.T) {
	all := []Status{Creating, Created, Running, Paused, Stopped}
	for name, c := range map[string]struct {
		verb    *verb
		refused map[Status]string // the others are allowed
	}{
		"start": {&verbStart, map[Status]string{
			Creating: "already running", Running: "cannot start an already running container",
			Paused: "cannot start a container in the paused state", Stopped: "cannot start a container that has stopped",
		}},
		"exec": {&verbExec, map[Status]string{
			Creating: "container not running", Paused: "cannot exec in a paused container",
			Stopped: "cannot exec in a stopped container",
		}},
		"pause": {&verbPause, map[Status]string{
			Creating: "container not running", Paused: "container not running or created", Stopped: "container not running",
		}},
		"resume": {&verbResume, map[Status]string{
			Creating: "container not paused", Created: "container not paused",
			Running: "container not paused", Stopped: "container not paused",
		}},
		"update": {&verbUpdate, map[Status]string{Creating: "container not running", Stopped: "container not running"}},
		"watch":  {&verbWatch, map[Status]string{Creating: "is not running", Stopped: "container with id x is not running"}},
		"delete": {&verbDelete, map[Status]string{
			Creating: "not stopped: creating", Running: "cannot delete container x that is not stopped: running",
			Paused: "not stopped: paused",
		}},
	} {
		for _, st := range all {
			err := c.verb.allows("x", st)
			want, refused := c.refused[st]
			if refused != (err != nil) || err != nil && !strings.Contains(err.Error(), want) {
				t.Errorf("%s when %s: %v, want %q", name, st, err, want)
			}
		}
	}
}

// A create that was killed after it had written its record holds no lock any more: to
// each verb, its container has stopped, and delete needs no force. While it lives, it
// holds the lock.
func TestDeadCreateHasStopped(t *testing.T) {
	r := &Runtime{Root: t.TempDir()}
	c := &container{dir: r.dir("x"), record: record{State: State{ID: "x", Status: Creating}, BootID: bootID()}}
	if err := errors.Join(os.Mkdir(c.dir, 0o700), c.save()); err != nil {
		t.Fatal(err)
	}
	lock, err := r.lock("x")
	if err != nil {
		t.Fatal(err)
	}
	if st, err := r.State("x"); err != nil || st.Status != Creating {
		t.Errorf("while it is created: %+v, %v", st, err)
	}
	lock.Close()
	if st, err := r.State("x"); err != nil || st.Status != Stopped {
		t.Errorf("after its create has died: %+v, %v", st, err)
	}
	if err := r.Start(t.Context(), "x"); err == nil || !strings.Contains(err.Error(), "cannot start a container that has stopped") {
		t.Errorf("start: %v", err)
	}
	if err := r.Delete(t.Context(), "x", false); err != nil {
		t.Errorf("delete: %v", err)
	}
	if _, err := r.State("x"); !errors.Is(err, errdefs.ErrNotFound) {
		t.Errorf("after delete: %v", err)
	}
}
