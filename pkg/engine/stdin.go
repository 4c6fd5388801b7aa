package engine

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"box/internal/errdefs"
	"box/pkg/terminal"
)

// pump copies stdin to the container until end of file, the detach keys, or
// stop. It waits with poll(2) for input and for stop together, so that it never
// takes input that belongs to whoever reads stdin next.
type pump struct {
	detached chan struct{} // closed when the detach keys were typed
	to       *os.File
	wake     *os.File // closing it stops the pump
	done     chan struct{}
}

// startPump copies from one file to the other and closes that at the end of
// the input. to is in Go's poller: the monitor made it so.
func startPump(from, to *os.File, keys []byte) (*pump, error) {
	r, w, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("attach stdin: %w", err)
	}
	p := &pump{detached: make(chan struct{}), to: to, wake: w, done: make(chan struct{})}
	go func() {
		defer close(p.done)
		defer r.Close()
		p.run(from, r, &keyMatcher{keys: keys})
	}()
	return p, nil
}

func (p *pump) stop() {
	_ = p.wake.Close() // an empty pipe
	// A container that does not read its input must not keep the session open.
	_ = p.to.SetWriteDeadline(time.Now())
	<-p.done
}

const inputChunk = 32 << 10

func (p *pump) run(from, wake *os.File, keys *keyMatcher) {
	buf := make([]byte, inputChunk)
	for waitReadable(from, wake) {
		n := 0
		err := control(from, func(fd int) (err error) {
			n, err = unix.Read(fd, buf)
			return err
		})
		if errors.Is(err, unix.EINTR) || errors.Is(err, unix.EAGAIN) {
			continue
		}
		if err != nil || n <= 0 {
			// End of file: the container sees it too. A pty has no end of file to
			// pass on; there the file stays, for the window size.
			if !terminal.Is(p.to) {
				_ = p.to.Close()
			}
			return
		}
		out, detach := keys.feed(buf[:n])
		if _, err := p.to.Write(out); err != nil {
			return // the container has closed its end
		}
		if detach {
			close(p.detached)
			return
		}
	}
}

// waitReadable waits until in can be read; false when stop is closed at its
// other end or polling fails.
func waitReadable(in, stop *os.File) bool {
	fds := []unix.PollFd{{Events: unix.POLLIN}, {Events: unix.POLLIN}}
	for i, f := range []*os.File{stop, in} {
		err := control(f, func(fd int) error {
			fds[i].Fd = int32(fd)
			return nil
		})
		if err != nil {
			return false
		}
	}
	for {
		_, err := unix.Poll(fds, -1)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil || fds[0].Revents != 0 {
			return false
		}
		if fds[1].Revents != 0 {
			return true
		}
	}
}

// control calls f with the descriptor without taking the file out of Go's
// poller, as File.Fd would.
func control(file *os.File, f func(fd int) error) error {
	raw, err := file.SyscallConn()
	if err != nil {
		return err
	}
	var callErr error
	if err := raw.Control(func(fd uintptr) { callErr = f(int(fd)) }); err != nil {
		return err
	}
	return callErr
}

// keyMatcher finds a sequence of keys in the input. Keys that may be the begin
// of the sequence are held back, and passed on when it does not go on.
type keyMatcher struct {
	keys    []byte
	matched int
}

func (k *keyMatcher) feed(in []byte) (out []byte, found bool) {
	if len(k.keys) == 0 {
		return in, false
	}
	out = make([]byte, 0, len(in)+k.matched)
	for _, c := range in {
		if c != k.keys[k.matched] {
			out = append(out, k.keys[:k.matched]...)
			k.matched = 0
		}
		if c != k.keys[k.matched] {
			out = append(out, c)
			continue
		}
		if k.matched++; k.matched == len(k.keys) {
			return out, true
		}
	}
	return out, false
}

// DefaultDetachKeys is Docker's ctrl-p,ctrl-q.
const DefaultDetachKeys = "ctrl-p,ctrl-q"

// ParseDetachKeys reads a comma-separated list of single characters and
// ctrl-X, as Docker's --detach-keys takes it.
func ParseDetachKeys(s string) ([]byte, error) {
	if s == "" {
		return nil, nil
	}
	var keys []byte
	for _, key := range strings.Split(s, ",") {
		c, ok := parseKey(key)
		if !ok {
			return nil, errdefs.New(errdefs.ErrInvalid, "detach keys %q: %q is neither one character nor ctrl-X", s, key)
		}
		keys = append(keys, c)
	}
	return keys, nil
}

func parseKey(key string) (byte, bool) {
	if len(key) == 1 {
		return key[0], true
	}
	name, ok := strings.CutPrefix(strings.ToLower(key), "ctrl-")
	if !ok || len(name) != 1 {
		return 0, false
	}
	// ASCII: the control characters are 64 below @ A … Z [ \ ] ^ _.
	c := strings.ToUpper(name)[0]
	return c - '@', c >= '@' && c <= '_'
}
