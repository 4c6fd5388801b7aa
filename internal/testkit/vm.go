package testkit

import (
	"bytes"
	"errors"
	"io"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"box/internal/testkit/vm"
)

// VM runs argv in a machine of its own (see package vm) and returns what it wrote and
// its exit status. It skips t where there can be no machine, and fails it if
// the machine fails. Binaries are to be built before, natively: see Build.
func VM(t testing.TB, c vm.Config, argv ...string) (stdout, stderr string, status int) {
	t.Helper()
	RequireVM(t)
	var out, messages bytes.Buffer
	c.Program, c.Stdout, c.Stderr = Build(t, "./test/vm", false), &out, &messages
	status, err := vm.Run(t.Context(), c, argv)
	if err != nil {
		t.Fatalf("%v\nstdout: %s\nstderr: %s", err, &out, &messages)
	}
	return out.String(), messages.String(), status
}

// RequireVM skips t where there can be no machine, and with -short.
func RequireVM(t testing.TB) {
	t.Helper()
	if testing.Short() {
		t.Skip("a VM takes seconds")
	}
	if why := vm.Missing(); why != "" {
		t.Skip(why)
	}
}

// VMTests runs the tests of a package, as "./pkg/cgroups", in a machine; each of
// them becomes a subtest of t with its own output. Args go to the test binary, as
// "-test.run=…".
func VMTests(t *testing.T, c vm.Config, pkg string, args ...string) {
	t.Helper()
	RequireVM(t)
	binary := Build(t, pkg, true)
	r, w := io.Pipe()
	c.Program, c.Stdout, c.Stderr = Build(t, "./test/vm", false), w, w
	c.Dir = filepath.Join(source(), pkg)
	type end struct {
		status int
		err    error
	}
	done := make(chan end, 1)
	go func() {
		status, err := vm.Run(t.Context(), c, append([]string{binary, "-test.v"}, args...))
		w.Close()
		done <- end{status, err}
	}()
	text, errRead := io.ReadAll(r)
	e := <-done
	failed := false
	all := results(string(text))
	for _, result := range all {
		t.Run(result.name, func(t *testing.T) { result.report(t) })
		failed = failed || result.verdict == "FAIL"
	}
	if err := errors.Join(errRead, e.err); err != nil || e.status != 0 && !failed {
		t.Fatalf("status %d: %v\n%s", e.status, err, text)
	}
	if len(all) == 0 {
		t.Errorf("%v names no test of %s", args, pkg)
	}
}

// result is what one test said.
type result struct{ name, verdict, output string }

// report repeats it as the result of t.
func (r result) report(t *testing.T) {
	switch r.verdict {
	case "SKIP":
		t.Skip(r.output)
	case "FAIL":
		t.Error(r.output)
	default:
		t.Log(r.output)
	}
}

var verdictLine = regexp.MustCompile(`^--- (PASS|FAIL|SKIP): (\S+) \(`)

// results reads the output of a test binary run with -test.v: the tests on the
// first level, each with the lines since the one before.
func results(text string) (all []result) {
	var last *result
	var before strings.Builder
	for line := range strings.Lines(text) {
		m := verdictLine.FindStringSubmatch(line)
		switch {
		case m != nil:
			all = append(all, result{name: m[2], verdict: m[1], output: before.String()})
			last = &all[len(all)-1]
			before.Reset()
		case strings.HasPrefix(line, "=== RUN ") && !strings.Contains(line, "/"):
			last = nil
		case last != nil: // what follows a verdict and is indented belongs to it
			last.output += line
		default:
			before.WriteString(line)
		}
	}
	return all
}
