package build

import (
	"fmt"
	"io"
	"strings"
	"time"

	"box/pkg/build/solve"
)

// NewPlain gives a listener for Request.Progress that writes lines, in the
// manner of BuildKit's plain progress: each begins with the number of its step.
func NewPlain(w io.Writer) func(Event) {
	p := &plain{w: w, begun: map[int]time.Time{}, now: time.Now}
	return p.event
}

// plain writes events as lines. Write errors are not reported: a build goes on
// when nobody looks any more.
type plain struct {
	w     io.Writer
	begun map[int]time.Time
	now   func() time.Time
}

func (p *plain) event(e Event) {
	var b strings.Builder
	switch e.Kind {
	case solve.Started:
		p.begun[e.Step] = p.now()
		fmt.Fprintf(&b, "#%d %s\n", e.Step, e.Name)
		if e.Text != "" {
			fmt.Fprintf(&b, "#%d cache miss: %s\n", e.Step, e.Text)
		}
	case solve.Cached:
		fmt.Fprintf(&b, "#%d %s\n#%d CACHED\n\n", e.Step, e.Name, e.Step)
	case solve.Output:
		since := p.now().Sub(p.begun[e.Step]).Seconds()
		for line := range strings.Lines(e.Text) {
			fmt.Fprintf(&b, "#%d %.3f %s\n", e.Step, since, strings.TrimRight(line, "\r\n"))
		}
	case solve.Done:
		fmt.Fprintf(&b, "#%d DONE %.1fs\n\n", e.Step, e.Took.Seconds())
	case solve.Failed:
		first, _, _ := strings.Cut(e.Text, "\n")
		fmt.Fprintf(&b, "#%d ERROR: %s\n\n", e.Step, first)
	case solve.Cancelled:
		fmt.Fprintf(&b, "#%d CANCELED\n\n", e.Step)
	}
	io.WriteString(p.w, b.String())
}

// Escape sequences for a terminal.
const (
	dim   = "\x1b[2m"
	red   = "\x1b[31m"
	blue  = "\x1b[34m"
	reset = "\x1b[0m"
)

// NewTerminal gives a listener that writes for a person at a terminal: a line
// for each step with its time, output below it, in colours. It does not move
// the cursor, so that several steps at once stay readable and what scrolled by
// can be read again.
func NewTerminal(w io.Writer) func(Event) {
	t := &terminal{w: w}
	return t.event
}

type terminal struct {
	w    io.Writer
	last int // the step whose output was written last
}

func (t *terminal) event(e Event) {
	var b strings.Builder
	e.Name = visible(e.Name)
	switch e.Kind {
	case solve.Started:
		why := ""
		if e.Text != "" {
			why = dim + "  (" + e.Text + ")" + reset
		}
		fmt.Fprintf(&b, " => %s%s\n", e.Name, why)
		t.last = e.Step
	case solve.Cached:
		fmt.Fprintf(&b, "%s => CACHED %s%s\n", blue, e.Name, reset)
		t.last = 0
	case solve.Output:
		if t.last != e.Step {
			fmt.Fprintf(&b, " => %s\n", e.Name)
			t.last = e.Step
		}
		for line := range strings.Lines(e.Text) {
			fmt.Fprintf(&b, "%s |  %s%s\n", dim, visible(line), reset)
		}
	case solve.Done:
		fmt.Fprintf(&b, "%s => DONE %s %.1fs%s\n", blue, e.Name, e.Took.Seconds(), reset)
		t.last = 0
	case solve.Failed:
		fmt.Fprintf(&b, "%s => ERROR %s%s\n", red, e.Name, reset)
		t.last = 0
	case solve.Cancelled:
		fmt.Fprintf(&b, "%s => CANCELED %s%s\n", dim, e.Name, reset)
		t.last = 0
	}
	io.WriteString(t.w, b.String())
}

// visible gives a line without control characters: what a command writes must
// not move the cursor or retitle the window. Of a line that was written over
// with carriage returns, as progress bars are, the last state is kept.
func visible(line string) string {
	line = strings.TrimRight(line, "\r\n")
	line = line[strings.LastIndexByte(line, '\r')+1:]
	return strings.Map(func(r rune) rune {
		if r != '\t' && (r < ' ' || r >= 0x7f && r < 0xa0) {
			return -1
		}
		return r
	}, line)
}
