package criu

import (
	"os"
	"testing"
	"time"

	"box/internal/testkit"
	"box/internal/testkit/vm"
)

// criu of Debian 12 does not start on newer kernels than its own; there it does, and
// containers are written to disk and read back.
func TestContainersInVM(t *testing.T) {
	runInVM(t, "CheckpointAnd|CheckpointWithOptions|RestoreIn")
}

// What most changes cannot break is tested when it is asked for: make criu.
func TestMoreInVM(t *testing.T) {
	if os.Getenv("BOX_TEST_LONG") == "" {
		t.Skip("takes long; run by make criu")
	}
	runInVM(t, "CheckpointWithLazyPages|CheckpointWithConnections|CheckpointInJoined")
}

// runInVM runs tests of pkg/runtime whose names match, and minds that one of them takes
// a minute where others want the processors, too.
func runInVM(t *testing.T, tests string) {
	t.Helper()
	env := []string{"BOX_TEST_RUNTIME=" + testkit.Build(t, "./cmd/box-runtime", false)}
	testkit.VMTests(t, vm.Config{Env: env, Timeout: 8 * time.Minute}, "./pkg/runtime", "-test.run="+tests)
}
