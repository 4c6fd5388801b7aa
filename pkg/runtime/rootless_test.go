package runtime

import (
	"os"
	"testing"
)

func TestHostMap(t *testing.T) {
	for text, want := range map[string]bool{
		"         0          0 4294967295\n": true,
		"0 0 4294967295":                     true,
		"         0       1000          1\n": false,
		"0 0 4294967294\n":                   false,
		"0 0 1000\n1000 1000 4294966295\n":   false,
		"":                                   false,
	} {
		if got := hostMap([]byte(text)); got != want {
			t.Errorf("hostMap(%q) = %v", text, got)
		}
	}
}

func TestRootless(t *testing.T) {
	for _, want := range []bool{false, true} {
		if got := (&Runtime{Rootless: &want}).rootless(); got != want {
			t.Errorf("--rootless=%v: %v", want, got)
		}
	}
	if got, want := (&Runtime{}).rootless(), os.Geteuid() != 0 || InUserNamespace(); got != want {
		t.Errorf("by itself: %v, want %v", got, want)
	}
}

func TestUserName(t *testing.T) {
	for uid, want := range map[int]string{0: "root", 1: "daemon", 987654: "#987654"} {
		if got := userName(uid); got != want {
			t.Errorf("userName(%d) = %q, want %q", uid, got, want)
		}
	}
}
