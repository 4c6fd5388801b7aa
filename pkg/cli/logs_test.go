package cli

import (
	"testing"
	"time"
)

func TestParseTime(t *testing.T) {
	now := time.Date(2026, 5, 6, 7, 8, 9, 0, time.UTC)
	tests := map[string]time.Time{
		"10m":                  now.Add(-10 * time.Minute),
		"1700000000":           time.Unix(1700000000, 0),
		"1700000000.5":         time.Unix(1700000000, 500_000_000),
		"2026-01-02T03:04:05Z": time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC),
		"2026-01-02":           time.Date(2026, 1, 2, 0, 0, 0, 0, time.Local),
	}
	for text, want := range tests {
		got, err := parseTime(text, now)
		if err != nil || !got.Equal(want) {
			t.Errorf("parseTime(%q) = %v, %v; want %v", text, got, err, want)
		}
	}
	if _, err := parseTime("yesterday", now); err == nil {
		t.Error("yesterday was accepted")
	}
}

func TestTail(t *testing.T) {
	for text, want := range map[string]int{"0": 0, "5": 5} {
		if n, err := tail(text); err != nil || n == nil || *n != want {
			t.Errorf("tail(%q) = %v, %v", text, n, err)
		}
	}
	for _, text := range []string{"all", "-1"} {
		if n, err := tail(text); err != nil || n != nil {
			t.Errorf("tail(%q) = %v, %v; want all", text, n, err)
		}
	}
	if _, err := tail("few"); err == nil {
		t.Error("few was accepted")
	}
}
