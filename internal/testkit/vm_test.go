package testkit

import (
	"slices"
	"testing"

	"box/internal/testkit/vm"
)

func TestResults(t *testing.T) {
	text := "=== RUN   TestA\n=== RUN   TestA/b\n    a_test.go:1: word\n--- PASS: TestA (0.00s)\n    --- PASS: TestA/b (0.00s)\n" +
		"=== RUN   TestC\n    c_test.go:2: needs root\n--- SKIP: TestC (0.00s)\n=== RUN   TestD\n--- FAIL: TestD (1.00s)\n    d_test.go:3: bad\nFAIL\n"
	got := results(text)
	want := []result{
		{"TestA", "PASS", "=== RUN   TestA/b\n    a_test.go:1: word\n    --- PASS: TestA/b (0.00s)\n"},
		{"TestC", "SKIP", "    c_test.go:2: needs root\n"},
		{"TestD", "FAIL", "    d_test.go:3: bad\nFAIL\n"},
	}
	if !slices.Equal(got, want) {
		t.Errorf("got  %q\nwant %q", got, want)
	}
}

func TestVM(t *testing.T) {
	out, messages, status := VM(t, vm.Config{}, "sh", "-c", "cat /proc/self/cgroup; echo word >&2; exit 3")
	if out != "0::/command\n" || messages != "word\n" || status != 3 {
		t.Errorf("%q, %q, status %d", out, messages, status)
	}
}
