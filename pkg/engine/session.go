package engine

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"

	"box/internal/errdefs"
	"box/pkg/record"
	"box/pkg/terminal"
)

// Session is a client's connection to a running container.
type Session struct {
	engine *Engine
	record *record.Record
	conn   *record.Conn
	io     Stdio

	input  *os.File     // writing end of stdin, or the pty master; nil without stdin
	raw    func() error // leaves raw mode
	pump   *pump
	resize chan os.Signal

	once sync.Once
	code int
	err  error
}

// ErrDetached is returned by Wait when the user typed the detach keys: the
// container runs on.
var ErrDetached = errors.New("detached")

func newSession(e *Engine, r *record.Record, conn *record.Conn, io Stdio) *Session {
	return &Session{engine: e, record: r, conn: conn, io: io}
}

// request sends the first message with the client's output files.
func (s *Session) request(op record.Op) error {
	req := record.Request{Op: op, Stdin: s.io.Stdin != nil, Stdout: s.io.Stdout != nil}
	// With a terminal there is one stream: the pty.
	req.Stderr = s.io.Stderr != nil && !s.record.Config.Tty
	var files []*os.File
	if req.Stdout {
		files = append(files, s.io.Stdout)
	}
	if req.Stderr {
		files = append(files, s.io.Stderr)
	}
	if s.record.Config.Tty && s.io.Stdin != nil {
		req.Rows, req.Cols, _ = terminal.Size(s.io.Stdin) // 0, 0 where it has none
		// Before the first output, which has its line ends from the container's
		// terminal already.
		if err := s.enterRaw(); err != nil {
			return err
		}
	}
	return s.conn.SendRequest(req, files...)
}

// awaitStart reads the answer and starts the pumps. A cancelled ctx does not
// stop the monitor: what happens is told by the record.
func (s *Session) awaitStart(ctx context.Context) error {
	stop := context.AfterFunc(ctx, func() { _ = s.conn.Close() })
	defer stop()
	event, files, err := s.conn.ReadEvent()
	if cause := context.Cause(ctx); cause != nil {
		return cause
	}
	if errors.Is(err, io.EOF) {
		return errdefs.New(errdefs.ErrUnavailable, "its monitor ended unexpectedly")
	}
	if err != nil {
		return err
	}
	if err := event.Err(); err != nil {
		return err
	}
	s.record.State.Status, s.record.State.Pid = record.Running, event.Pid
	for i, f := range files {
		if i == 0 && s.io.Stdin != nil {
			s.input = f
			continue
		}
		_ = f.Close() // more than asked for
	}
	return s.attachInput()
}

// attachInput starts to copy stdin.
func (s *Session) attachInput() error {
	if s.input == nil {
		return nil
	}
	p, err := startPump(s.io.Stdin, s.input, s.detachKeys())
	if err != nil {
		return err
	}
	s.pump = p
	if s.raw != nil {
		s.followWindow()
	}
	return nil
}

// detachKeys: without a terminal every byte belongs to the container.
func (s *Session) detachKeys() []byte {
	if !s.record.Config.Tty {
		return nil
	}
	return s.io.DetachKeys
}

// enterRaw hands the keyboard to the container, if stdin is one.
func (s *Session) enterRaw() error {
	if !terminal.Is(s.io.Stdin) {
		return nil
	}
	var err error
	s.raw, err = terminal.MakeRaw(s.io.Stdin)
	return err
}

// followWindow lets the container's window follow ours.
func (s *Session) followWindow() {
	s.resize = make(chan os.Signal, 1)
	signal.Notify(s.resize, unix.SIGWINCH)
	go func(ch <-chan os.Signal) {
		for range ch {
			if rows, cols, err := terminal.Size(s.io.Stdin); err == nil {
				// The master may be closed already: then there is nothing to resize.
				_ = terminal.SetSize(s.input, rows, cols)
			}
		}
	}(s.resize)
}

