// Package testkit is what tests of several rooms share: requirements that skip a
// test with a reason, and a check that nothing is left behind.
//
// It is for test files only (internal/archtest sees to it) and knows nothing of
// how containers are made. It starts no registry and makes no images: that is
// test/baseimage. Invariant: what it calls a leak belongs to the directories it was
// given or to nobody, so tests may run beside each other and beside a box in use.
package testkit

import (
	"net"
	"os"
	"os/exec"
	"testing"
)

// RequireRoot skips t unless it runs as root.
func RequireRoot(t testing.TB) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
}

// RequireBinary skips t unless all programs are found in PATH.
func RequireBinary(t testing.TB, names ...string) {
	t.Helper()
	for _, name := range names {
		if _, err := exec.LookPath(name); err != nil {
			t.Skipf("needs %s: %v", name, err)
		}
	}
}

// FreePort is the number of a TCP port of the loopback interface that nobody listens at
// just now.
func FreePort(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, port, err := net.SplitHostPort(l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	return port
}
