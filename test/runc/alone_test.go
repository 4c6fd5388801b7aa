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
		{Name: "the runtime's word", Outcome: skipped, Why: "requires a newer library"},
	}
	got := expected(ours, "skip \"requires SELinux enabled\"\nskip \"$output\"\n")
	want := []result{
		{Name: "fine", Outcome: passed},
		{Name: "broken", Outcome: passed},
		{Name: "lost", Outcome: passed},
		{Name: "one processor", Outcome: skipped, Why: "test requires smp"},
		{Name: "no such module", Outcome: skipped, Why: "requires SELinux enabled"},
		{Name: "the runtime's word", Outcome: passed},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
	if said := counts(judge("plain", "f", got, ours, nil)); said != "1 as runc, 3 wrong, 2 not here" {
		t.Error(said)
	}
}
