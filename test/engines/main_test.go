// Package engines starts container engines as Debian ships them (podman,
// buildah, containerd with ctr and CRI, dockerd with swarm) and lets them run
// containers with box-runtime in runc's place.
//
// Every test runs once with runc and once with box-runtime: what runc does not
// pass either is wrong with the test, not with box. What the machine does not
// allow any runtime is skipped, for both, with the reason.
//
// The engines live on an island: mount, pid, network, ipc, uts and cgroup
// namespaces of their own, entered before the first test, with all state below one
// temporary directory. Nothing of them outlives the test program, and the host's
// interfaces, firewall and directories are not seen, let alone changed.
//
// In the test VM (see test/vm), which ends with the tests anyway, whoever needs systemd
// or has no rights to make an island does without. BOX_ENGINES_DRIVER says there who
// manages the control groups: "cgroupfs", or "systemd".
//
// BOX_BIN names the directory of box-runtime (it is built if that is not set),
// BOX_ENGINES_RUNTIMES a list of runtimes, by name or path, that are to be tested
// in place of "runc box-runtime".
package engines

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"box/internal/testkit"
	"box/internal/testkit/vm"
)

func TestMain(m *testing.M) {
	inVM := os.Getenv(vm.InsideVariable) != ""
	if os.Geteuid() != 0 && !inVM {
		os.Exit(m.Run()) // each test says what it needs
	}
	code, err := 1, error(nil)
	switch os.Getenv(stageVar) {
	case "":
		if inVM && (os.Geteuid() != 0 || driver() == "systemd") {
			code, err = stay(m)
			break
		}
		code, err = settle()
	case stageShore:
		err = land()
	case stageInit:
		code, err = reign()
	case stageTests:
		code = m.Run()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "engines:", err)
		code = 1
	}
	os.Exit(code)
}

// runtimeUnderTest is an OCI runtime by the name that tests and engines call it.
type runtimeUnderTest struct {
	name, path string
}

// eachRuntime runs a test with runc and with box-runtime.
func eachRuntime(t *testing.T, test func(*testing.T, runtimeUnderTest)) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	if err := testkit.LookAtSources(); err != nil {
		t.Fatal(err)
	}
	for _, name := range runtimesUnderTest() {
		t.Run(filepath.Base(name), func(t *testing.T) {
			rt := findRuntime(t, name)
			test(t, rt)
		})
	}
}

// runtimesUnderTest are names or paths.
func runtimesUnderTest() []string {
	if names := strings.Fields(os.Getenv("BOX_ENGINES_RUNTIMES")); len(names) > 0 {
		return names
	}
	return []string{"runc", "box-runtime"}
}

// findRuntime looks for a runtime; box-runtime is the one that was built.
func findRuntime(t *testing.T, name string) runtimeUnderTest {
	t.Helper()
	path := name
	switch {
	case name == "box-runtime":
		path = filepath.Join(os.Getenv(dirVar), "bin", name)
	case !strings.Contains(name, "/"):
		path = requireProgram(t, name)
	}
	return runtimeUnderTest{name: filepath.Base(name), path: path}
}
