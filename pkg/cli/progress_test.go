package cli

import (
	"strings"
	"testing"
)

func TestPlainProgress(t *testing.T) {
	var b strings.Builder
	p := newProgress(&b, "Pulling")
	p.Start("aaaaaaaaaaaa", 47_000_000)
	p.Done("bbbbbbbbbbbb", "Already exists")
	p.Update("aaaaaaaaaaaa", 1000)
	p.Done("aaaaaaaaaaaa", "Pull complete")
	p.finish()
	const want = "aaaaaaaaaaaa: Pulling (47MB)\nbbbbbbbbbbbb: Already exists\naaaaaaaaaaaa: Pull complete\n"
	if b.String() != want {
		t.Errorf("got %q, want %q", b.String(), want)
	}
}

func TestBars(t *testing.T) {
	var b strings.Builder
	p := &progress{w: &b, width: 80, verb: "Pulling"}
	p.layers = []*layer{
		{id: "aaaaaaaaaaaa", done: 10, total: 20},
		{id: "bbbbbbbbbbbb", state: "Pull complete"},
		{id: "cccccccccccc", done: 30, total: 20}, // a registry that understates
		{id: "dddddddddddd", done: 30},            // size unknown
	}
	p.draw()
	p.draw()
	frames := strings.Split(b.String(), "\x1b[4A")
	if len(frames) != 2 || frames[0] != frames[1] {
		t.Fatalf("the second frame is not over the first one: %q", b.String())
	}
	const want = "\raaaaaaaaaaaa: Pulling [===============>               ] 10B/20B\x1b[K\n" +
		"\rbbbbbbbbbbbb: Pull complete\x1b[K\n" +
		"\rcccccccccccc: Pulling [===============================] 30B/20B\x1b[K\n" +
		"\rdddddddddddd: Pulling 30B\x1b[K\n"
	if frames[0] != want {
		t.Errorf("got\n%q\nwant\n%q", frames[0], want)
	}
}

func TestNarrowTerminal(t *testing.T) {
	var b strings.Builder
	p := &progress{w: &b, width: 20, verb: "Pulling"}
	p.layers = []*layer{{id: "aaaaaaaaaaaa", done: 10, total: 20}}
	p.draw()
	line := strings.TrimSuffix(strings.TrimPrefix(b.String(), "\r"), "\x1b[K\n")
	if len([]rune(line)) > 19 {
		t.Errorf("a line that wraps would break the redrawing: %q", line)
	}
}
