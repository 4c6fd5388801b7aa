package engine

import (
	"fmt"
	"os"
	"sync"

	"box/internal/tail"
	"box/pkg/ocirt"
)

// relay stands between a client's streams and a process in a container. The
// process gets pipes: a file or a terminal of the host it could open again
// through /proc/self/fd with other rights than the client has, and a terminal
// answers ioctls too.
type relay struct {
	theirs []*os.File // ends for the process, closed once it has them
	stdin  *pump
	outs   []*tail.Reader
	copies sync.WaitGroup
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
	rest := tail.New(out)
	r.outs = append(r.outs, rest)
	r.copies.Go(func() {
		r.copy(rest, to)
		_ = out.Close() // a process that goes on writing learns that nobody reads
	})
	return nil
}

// copy ends with the output, or when the client cannot be written to.
func (r *relay) copy(out *tail.Reader, to *os.File) {
	buf := make([]byte, inputChunk)
	for {
		n, err := out.Read(buf)
		if err != nil {
			return
		}
		if _, err := to.Write(buf[:n]); err != nil {
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
	for _, out := range r.outs {
		out.End()
	}
	r.copies.Wait()
}
