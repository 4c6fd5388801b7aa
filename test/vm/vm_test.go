package main

import (
	"slices"
	"testing"
	"time"

	"box/internal/testkit"
	"box/internal/testkit/vm"
)

// TestLimits runs test/limits where every controller is there.
func TestLimits(t *testing.T) {
	env := []string{"BOX_TEST_RUNTIME=" + testkit.Build(t, "./cmd/box-runtime", false)}
	testkit.VMTests(t, vm.Config{Env: env, Timeout: 3 * time.Minute}, "./test/limits")
}

func TestOptions(t *testing.T) {
	c, argv, err := options([]string{"--user", "--systemd", "--writable", "/a", "--writable", "/b", "--env", "A=b", "--timeout", "7s", "--append", "x=1 y", "--", "cmd", "--flag"})
	if err != nil {
		t.Fatal(err)
	}
	if c.Mode != vm.SystemdUser || !slices.Equal(c.Writable, []string{"/a", "/b"}) || c.Env[0] != "A=b" || c.Timeout != 7*time.Second || !slices.Equal(c.KernelArgs, []string{"x=1", "y"}) {
		t.Errorf("%+v", c)
	}
	if !slices.Equal(argv, []string{"cmd", "--flag"}) {
		t.Errorf("command %q", argv)
	}
}
