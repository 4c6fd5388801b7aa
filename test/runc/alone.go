package main

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
)

// expectedIn is expected for the tests of a file.
func (s *session) expectedIn(file string, ours []result) ([]result, error) {
	if strings.HasPrefix(file, toolPrefix) {
		return expected(ours, ""), nil
	}
	var source []byte
	for _, name := range []string{file + ".bats", "helpers.bash"} {
		text, err := os.ReadFile(filepath.Join(s.suite.batsDir(), name))
		if err != nil {
			return nil, err
		}
		source = append(source, text...)
	}
	return expected(ours, string(source)), nil
}

// expected is what is asked of a runtime where runc does not run: that every test
// passes, but for those that the suite itself skips for want of something. A skip for
// what the runtime said is none of these: its words are not in the suite.
func expected(ours []result, source string) []result {
	own := skips(source)
	all := make([]result, len(ours))
	for i, o := range ours {
		all[i] = result{Name: o.Name, Outcome: passed}
		if o.Outcome == skipped && own.MatchString(o.Why) {
			all[i].Outcome, all[i].Why = skipped, o.Why
		}
	}
	return all
}

var (
	skipCommand = regexp.MustCompile(`(?m)^\s*skip "([^"]*)"`)
	variable    = regexp.MustCompile(`\\\$(\w+|\\{\w+\\})`) // with what QuoteMeta adds
)

// skips matches the reasons that the suite's source has for a skip: a variable in one of
// them, such as a version, may be anything, but a reason that is all variable, or what a
// command prints, is not the suite's own.
func skips(source string) *regexp.Regexp {
	reasons := []string{`test requires .+`}
	for _, match := range skipCommand.FindAllStringSubmatch(source, -1) {
		reason := variable.ReplaceAllString(regexp.QuoteMeta(match[1]), ".+")
		if !strings.Contains(reason, `\$`) && reason != ".+" {
			reasons = append(reasons, reason)
		}
	}
	return regexp.MustCompile(`^(` + strings.Join(reasons, "|") + `)$`)
}
