package criu

import (
	"testing"
	"time"

	"box/internal/testkit"
	"box/internal/testkit/vm"
)

// criu of Debian 12 does not start on newer kernels than its own; there it does, and
// containers are written to disk and read back.
func TestContainersInVM(t *testing.T) {
	env := []string{"BOX_TEST_RUNTIME=" + testkit.Build(t, "./cmd/box-runtime", false)}
	testkit.VMTests(t, vm.Config{Env: env, Timeout: 5 * time.Minute}, "./pkg/runtime", "-test.run=CheckpointAnd|CheckpointWith|RestoreIn")
}
