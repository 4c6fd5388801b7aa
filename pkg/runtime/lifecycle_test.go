package runtime

import (
	"strings"
	"testing"
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
