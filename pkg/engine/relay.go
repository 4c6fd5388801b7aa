package engine

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"box/pkg/ocirt"
)

// relay stands between a client's streams and a process in a container. The
// process gets pipes: a file or a terminal of the host it could open again
// through /proc/self/fd with other rights than the client has, and a terminal
// answers ioctls too.
type relay struct {
	theirs []*os.File // ends for the process, closed once it has them
	stdin  *pump
	outs   []*os.File // reading ends
	copies sync.WaitGroup
	ending atomic.Bool
}

// newRelay makes a pipe for each stream that there is.
func newRelay(o ExecOptions) (*relay, ocirt.IO, error) {
	r := &relay{}
	var io ocirt.IO
	err := r.input(o.Stdin, &io.Stdin)
	if err == nil {
		err = r.output(o.Stdout, &io.Stdout)
	}
	if err == nil {
		err = r.output(o.Stderr, &io.Stderr)
	}
	if err != nil {
		r.finish()
		return nil, io, err
	}
	return r, io, nil
}

func (r *relay) input(from *os.File, theirs **os.File) error {
	if from == nil {
		return nil
	}
	out, in, err := os.Pipe()
	if err != nil {
		return fmt.Errorf("relay stdin: %w", err)
	}
	*theirs = out
	r.theirs = append(r.theirs, out)
	if r.stdin, err = startPump(from, in, nil); err != nil {
		_ = in.Close() // nothing written
	}
	return err
}

func (r *relay) output(to *os.File, theirs **os.File) error {
	if to == nil {
		return nil
	}
	out, in, err := os.Pipe()
	if err != nil {
		return fmt.Errorf("relay output: %w", err)
	}
	*theirs = in
	r.theirs = append(r.theirs, in)
	r.outs = append(r.outs, out)
	r.copies.Go(func() {
		r.copy(out, to)
		_ = out.Close() // a process that goes on writing learns that nobody reads
	})
	return nil
}

// execPatience is how long the output of an ended process is listened to when
// a child that it left behind still holds it and says nothing.
const execPatience = 200 * time.Millisecond

// copy ends at the end of the stream, when the client cannot be written to, or
// when the process is over and its output is silent.
func (r *relay) copy(out, to *os.File) {
	buf := make([]byte, inputChunk)
	silent := false
	for {
		n, err := out.Read(buf)
		if n > 0 {
			silent = false
			if _, err := to.Write(buf[:n]); err != nil {
				return
			}
		}
		switch {
		case err == nil && !r.ending.Load():
			continue
		case err == nil:
		case errors.Is(err, os.ErrDeadlineExceeded) && !silent:
			// The time may have passed while the client kept us waiting.
			silent = true
		default:
			return
		}
		if out.SetReadDeadline(time.Now().Add(execPatience)) != nil {
			return
		}
	}
}

// finish is called when the process is over: it passes on what is left.
func (r *relay) finish() {
	for _, f := range r.theirs {
		_ = f.Close() // the process had its own
	}
	if r.stdin != nil {
		r.stdin.stop()
		_ = r.stdin.to.Close() // what was not read is not wanted
	}
	r.ending.Store(true)
	for _, out := range r.outs {
		_ = out.SetReadDeadline(time.Now().Add(execPatience)) // closed: then it has ended already
	}
	r.copies.Wait()
}
