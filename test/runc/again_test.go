package main

import (
	"context"
	"errors"
	"reflect"
	"slices"
	"strings"
	"testing"
)

func TestWhatDiffersIsRepeatedAlone(t *testing.T) {
	base := []result{
		{Name: "fine", Outcome: passed},
		{Name: "races (at times)", Outcome: passed},
		{Name: "broken", Outcome: passed},
		{Name: "lost", Outcome: passed},
		{Name: "listed", Outcome: passed},
		{Name: "not here", Outcome: failed},
	}
	ours := []result{
		{Name: "fine", Outcome: passed},
		{Name: "races (at times)", Outcome: failed, Output: []string{"x"}},
		{Name: "broken", Outcome: failed},
		{Name: "listed", Outcome: passed},
		{Name: "not here", Outcome: failed},
	}
	before := slices.Clone(ours)
	known := []difference{{view: "*", file: "f", name: "listed", why: "words"}}
	judged := func(ours []result) []verdict { return judge("v2", "f", base, ours, known) }
	var ran []string
	run := func(_ context.Context, expr string) ([]result, error) {
		ran = append(ran, expr)
		// What else fits the expression runs, too; only the test that was meant counts.
		all := []result{{Name: "broken", Outcome: failed}, {Name: "lost", Outcome: passed}, {Name: "fine", Outcome: failed}}
		if len(ran) > 3 { // the second time round
			all = append(all, result{Name: "races (at times)", Outcome: passed})
		}
		return all, nil
	}
	got, err := again(t.Context(), 2, ours, judged, run)
	want := []result{
		{Name: "fine", Outcome: passed},
		{Name: "races (at times)", Outcome: passed, Why: whyAgain},
		{Name: "broken", Outcome: failed},
		{Name: "listed", Outcome: passed},
		{Name: "not here", Outcome: failed},
		{Name: "lost", Outcome: passed, Why: whyAgain},
	}
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v, %v\nwant %+v", got, err, want)
	}
	if want := []string{`races \(at times\)`, "broken", "lost", `races \(at times\)`, "broken"}; !slices.Equal(ran, want) {
		t.Errorf("ran %q, want %q", ran, want)
	}
	if !reflect.DeepEqual(ours, before) {
		t.Errorf("the caller's results became %+v", ours)
	}
	said := report("v2", "f", judged(got), false)
	if !strings.Contains(said, "races (at times): "+whyAgain) || !strings.Contains(said, "broken: FAIL") || strings.Contains(said, "fine:") {
		t.Error(said)
	}
}

func TestRepetitionsEnd(t *testing.T) {
	judged := func(ours []result) []verdict {
		return judge("v2", "f", []result{{Name: "a", Outcome: passed}}, ours, nil)
	}
	ours := []result{{Name: "a", Outcome: failed}}
	runs, failure := 0, error(nil)
	run := func(context.Context, string) ([]result, error) { runs++; return nil, failure }
	if got, err := again(t.Context(), 0, ours, judged, run); err != nil || runs != 0 || !reflect.DeepEqual(got, ours) {
		t.Errorf("no attempts: %d runs, %+v, %v", runs, got, err)
	}
	if _, err := again(t.Context(), 3, ours, judged, run); err != nil || runs != 3 {
		t.Errorf("three attempts: %d runs, %v", runs, err)
	}
	failure = errors.New("no room")
	if _, err := again(t.Context(), 3, ours, judged, run); !errors.Is(err, failure) || runs != 4 {
		t.Errorf("a run that cannot be: %d runs, %v", runs, err)
	}
}
