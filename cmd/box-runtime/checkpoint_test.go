package main

import "testing"

func TestSplitAddress(t *testing.T) {
	for in, want := range map[string][2]string{
		"1.2.3.4:5": {"1.2.3.4", "5"}, "[::1]:9": {"::1", "9"}, "host:": {"host", ""}, ":5": {"", "5"},
		"x": {}, "::1:9": {}, "[::1:9": {}, "::1]:9": {}, "a[b]:9": {}, "": {},
	} {
		if host, port := splitAddress(in); host != want[0] || port != want[1] {
			t.Errorf("%q: %q, %q", in, host, port)
		}
	}
}
