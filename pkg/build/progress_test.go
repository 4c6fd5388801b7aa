package build

import (
	"strings"
	"testing"
	"time"

	"box/pkg/build/solve"

	"github.com/google/go-cmp/cmp"
)

var story = []Event{
	{Step: 1, Name: "FROM x", Kind: solve.Cached},
	{Step: 2, Name: "RUN a", Kind: solve.Started, Text: "file f changed"},
	{Step: 3, Name: "RUN b", Kind: solve.Started},
	{Step: 2, Name: "RUN a", Kind: solve.Output, Text: "one\ntwo\r\n"},
	{Step: 3, Name: "RUN b", Kind: solve.Output, Text: "three"},
	{Step: 2, Name: "RUN a", Kind: solve.Done, Took: 1250 * time.Millisecond},
	{Step: 3, Name: "RUN b", Kind: solve.Failed, Text: "process failed\nmore", Took: time.Second},
	{Step: 4, Name: "RUN c", Kind: solve.Cancelled},
}

func TestPlainProgress(t *testing.T) {
	var b strings.Builder
	now := time.Unix(100, 0)
	p := &plain{w: &b, begun: map[int]time.Time{}, now: func() time.Time {
		now = now.Add(time.Second / 2)
		return now
	}}
	for _, e := range story {
		p.event(e)
	}
	want := "#1 FROM x\n#1 CACHED\n\n#2 RUN a\n#2 cache miss: file f changed\n#3 RUN b\n#2 1.000 one\n#2 1.000 two\n#3 1.000 three\n" +
		"#2 DONE 1.2s\n\n#3 ERROR: process failed\n\n#4 CANCELED\n\n"
	if d := cmp.Diff(want, b.String()); d != "" {
		t.Error(d)
	}
}

func TestTerminalProgress(t *testing.T) {
	var b strings.Builder
	show := NewTerminal(&b)
	for _, e := range story {
		show(e)
	}
	got := b.String()
	for _, code := range []string{dim, red, blue, reset} {
		got = strings.ReplaceAll(got, code, "")
	}
	want := " => CACHED FROM x\n => RUN a  (file f changed)\n => RUN b\n => RUN a\n |  one\n |  two\n => RUN b\n |  three\n" +
		" => DONE RUN a 1.2s\n => ERROR RUN b\n => CANCELED RUN c\n"
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	if strings.Count(b.String(), reset) != strings.Count(b.String(), "\x1b[")-strings.Count(b.String(), reset) {
		t.Error("a colour is not switched off")
	}
}

func TestVisible(t *testing.T) {
	for in, want := range map[string]string{
		"a\tb\r\n": "a\tb", "10%\r20%\r\n": "20%", "\x1b]0;title\x07x": "]0;titlex", "\u009b31mx": "31mx", "ü": "ü",
	} {
		if got := visible(in); got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
}
