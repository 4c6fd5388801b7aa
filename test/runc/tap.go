package main

import (
	"bufio"
	"fmt"
	"io"
	"regexp"
	"strings"
)

// outcome is how a test ended.
type outcome string

const (
	passed  outcome = "pass"
	failed  outcome = "FAIL"
	skipped outcome = "skip"
	missing outcome = "-" // the file ended, or was ended, before the test
)

// result is one test of a bats file.
type result struct {
	Name    string
	Outcome outcome
	Why     string   `json:",omitempty"` // reason of a skip, or what bats adds to a failure
	Output  []string `json:",omitempty"` // diagnostics of a failed test
}

// A line of TAP (testanything.org) as bats prints it: "ok 3 name # skip reason".
var tapLine = regexp.MustCompile(`^(ok|not ok) [0-9]+ (.*)$`)

// parseTAP reads what `bats --tap` prints. What stands between two results
// belongs to the one before. Names that come again are numbered.
func parseTAP(r io.Reader) ([]result, error) {
	var results []result
	seen := map[string]int{}
	lines := bufio.NewScanner(r)
	lines.Buffer(make([]byte, 64<<10), 16<<20)
	for lines.Scan() {
		line := lines.Text()
		if m := tapLine.FindStringSubmatch(line); m != nil {
			r := parseResult(m[1], m[2])
			if seen[r.Name]++; seen[r.Name] > 1 {
				r.Name = fmt.Sprintf("%s (%d)", r.Name, seen[r.Name])
			}
			results = append(results, r)
			continue
		}
		if n := len(results); n > 0 && results[n-1].Outcome == failed {
			results[n-1].Output = append(results[n-1].Output, strings.TrimPrefix(line, "# "))
		}
	}
	return results, lines.Err()
}

func parseResult(word, rest string) result {
	name, why, directive := strings.Cut(" "+strings.TrimPrefix(rest, "- "), " # ")
	r := result{Name: strings.TrimSpace(name), Outcome: passed, Why: why}
	_, isSkip := strings.CutPrefix(strings.ToLower(why), "skip")
	switch {
	case word == "not ok":
		r.Outcome = failed
	case directive && isSkip:
		r.Outcome = skipped
		r.Why = strings.Trim(why[len("skip"):], " ()")
	}
	return r
}

// declared finds the names of a bats file's tests, in order, so that those that
// were never reached are known by name.
func declared(r io.Reader) ([]string, error) {
	var names []string
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		rest, ok := strings.CutPrefix(lines.Text(), "@test ")
		if !ok {
			continue
		}
		rest = strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(rest), "{"))
		if len(rest) < 2 || rest[0] != rest[len(rest)-1] {
			return nil, fmt.Errorf("read bats file: test name not understood: %s", rest)
		}
		names = append(names, strings.TrimSpace(unquote(rest)))
	}
	return names, lines.Err()
}

// unquote takes the quotes off a test's name as the shell would.
func unquote(s string) string {
	body := s[1 : len(s)-1]
	if s[0] == '"' {
		body = strings.NewReplacer(`\"`, `"`, `\\`, `\`, `\$`, `$`, "\\`", "`").Replace(body)
	}
	return body
}

// complete adds the tests that are declared and have no result.
func complete(results []result, names []string) []result {
	have := map[string]bool{}
	for _, r := range results {
		have[r.Name] = true
	}
	for _, name := range names {
		if !have[name] {
			results = append(results, result{Name: name, Outcome: missing, Why: "no result: ended, or never reached"})
		}
	}
	return results
}
