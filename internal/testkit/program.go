package testkit

import (
	"errors"
	"io"
	"os"
	"testing"

	"golang.org/x/sys/unix"

	"box/pkg/launch"
)

// RunPlan carries a plan out that ends in the execve of a command, and waits for its
// end. It returns what the command has written and its status; failure is that of a
// step, nil if the command was executed. Reports go to descriptor 3, and attr has no
// files; more of it is the caller's.
func RunPlan(t testing.TB, p *launch.Plan, attr launch.Attr) (output string, status unix.WaitStatus, failure error) {
	t.Helper()
	program, err := launch.NewProgram(p)
	if err != nil {
		t.Fatal(err)
	}
	defer program.Close()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	attr.Files = []*os.File{nil, w, w}
	proc, err := program.Start(attr)
	w.Close()
	if err != nil {
		t.Fatal(err)
	}
	defer proc.Close()
	text, readErr := io.ReadAll(r)
	_, failure = proc.Report()
	if errors.Is(failure, io.EOF) {
		failure = nil
	}
	status, err = proc.Wait()
	if err := errors.Join(readErr, err); err != nil {
		t.Fatal(err)
	}
	return string(text), status, failure
}
