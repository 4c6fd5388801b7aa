// Command testsum runs `go test -json …` and prints what a person wants to
// see: a line per package, the whole output of tests that failed, the reason of
// each skipped test, and the totals on the last line.
//
//	testsum -- go test -json ./...
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"slices"
	"strings"
)

// event is one line of `go test -json`; see `go doc test2json`.
type event struct {
	Action     string
	Package    string
	ImportPath string // of build output
	Test       string
	Output     string
	Elapsed    float64
}

// summary collects what the events say.
type summary struct {
	out                     io.Writer
	pending                 map[string][]string // output of tests that have not ended
	passed, failed, skipped int
	reasons                 []string
}

func main() {
	args := os.Args[1:]
	if len(args) > 0 && args[0] == "--" {
		args = args[1:]
	}
	if len(args) == 0 {
		fmt.Fprintln(os.Stderr, "usage: testsum -- go test -json PACKAGES")
		os.Exit(2)
	}
	code, err := run(os.Stdout, args)
	if err != nil {
		fmt.Fprintln(os.Stderr, "testsum:", err)
	}
	os.Exit(code)
}

// run returns the exit code of the tests, or 1 if nothing was tested: a run
// without tests must not pass for a good one.
func run(out io.Writer, args []string) (int, error) {
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Stderr = os.Stderr
	pipe, err := cmd.StdoutPipe()
	if err != nil {
		return 1, err
	}
	if err := cmd.Start(); err != nil {
		return 1, err
	}
	s := &summary{out: out, pending: map[string][]string{}}
	readErr := s.read(pipe)
	waitErr := cmd.Wait()
	s.totals()
	switch {
	case readErr != nil:
		return 1, readErr
	case waitErr != nil, s.failed > 0:
		return 1, nil
	case s.passed == 0:
		return 1, fmt.Errorf("%s: no test was run", strings.Join(args, " "))
	}
	return 0, nil
}

func (s *summary) read(r io.Reader) error {
	lines := bufio.NewScanner(r)
	lines.Buffer(make([]byte, 1<<20), 64<<20)
	for lines.Scan() {
		var e event
		if json.Unmarshal(lines.Bytes(), &e) != nil {
			fmt.Fprintln(s.out, lines.Text()) // not an event: what the go command says itself
			continue
		}
		s.take(e)
	}
	return lines.Err()
}

func (s *summary) take(e event) {
	key := e.Package + " " + e.Test
	switch e.Action {
	case "build-output":
		fmt.Fprint(s.out, e.Output)
	case "output":
		s.output(e, key)
	case "pass":
		s.count(e, &s.passed)
		delete(s.pending, key)
	case "skip":
		s.count(e, &s.skipped)
		if e.Test != "" {
			s.reasons = append(s.reasons, fmt.Sprintf("%s %s: %s", e.Package, e.Test, reason(s.pending[key])))
		}
		delete(s.pending, key)
	case "fail":
		if e.Test == "" {
			s.unfinished(e.Package)
			return
		}
		s.fail(key)
	}
}

func (s *summary) fail(key string) {
	s.failed++
	for _, line := range s.pending[key] {
		fmt.Fprint(s.out, line)
	}
	delete(s.pending, key)
}

// unfinished fails the tests that a package's end has caught: it was killed,
// or has crashed, and their output says where.
func (s *summary) unfinished(pkg string) {
	for _, key := range slices.Sorted(maps.Keys(s.pending)) {
		if strings.HasPrefix(key, pkg+" ") {
			s.fail(key)
		}
	}
}

// output prints a package's own lines and keeps a test's until it has ended.
func (s *summary) output(e event, key string) {
	switch {
	case e.Test != "":
		s.pending[key] = append(s.pending[key], e.Output)
	case e.Output != "PASS\n" && !strings.HasPrefix(e.Output, "?   "):
		fmt.Fprint(s.out, e.Output)
	}
}

func (s *summary) count(e event, n *int) {
	if e.Test != "" {
		*n++
	}
}

// reason is what the test said before it was skipped.
func reason(output []string) string {
	for _, line := range output {
		line = strings.TrimSpace(line)
		if _, text, ok := strings.Cut(line, ".go:"); ok {
			if _, text, ok = strings.Cut(text, ": "); ok {
				return text
			}
		}
	}
	return "no reason given"
}

func (s *summary) totals() {
	for _, r := range s.reasons {
		fmt.Fprintln(s.out, "skipped:", r)
	}
	fmt.Fprintf(s.out, "%d passed, %d failed, %d skipped\n", s.passed, s.failed, s.skipped)
}
