// Package errdefs names the few classes of error that callers decide on, and
// carries a hint from the place that knows the way out to the place that prints it.
//
// It is not a replacement for fmt.Errorf: most errors need no class. Give one only
// where some caller behaves differently because of it (an exit code, a retry, a pull).
//
// Invariants: a class never changes an error's text, and survives further wrapping
// with %w; an error may belong to more than one class.
package errdefs

import (
	"errors"
	"fmt"
)

// The classes. Test for them with errors.Is.
var (
	// ErrNotFound says that the named thing does not exist.
	ErrNotFound = errors.New("not found")
	// ErrExists says that the name or id is taken already.
	ErrExists = errors.New("already exists")
	// ErrInvalid says that the input itself is wrong; trying again cannot help.
	ErrInvalid = errors.New("invalid")
	// ErrUnsupported says that the input is right but is not carried out here.
	// It is returned instead of ignoring a request.
	ErrUnsupported = errors.New("not supported")
	// ErrConflict says that the thing's present state, or somebody else's use of
	// it, stands in the way: a running container, a port in use.
	ErrConflict = errors.New("conflict")
	// ErrUnavailable says that something outside did not answer; trying again may help.
	ErrUnavailable = errors.New("unavailable")
	// ErrUnauthorized says that credentials are missing or were refused.
	ErrUnauthorized = errors.New("unauthorized")
	// ErrCorrupt says that data does not match its digest, size or format.
	ErrCorrupt = errors.New("corrupt")
)

// classified puts an error into a class without touching its text.
type classified struct{ class, err error }

// Error is the text of the classified error alone.
func (e *classified) Error() string   { return e.err.Error() }
func (e *classified) Unwrap() []error { return []error{e.class, e.err} }

// New returns an error of the given class whose text is the formatted text alone.
// The format may use %w.
func New(class error, format string, a ...any) error {
	return &classified{class, fmt.Errorf(format, a...)}
}

// Wrap puts err into class; the text stays as it is. A nil err stays nil.
func Wrap(class, err error) error {
	if err == nil {
		return nil
	}
	return &classified{class, err}
}

// hinted carries a sentence that tells the user what to do.
type hinted struct {
	err  error
	hint string
}

// Error leaves the hint out.
func (e *hinted) Error() string { return e.err.Error() }
func (e *hinted) Unwrap() error { return e.err }

// WithHint attaches the way out of err, one sentence for the user. The hint is
// no part of the error's text: the command line prints it after the error. A nil
// err stays nil.
func WithHint(err error, format string, a ...any) error {
	if err == nil {
		return nil
	}
	return &hinted{err, fmt.Sprintf(format, a...)}
}

// Hint returns the outermost hint attached to err, or the empty string.
func Hint(err error) string {
	if h, ok := errors.AsType[*hinted](err); ok {
		return h.hint
	}
	return ""
}
