package ocirt

import (
	"errors"
	"fmt"
	"strings"

	"box/internal/errdefs"
)

// Error is a failed call of a runtime. errors.Is finds its class: ErrNotFound
// (no such container), ErrExists, ErrConflict (not running, already running).
type Error struct {
	Verb    string // create, run, exec …
	ID      string // container id
	Status  int    // exit status of the runtime process, 128+n for a signal, -1 if it could not be started
	Message string // the runtime's words; empty if it said nothing

	class error
	err   error
}

// Error puts the runtime's words last and unchanged.
func (e *Error) Error() string {
	if e.Message == "" {
		return fmt.Sprintf("runtime %s %s: exit status %d", e.Verb, e.ID, e.Status)
	}
	return fmt.Sprintf("runtime %s %s: %s", e.Verb, e.ID, e.Message)
}

// Unwrap gives errors.Is the class and the cause.
func (e *Error) Unwrap() []error {
	if e.class == nil {
		return []error{e.err}
	}
	return []error{e.class, e.err}
}

// Explain puts an engine's words before the runtime's own, in place of the verb
// and the id that only the engine's maker knows: "start container web: exec: …".
// Class and exit code of err stay.
func Explain(err error, format string, a ...any) error {
	what := fmt.Sprintf(format, a...)
	var e *Error
	if !errors.As(err, &e) || e.Message == "" {
		return fmt.Errorf("%s: %w", what, err)
	}
	return &explained{text: what + ": " + e.Message, err: err}
}

type explained struct {
	text string
	err  error
}

func (e *explained) Error() string { return e.text }
func (e *explained) Unwrap() error { return e.err }

// classes maps words of runc, crun and box-runtime to error classes. The words
// are those that containerd and podman look for as well, here in lower case.
var classes = []struct {
	words string
	class error
}{
	{"container with id exists", errdefs.ErrExists},
	{"already exists", errdefs.ErrExists},
	{"container not running", errdefs.ErrConflict},
	{"not running", errdefs.ErrConflict},
	{"process already finished", errdefs.ErrConflict},
	{"no such process", errdefs.ErrConflict},
	{"cannot exec in a", errdefs.ErrConflict},
	{"container does not exist", errdefs.ErrNotFound},
	{"does not exist", errdefs.ErrNotFound},
}

// crunGone is how crun says that a container does not exist: it reports the
// missing status file of its state directory.
const crunGone = "/status`: no such file or directory"

func classify(message string) error {
	message = strings.ToLower(message) // crun passes on what strerror(3) says
	if strings.Contains(message, crunGone) {
		return errdefs.ErrNotFound
	}
	for _, c := range classes {
		if strings.Contains(message, c.words) {
			return c.class
		}
	}
	return nil
}

func isClass(err, class error) bool { return errors.Is(err, class) }

// Exit codes that a shell, and so every engine, gives to a command that could
// not be started.
const (
	CodeCannotInvoke = 126 // found, but not executable
	CodeNotFound     = 127 // no such file
)

// aboutCommand cuts off what stands before the words about the command, in lower
// case; it is empty if there are none. "exec: " is runc's own LookPath error,
// "exec /x:" the failed execve, and crun says "executable". The verb in runc's
// "exec failed: " is none of them.
func aboutCommand(message string) string {
	message = strings.TrimPrefix(strings.ToLower(message), "exec failed: ")
	if i := strings.Index(message, "exec"); i >= 0 {
		return message[i:]
	}
	return ""
}

// CommandExitCode tells whether err says that the container's command could
// not be started: 127 if it was not found, 126 if it was found but cannot be
// invoked, 0 for any other error. The runtime has no other way to say so than
// its words (runc's; crun's differ and are known too).
func CommandExitCode(err error) int {
	var e *Error
	if !errors.As(err, &e) {
		return 0
	}
	m := aboutCommand(e.Message)
	switch {
	case m == "":
		return 0
	case strings.Contains(m, "executable file") && strings.Contains(m, "not found in $path"),
		strings.Contains(m, "no such file or directory"):
		return CodeNotFound
	case strings.Contains(m, "permission denied"), strings.Contains(m, "exec format error"),
		strings.Contains(m, "is a directory"), strings.Contains(m, "not a directory"),
		strings.Contains(m, "text file busy"), strings.Contains(m, "invalid argument"),
		strings.HasPrefix(m, "executable: operation not permitted"): // crun, of a directory
		return CodeCannotInvoke
	}
	return 0
}
