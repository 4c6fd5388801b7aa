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
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	defer w.Close() // if there is no start
	attr.Files = []*os.File{nil, w, w}
	proc := StartPlan(t, p, attr)
	w.Close()
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

// StartPlan starts the program of a plan, for whose end the caller waits. What it holds of
// the process is given back after the test.
func StartPlan(t testing.TB, p *launch.Plan, attr launch.Attr) *launch.Process {
	t.Helper()
	program, err := launch.NewProgram(p)
	if err != nil {
		t.Fatal(err)
	}
	defer program.Close()
	proc, err := program.Start(attr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { proc.Close() })
	return proc
}
