package cli

import (
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"

	"golang.org/x/term"
)

// progress shows how far the layers of an image have come: as bars that are
// drawn again and again on a terminal, as one line at the begin and one at the
// end of each layer elsewhere. It is used by several goroutines at once.
type progress struct {
	w     io.Writer
	width int // columns of the terminal; 0 if it is none
	verb  string

	mu     sync.Mutex
	layers []*layer
	drawn  int // lines on the screen that are ours
	stop   chan struct{}
	done   chan struct{}
}

// layer is one line.
type layer struct {
	id          string
	done, total int64
	state       string // empty while it moves
}

// redrawEvery is short enough to look alive and long enough to cost nothing.
const redrawEvery = 100 * time.Millisecond

// newProgress shows on w; verb is what happens: "Pulling", "Pushing". finish
// must be called in the end.
func newProgress(w io.Writer, verb string) *progress {
	p := &progress{w: w, verb: verb, width: columns(w), stop: make(chan struct{}), done: make(chan struct{})}
	go p.redraw()
	return p
}

// columns is the width of the terminal w, or 0 if w is none.
func columns(w io.Writer) int {
	if !isTerminal(w) {
		return 0
	}
	n, _, err := term.GetSize(int(w.(*os.File).Fd()))
	if err != nil || n <= 0 {
		return 80
	}
	return n
}

func (p *progress) redraw() {
	defer close(p.done)
	if p.width == 0 {
		return
	}
	tick := time.NewTicker(redrawEvery)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			p.mu.Lock()
			p.draw()
			p.mu.Unlock()
		case <-p.stop:
			return
		}
	}
}

// finish shows the last state; nothing is drawn after it.
func (p *progress) finish() {
	close(p.stop)
	<-p.done
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.width > 0 {
		p.draw()
	}
}

// Start implements registry.Progress.
func (p *progress) Start(id string, total int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.layers = append(p.layers, &layer{id: id, total: total})
	if p.width == 0 {
		fmt.Fprintf(p.w, "%s: %s (%s)\n", id, p.verb, size(total))
	}
}

// Update implements registry.Progress.
func (p *progress) Update(id string, done int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if l := p.find(id); l != nil {
		l.done = done
	}
}

// Done implements registry.Progress.
func (p *progress) Done(id, state string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	l := p.find(id)
	if l == nil {
		l = &layer{id: id}
		p.layers = append(p.layers, l)
	}
	l.state = state
	if p.width == 0 {
		fmt.Fprintf(p.w, "%s: %s\n", id, state)
	}
}

func (p *progress) find(id string) *layer {
	for _, l := range p.layers {
		if l.id == id && l.state == "" {
			return l
		}
	}
	return nil
}

// draw writes all lines over those of the last time. The caller holds mu.
func (p *progress) draw() {
	var b strings.Builder
	if p.drawn > 0 {
		fmt.Fprintf(&b, "\x1b[%dA", p.drawn)
	}
	for _, l := range p.layers {
		fmt.Fprintf(&b, "\r%s\x1b[K\n", ellipsis(l.line(p.verb, p.width), p.width-1))
	}
	p.drawn = len(p.layers)
	// A terminal that is gone has nobody to tell.
	_, _ = io.WriteString(p.w, b.String())
}

// line is "id: Pulling [=====>    ] 12MB/47MB".
func (l *layer) line(verb string, width int) string {
	if l.state != "" {
		return l.id + ": " + l.state
	}
	counts := size(l.done)
	if l.total > 0 {
		counts += "/" + size(l.total)
	}
	bar := ""
	if room := width - len(l.id) - len(verb) - 30; l.total > 0 && room >= 10 {
		bar = drawBar(l.done, l.total, min(room, 50)) + " "
	}
	return fmt.Sprintf("%s: %s %s%s", l.id, verb, bar, counts)
}

// drawBar is a bar of n columns between brackets.
func drawBar(done, total int64, n int) string {
	full := int(min(done, total) * int64(n) / total)
	bar := strings.Repeat("=", full)
	if full < n {
		bar += ">"
	}
	return fmt.Sprintf("[%-*s]", n, bar)
}
