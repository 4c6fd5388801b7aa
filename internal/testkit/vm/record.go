package vm

import (
	"io"
	"sync"
	"time"
)

// record keeps what somebody says; its methods may be called from several goroutines.
type record struct {
	mu   sync.Mutex
	text []byte
	news chan struct{} // holds something once more has been said; nil: nobody asks
}

// Write is io.Writer's; it takes everything.
func (r *record) Write(p []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.text = append(r.text, p...)
	select {
	case r.news <- struct{}{}:
	default:
	}
	return len(p), nil
}

// fill copies source until it ends, which it does with the process on its other side.
func (r *record) fill(source io.Reader) { _, _ = io.Copy(r, source) }

// since is what was said after the first n bytes.
func (r *record) since(n int) string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return string(r.text[n:])
}

// size is how many bytes have been said.
func (r *record) size() int { return len(r.since(0)) }

// settle waits until something has been said after the first n bytes, at most for
// patience, and then until nothing has been for the time of silence. It tells
// whether anything was. Nobody says when a kernel has finished, so this goes by the clock.
func (r *record) settle(n int, patience, silence time.Duration) bool {
	limit := time.After(patience)
	for {
		var quiet <-chan time.Time
		if r.size() > n {
			quiet = time.After(silence)
		}
		select {
		case <-r.news:
		case <-quiet:
			return true
		case <-limit:
			return r.size() > n
		}
	}
}
