// Package tail reads the output of a process whose end is known from elsewhere.
//
// End of file is not the end: a child that the process has left behind may hold
// the pipe open for ever. So once the process is over, its output counts as
// complete when the pipe has been silent for a while. Where the reader itself
// knows the end (a pty, a pipe with one writer), read the file directly.
package tail

import (
	"errors"
	"io"
	"os"
	"sync/atomic"
	"time"
)

// Patience is how long the output of an ended process must be silent to count as
// complete.
const Patience = 200 * time.Millisecond

// Reader reads a pipe or a pty master that takes deadlines. One goroutine reads;
// any other may call End.
type Reader struct {
	file  *os.File
	ended atomic.Bool
	quiet bool // the last wait passed without a byte
}

// New returns a Reader of f. The file stays the caller's, who closes it.
func New(f *os.File) *Reader { return &Reader{file: f} }

// End says that the process is over. Read returns what is left, and io.EOF once
// nothing comes any more.
func (r *Reader) End() {
	r.ended.Store(true)
	r.listen()
}

// listen gives the next read its time. A file without deadlines is one that has
// ended already.
func (r *Reader) listen() { _ = r.file.SetReadDeadline(time.Now().Add(Patience)) }

// Read is io.Reader's. Errors are the file's, but io.EOF for silence after End.
func (r *Reader) Read(p []byte) (int, error) {
	for {
		n, err := r.file.Read(p)
		switch {
		case err == nil:
			r.quiet = false
			if r.ended.Load() {
				r.listen()
			}
			return n, nil
		case !errors.Is(err, os.ErrDeadlineExceeded):
			return n, err
		case r.quiet:
			return 0, io.EOF
		}
		// The time may have passed while whoever takes the output kept us waiting:
		// the deadline is for silence, so it is given once more.
		r.quiet = true
		r.listen()
	}
}
