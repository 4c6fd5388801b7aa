package record

import (
	"errors"
	"path/filepath"

	"box/internal/errdefs"
)

// The protocol between a client (the engine) and a monitor is one request,
// then events until the monitor closes the connection. Each is one JSON
// document in one SOCK_SEQPACKET packet; open files travel beside it as
// SCM_RIGHTS. The monitor's first connection is a socket pair it inherits; all
// others come to monitor.sock.
//
//	client                          monitor
//	{op:start|attach, stdin,…} +fds →
//	                              ← {event:started, pid} +fd of stdin or of the pty
//	                              ← {event:exited, code}
//	{op:cancel}                     → and the end, instead of start: nothing is to be cleared up
//	{op:wait}                       →
//	                              ← {event:exited, code}
//	                              ← {event:failed, class, message}   instead, at any point
//
// stdout and stderr of the client are handed over as they are and written to by
// the monitor. For stdin the monitor hands over the writing end instead: a pipe
// or, with a terminal, the pty master, on which the client also sets the window
// size. So no byte of input passes through the monitor, and a client that dies
// is just an end of file.

// Op is what a client asks for.
type Op string

// The operations.
const (
	OpStart  Op = "start"  // run the container; only on the inherited connection
	OpCancel Op = "cancel" // there will be no start, and whoever holds the other share of the lock sees to it
	OpAttach Op = "attach" // join the streams of a running container
	OpWait   Op = "wait"   // only tell the end
)

// Request is the one message of a client.
type Request struct {
	Op     Op   `json:"op"`
	Stdin  bool `json:"stdin,omitempty"`  // asks for the writing end of stdin
	Stdout bool `json:"stdout,omitempty"` // first file
	Stderr bool `json:"stderr,omitempty"` // next file
	// Rows and Cols are the size of the client's terminal, 0 if it has none.
	Rows uint16 `json:"rows,omitempty"`
	Cols uint16 `json:"cols,omitempty"`
}

// EventKind is what a monitor tells.
type EventKind string

// The events.
const (
	EventStarted EventKind = "started" // the command runs
	EventExited  EventKind = "exited"  // the container is over, its output written, and what others could see of it taken down
	EventFailed  EventKind = "failed"  // it could not be started, or the request cannot be served
)

// Event is one message of a monitor.
type Event struct {
	Kind    EventKind `json:"event"`
	Pid     int       `json:"pid,omitempty"`
	Code    int       `json:"code"`              // exited: exit code; failed: 125, 126 or 127
	Class   string    `json:"class,omitempty"`   // failed: name of the error class
	Message string    `json:"message,omitempty"` // failed
	Hint    string    `json:"hint,omitempty"`    // failed: the way out
}

// SocketName is the monitor's socket in the run directory.
const SocketName = "monitor.sock"

// SocketPath is the monitor's socket of container id.
func (s *Store) SocketPath(id string) string { return filepath.Join(s.RunDir(id), SocketName) }

// errorClasses names the classes on the wire.
var errorClasses = map[string]error{
	"not-found":    errdefs.ErrNotFound,
	"exists":       errdefs.ErrExists,
	"invalid":      errdefs.ErrInvalid,
	"unsupported":  errdefs.ErrUnsupported,
	"conflict":     errdefs.ErrConflict,
	"unavailable":  errdefs.ErrUnavailable,
	"unauthorized": errdefs.ErrUnauthorized,
	"corrupt":      errdefs.ErrCorrupt,
}

// maxErrorText keeps a failed event well below the packet limit.
const maxErrorText = 16 << 10

// Failed makes the event that carries err, with the exit code that a command
// line client should end with.
func Failed(err error, code int) Event {
	e := Event{Kind: EventFailed, Code: code, Message: err.Error(), Hint: errdefs.Hint(err)}
	e.Message = e.Message[:min(len(e.Message), maxErrorText)]
	for name, class := range errorClasses {
		if errors.Is(err, class) {
			e.Class = name
		}
	}
	return e
}

// StartError is a container that could not be started. Code is 125, 126 (the
// command cannot be invoked) or 127 (it was not found).
type StartError struct {
	Code int
	err  error
}

func (e *StartError) Error() string { return e.err.Error() }

// Unwrap gives errors.Is the class.
func (e *StartError) Unwrap() error { return e.err }

// Err turns a failed event back into a *StartError, and any other into nil.
func (e Event) Err() error {
	if e.Kind != EventFailed {
		return nil
	}
	err := errors.New(e.Message)
	if class, ok := errorClasses[e.Class]; ok {
		err = errdefs.Wrap(class, err)
	}
	if e.Hint != "" {
		err = errdefs.WithHint(err, "%s", e.Hint)
	}
	return &StartError{Code: e.Code, err: err}
}
