package main

import (
	"context"
	"regexp"
	"slices"
)

// whyAgain marks a result that a test had only when it was repeated alone.
const whyAgain = "passed when it was repeated alone"

// runner runs a file's tests whose names fit an expression.
type runner func(ctx context.Context, expr string) ([]result, error)

// repeated runs the tests that differ from runc again, one by one. A busy machine makes
// some of them fail, and so does speed: the tests start programs in the background,
// such as the listener of a console socket, and leave them the time that runc takes to
// need them.
func (s *session) repeated(ctx context.Context, view, file string, ours []result, judged func([]result) []verdict) ([]result, error) {
	return again(ctx, s.again, ours, judged, func(ctx context.Context, expr string) ([]result, error) {
		alone := *s
		alone.filter = expr
		return alone.runFile(ctx, view, file, s.runtime)
	})
}

// again replaces what differs by what comes of it when it is run alone, if that is no error,
// with so many attempts. Programs of the runtime-tools know no names of tests: all of
// theirs run again.
func again(ctx context.Context, attempts int, ours []result, judged func([]result) []verdict, run runner) ([]result, error) {
	ours = slices.Clone(ours)
	for range attempts {
		for _, v := range errorsIn(judged(ours)) {
			if v.ours.Outcome == passed { // listed as a difference: no repetition makes that true
				continue
			}
			results, err := run(ctx, regexp.QuoteMeta(v.base.Name))
			if err != nil {
				return ours, err
			}
			ours = replaced(ours, results, v.base.Name)
		}
	}
	return ours, nil
}

// replaced puts a test's new result in the place of the old one, if it has passed.
func replaced(ours, results []result, name string) []result {
	named := func(r result) bool { return r.Name == name }
	i := slices.IndexFunc(results, named)
	if i < 0 || results[i].Outcome != passed {
		return ours
	}
	r := results[i]
	r.Why = whyAgain
	if at := slices.IndexFunc(ours, named); at >= 0 {
		ours[at] = r
		return ours
	}
	return append(ours, r)
}