// Wait returns the exit code when the container is over and torn down, or
// ErrDetached. If the monitor was killed it clears up first. A
// cancelled ctx ends the session, not the container.
func (s *Session) Wait(ctx context.Context) (int, error) {
	s.once.Do(func() {
		s.code, s.err = s.wait(ctx)
		s.close()
	})
	return s.code, s.err
}

// Close leaves the container to itself.
func (s *Session) Close() error {
	s.once.Do(func() {
		s.err = errdefs.New(errdefs.ErrConflict, "wait for container %s: session is closed", s.record.Name)
		s.close()
	})
	return nil
}

func (s *Session) close() {
	if s.pump != nil {
		s.pump.stop()
	}
	if s.resize != nil {
		signal.Stop(s.resize)
		close(s.resize)
	}
	if s.raw != nil {
		_ = s.raw() // a terminal that was hung up has nobody left to tell
	}
	if s.input != nil {
		_ = s.input.Close()
	}
	_ = s.conn.Close()
}

type outcome struct {
	event record.Event
	err   error
}

func (s *Session) wait(ctx context.Context) (int, error) {
	over := make(chan outcome, 1)
	go func() {
		event, files, err := s.conn.ReadEvent()
		for _, f := range files {
			_ = f.Close()
		}
		over <- outcome{event, err}
	}()
	var detached <-chan struct{}
	if s.pump != nil {
		detached = s.pump.detached
	}
	select {
	case o := <-over:
		return s.finish(ctx, o)
	case <-detached:
		return 0, ErrDetached
	case <-ctx.Done():
		return 0, context.Cause(ctx)
	}
}

// finish reads the monitor's last word.
func (s *Session) finish(ctx context.Context, o outcome) (int, error) {
	if o.err != nil {
		return s.engine.exitCode(context.WithoutCancel(ctx), s.record.ID)
	}
	if err := o.event.Err(); err != nil {
		return 0, err
	}
	if o.event.Kind != record.EventExited {
		return 0, errdefs.New(errdefs.ErrInvalid, "wait for container %s: unexpected event %q from its monitor", s.record.Name, o.event.Kind)
	}
	return o.event.Code, nil
}

// killedCode is the exit code of a container that was killed, and of one whose
// monitor was.
const killedCode = 128 + int(unix.SIGKILL)

// ForwardSignals passes the signals that this process gets on to the
// container, as `docker run` does without a terminal, until stop is called.
func (s *Session) ForwardSignals(ctx context.Context) (stop func()) {
	ch := make(chan os.Signal, 16)
	signal.Notify(ch)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for sig := range ch {
			if n, ok := sig.(syscall.Signal); ok && forwarded(n) {
				// The container may be gone: then Wait is about to say so.
				_ = runtimeOf(s.record).Kill(ctx, s.record.ID, n, false)
			}
		}
	}()
	return func() {
		signal.Stop(ch)
		close(ch)
		<-done
	}
}

// forwarded leaves out what is about this process alone: children, the window,
// broken pipes, and the signal by which Go's runtime preempts goroutines.
func forwarded(n syscall.Signal) bool {
	switch n {
	case unix.SIGCHLD, unix.SIGWINCH, unix.SIGPIPE, unix.SIGURG, unix.SIGTTIN, unix.SIGTTOU, unix.SIGTSTP, unix.SIGCONT:
		return false
	}
	return true
}

// Attach joins a running container.
func (e *Engine) Attach(ctx context.Context, nameOrID string, io Stdio) (*Session, error) {
	r, err := e.find(ctx, nameOrID)
	if err != nil {
		return nil, err
	}
	if r.State.Status != record.Running {
		return nil, errdefs.New(errdefs.ErrConflict, "attach to container %s: it is not running", r.Name)
	}
	conn, err := e.records.Dial(r.ID)
	if err != nil {
		return nil, err
	}
	s := newSession(e, r, conn, io)
	if err = s.request(record.OpAttach); err == nil {
		err = s.awaitStart(ctx)
	}
	if err != nil {
		s.close()
		return nil, fmt.Errorf("attach to container %s: %w", r.Name, err)
	}
	return s, nil
}
