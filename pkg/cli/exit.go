package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"syscall"

	"box/internal/errdefs"
	"box/pkg/build/dockerfile"
)

// Exit codes that mean something to callers of docker run.
const (
	exitFailure   = 1   // box could not do it, and no container is involved
	exitContainer = 125 // box could not run the container, or was called wrongly
)

// exitStatus ends box with the exit code of a container, without a message.
type exitStatus int

func (e exitStatus) Error() string { return fmt.Sprintf("exit status %d", int(e)) }

// exitWith is nil for 0.
func exitWith(code int) error {
	if code == 0 {
		return nil
	}
	return exitStatus(code)
}

// coded gives an error its own exit code.
type coded struct {
	err  error
	code int
}

func (e *coded) Error() string { return e.err.Error() }
func (e *coded) Unwrap() error { return e.err }

// withCode makes box exit with code when err reaches main.
func withCode(err error, code int) error {
	if err == nil {
		return nil
	}
	return &coded{err, code}
}

// usageError is a command line that cannot be read.
type usageError struct{ err error }

func (e *usageError) Error() string { return e.err.Error() }
func (e *usageError) Unwrap() error { return e.err }

func usage(err error) error { return &usageError{err} }

// reported marks errors that have been printed already, item by item.
type reported struct{}

func (reported) Error() string { return "some of it did not work" }

// containerError is a failure of a command that would have run a container, so
// that it is told from the container's own exit code.
type containerError struct{ err error }

func (e *containerError) Error() string { return e.err.Error() }
func (e *containerError) Unwrap() error { return e.err }

// ofContainer marks the failures of what runs a container.
func ofContainer(do deed) deed {
	return func(ctx context.Context, operands []string) error {
		err := do(ctx, operands)
		if err == nil {
			return nil
		}
		return &containerError{err}
	}
}

// fail prints err, if there is one, and returns the exit code.
func (a *app) fail(err error) int {
	var status exitStatus
	switch {
	case err == nil:
		return 0
	case errors.As(err, &status):
		return int(status)
	case errors.Is(err, syscall.EPIPE):
		return 128 + int(syscall.SIGPIPE) // box ps | head: the reader has enough
	}
	if !errors.As(err, &reported{}) {
		a.report(err)
	}
	return exitCode(err)
}

// report prints an error and the way out.
func (a *app) report(err error) {
	name := strings.TrimSpace("box " + a.verb)
	printError(a.err, name, err, a.hint(err))
}

// printError writes one line where it fits. Control characters are shown as
// escapes, because parts of the text come from images, registries and file
// names; only an excerpt (a Dockerfile's line, a command's last output) keeps
// its line breaks: nobody else may write lines of his own into a message.
func printError(w io.Writer, name string, err error, hint string) {
	lines := strings.Split(visible(strings.TrimRight(err.Error(), "\n")), "\n")
	var excerpt *dockerfile.Error
	if !errors.As(err, &excerpt) {
		lines = []string{strings.Join(lines, "; ")}
	}
	for i, line := range lines {
		lines[i] = abridged(line)
	}
	text := strings.Join(lines, "\n")
	switch {
	case hint == "":
		fmt.Fprintf(w, "%s: %s\n", name, text)
	case strings.Contains(text, "\n"):
		fmt.Fprintf(w, "%s: %s\n%s\n", name, text, hint)
	default:
		fmt.Fprintf(w, "%s: %s; %s\n", name, text, hint)
	}
}

// maxLine is how much of one line of an error is shown, in bytes. Its cause stands
// at the end, and what is too long mostly in the middle.
const maxLine = 2000

// abridged leaves out the middle of what is too long to be read.
func abridged(line string) string {
	if len(line) <= maxLine {
		return line
	}
	const tail = maxLine / 4
	head, end := line[:maxLine-tail], line[len(line)-tail:]
	return strings.ToValidUTF8(head+"…", "") + strings.ToValidUTF8(end, "")
}

// visible replaces control characters other than line feed and tab.
func visible(s string) string {
	clean := func(r rune) bool { return r < ' ' && r != '\n' && r != '\t' || r == 0x7f || 0x80 <= r && r < 0xa0 }
	if strings.IndexFunc(s, clean) < 0 {
		return s
	}
	var b strings.Builder
	for _, r := range s {
		if clean(r) {
			fmt.Fprintf(&b, "\\x%02x", r)
			continue
		}
		b.WriteRune(r)
	}
	return b.String()
}

func exitCode(err error) int {
	var c *coded
	var i *interrupted
	var u *usageError
	var container *containerError
	switch {
	case errors.As(err, &c):
		return c.code
	case errors.As(err, &i):
		return 128 + int(i.sig)
	case errors.Is(err, context.Canceled):
		return 128 + int(syscall.SIGINT)
	case errors.As(err, &u), errors.As(err, &container):
		return exitContainer
	}
	return exitFailure
}

// errNotRoot is what everybody but root gets.
var errNotRoot = errdefs.WithHint(
	errdefs.New(errdefs.ErrUnsupported, "must be root: containers without root are not supported yet"),
	"try: sudo box …")

// each calls do for every operand. One that fails does not stop the others;
// its error is printed at once, in its place.
func (a *app) each(operands []string, do func(string) error) error {
	failed := false
	for _, operand := range operands {
		err := do(operand)
		if err == nil {
			continue
		}
		var i *interrupted
		if errors.As(err, &i) || len(operands) == 1 {
			return err
		}
		a.report(err)
		failed = true
	}
	if failed {
		return reported{}
	}
	return nil
}
