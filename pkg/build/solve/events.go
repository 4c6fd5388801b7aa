package solve

import (
	"fmt"
	"strings"
	"sync"
	"time"

	"box/pkg/build/plan"
)

// EventKind says what happened to a step.
type EventKind int

// The kinds of events. A step has at most one Started and exactly one of
// Cached, Done, Failed and Cancelled, which is its last event.
const (
	// Started: the step begins; Text is the reason why no earlier result serves, if known.
	Started EventKind = iota
	// Output: Text is what the command wrote, in whole lines but for the last.
	Output
	// Cached: an earlier result serves.
	Cached
	// Done: the step has succeeded.
	Done
	// Failed: the step has failed; Text is the error.
	Failed
	// Cancelled: the step was ended because another one failed or the build was stopped.
	Cancelled
)

// Event is one thing that happened in a build.
type Event struct {
	// Step numbers the step from 1; Name is how it is shown.
	Step int
	Name string
	Kind EventKind
	Text string
	// Took is how long the step ran; set with Done, Failed and Cancelled.
	Took time.Duration
}

// reporter passes events on one at a time.
type reporter struct {
	mu   sync.Mutex
	sink func(Event)
}

func (r *reporter) report(op *plan.Op, kind EventKind, text string, took time.Duration) {
	if r.sink == nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.sink(Event{Step: op.Index + 1, Name: op.Name, Kind: kind, Text: text, Took: took})
}

// RunError is a command of a RUN step that failed.
type RunError struct {
	// Args is the command.
	Args []string
	// ExitCode is its exit code, 128+n if signal n killed it.
	ExitCode int
	// Tail are the last lines that it wrote.
	Tail []string
	// Reason is set when the command could not be started at all.
	Reason string
}

// Error gives the exit code and the last lines.
func (e *RunError) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "process %q did not complete successfully: exit code: %d", strings.Join(e.Args, " "), e.ExitCode)
	if e.Reason != "" {
		b.WriteString(": " + e.Reason)
	}
	if len(e.Tail) > 0 {
		b.WriteString("; its last lines:")
		for _, line := range e.Tail {
			b.WriteString("\n    " + line)
		}
	}
	return b.String()
}
