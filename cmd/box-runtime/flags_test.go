package main

import (
	"slices"
	"strings"
	"testing"
)

// sample parses args with one flag of each kind.
func sample(o order, args ...string) (s struct {
	on   bool
	text string
	n    int
	list []string
	rest []string
}, err error,
) {
	flags := []flag{
		on(&s.on, "", "force", "f"), text(&s.text, "DIR", "", "bundle", "b"),
		number(&s.n, "", "preserve-fds"), list(&s.list, "E", "", "env", "e"),
	}
	s.rest, err = parse("sample", flags, args, o)
	return s, err
}

func TestFlagForms(t *testing.T) {
	for _, form := range [][]string{
		{"--bundle", "d"}, {"--bundle=d"}, {"-bundle", "d"}, {"-bundle=d"}, {"-b", "d"}, {"-b=d"},
	} {
		s, err := sample(inFront, append(form, "id", "--force")...)
		if err != nil || s.text != "d" || !slices.Equal(s.rest, []string{"id", "--force"}) {
			t.Errorf("%v: %+v, %v", form, s, err)
		}
	}
}

func TestSwitchesListsAndNumbers(t *testing.T) {
	s, err := sample(inFront, "-f", "-e", "A=1", "--env=B=2", "--preserve-fds", "3", "id")
	if err != nil || !s.on || s.n != 3 || !slices.Equal(s.list, []string{"A=1", "B=2"}) {
		t.Errorf("%+v, %v", s, err)
	}
	if s, err := sample(inFront, "--force=false", "id"); err != nil || s.on {
		t.Errorf("--force=false: %+v, %v", s, err)
	}
}

func TestWhereFlagsEnd(t *testing.T) {
	for _, c := range []struct{ args, rest string }{
		{"id cmd -x", "id cmd -x"}, {"-f -- -x", "-x"}, {"-", "-"}, {"-f - x", "- x"}, {"", ""},
	} {
		s, err := sample(inFront, strings.Fields(c.args)...)
		if got := strings.Join(s.rest, " "); err != nil || got != c.rest {
			t.Errorf("%q leaves %q (%v), want %q", c.args, got, err, c.rest)
		}
	}
}

func TestFlagsAmongArguments(t *testing.T) {
	s, err := sample(anywhere, "-f", "id", "-b", "dir", "-", "more", "--", "-x")
	if err != nil || !s.on || s.text != "dir" || !slices.Equal(s.rest, []string{"id", "-", "more", "-x"}) {
		t.Errorf("%+v, %v", s, err)
	}
	if _, err := sample(anywhere, "id", "-9"); err == nil {
		t.Error("-9 after the id is taken for an argument")
	}
}

func TestBadFlags(t *testing.T) {
	for args, want := range map[string]string{
		"--nope":           "sample: flag provided but not defined: -nope",
		"--bundle":         "sample: flag needs an argument: -bundle",
		"--preserve-fds x": `sample: invalid value "x" for flag -preserve-fds`,
		"--force=maybe":    `sample: invalid value "maybe" for flag -force`,
	} {
		if _, err := sample(inFront, strings.Fields(args)...); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%q: %v, want %q", args, err, want)
		}
	}
}

func TestParseSignal(t *testing.T) {
	for s, want := range map[string]int{
		"9": 9, "15": 15, "KILL": 9, "SIGKILL": 9, "sigterm": 15, "term": 15, "64": 64,
		"RTMIN": 34, "0": 0, "SIGRTMIN+3": 37, "RTMAX-1": 63, "RTMAX": 64, "WINCH": 28,
	} {
		if got, err := parseSignal(s); err != nil || int(got) != want {
			t.Errorf("parseSignal(%q) = %d, %v; want %d", s, got, err, want)
		}
	}
	for _, s := range []string{"", "-1", "65", "SIG", "NOPE", "RTMIN-1", "RTMAX+1", "RTMIN+31", "9x"} {
		if got, err := parseSignal(s); err == nil {
			t.Errorf("parseSignal(%q) = %d, want an error", s, got)
		}
	}
}
