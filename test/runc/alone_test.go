package main

import (
	"reflect"
	"testing"
)

func TestAloneEveryTestIsToPass(t *testing.T) {
	ours := []result{
		{Name: "fine", Outcome: passed},
		{Name: "broken", Outcome: failed, Why: "requires nothing", Output: []string{"x"}},
		{Name: "lost", Outcome: missing},
		{Name: "one processor", Outcome: skipped, Why: "test requires smp"},
		{Name: "no such module", Outcome: skipped, Why: "requires SELinux enabled"},
		{Name: "old systemd", Outcome: skipped, Why: "requires systemd >= v244"},
		{Name: "the runtime's word", Outcome: skipped, Why: "requires a newer library"},
		{Name: "its words", Outcome: skipped, Why: "no such thing: sed"},
	}
	got := expected(ours, `
		skip "requires SELinux enabled"
		skip "requires systemd >= v${var}"
		skip "$output"
		skip "no such thing: $(sed -e 's/x//' <<<"$output")"
	`)
	want := []result{
		{Name: "fine", Outcome: passed},
		{Name: "broken", Outcome: passed},
		{Name: "lost", Outcome: passed},
		{Name: "one processor", Outcome: skipped, Why: "test requires smp"},
		{Name: "no such module", Outcome: skipped, Why: "requires SELinux enabled"},
		{Name: "old systemd", Outcome: skipped, Why: "requires systemd >= v244"},
		{Name: "the runtime's word", Outcome: passed},
		{Name: "its words", Outcome: passed},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
	if said := counts(judge("plain", "f", got, ours, nil)); said != "1 as runc, 4 wrong, 3 not here" {
		t.Error(said)
	}
}
