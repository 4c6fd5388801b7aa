package monitor

import (
	"os"
	"slices"
	"sync"
	"time"

	"box/internal/tail"
)

// streams are the container's stdio as the monitor sees it.
type streams struct {
	log            *logFile
	stdout, stderr fan
	stdin          *os.File // writing end, or the pty master; nil without stdin
	sources        []*os.File
	rests          []*tail.Reader // of the sources
	pumps          sync.WaitGroup
}

const copyChunk = 32 << 10

// copy takes what comes from r to the log and to every client, until the end.
func (s *streams) copy(name string, r *os.File, to *fan) {
	s.sources = append(s.sources, r)
	rest := tail.New(r)
	s.rests = append(s.rests, rest)
	s.pumps.Go(func() {
		w := s.log.stream(name)
		s.pump(rest, w, to)
		w.flush(time.Now())
	})
}

// pump ends with the end of the stream (for a pty that is EIO), or when the
// container is over and r is silent.
func (s *streams) pump(r *tail.Reader, w *logStream, to *fan) {
	buf := make([]byte, copyChunk)
	for {
		n, err := r.Read(buf)
		if err != nil {
			return
		}
		w.write(buf[:n], time.Now())
		to.write(buf[:n])
	}
}

// drainLimit bounds how long the output of an ended container is taken: somebody
// may go on talking, or a client not listen.
const drainLimit = 10 * time.Second

// drain waits until all output of the ended container is written. Normally
// that is at once: when a container's first process has been reaped, no
// process of its pid namespace is left that could hold a pipe.
func (s *streams) drain() {
	for _, r := range s.rests {
		r.End()
	}
	done := make(chan struct{})
	go func() {
		s.pumps.Wait()
		close(done)
	}()
	limit := time.NewTimer(drainLimit)
	defer limit.Stop()
	select {
	case <-done:
	case <-limit.C:
	}
	for _, r := range s.sources {
		_ = r.Close() // only read from
	}
	_ = s.log.close()
	if s.stdin != nil {
		_ = s.stdin.Close()
	}
}

// fan passes output on to any number of clients. A client that cannot be
// written to any more is dropped; one that is slow slows the container down,
// as a slow terminal does.
type fan struct {
	mu  sync.Mutex
	out []*os.File
}

func (f *fan) add(file *os.File) {
	if file == nil {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.out = append(f.out, file)
}

// remove forgets a client's file and closes it.
func (f *fan) remove(file *os.File) {
	if file == nil {
		return
	}
	f.mu.Lock()
	f.out = slices.DeleteFunc(slices.Clone(f.out), func(o *os.File) bool { return o == file })
	f.mu.Unlock()
	_ = file.Close() // the client's own; the log has everything
}

func (f *fan) write(data []byte) {
	f.mu.Lock()
	out := f.out // replaced, never changed in place
	f.mu.Unlock()
	for _, o := range out {
		if _, err := o.Write(data); err != nil {
			f.remove(o)
		}
	}
}
