package main

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"box/internal/testkit"
	"box/internal/testkit/vm"
)

// TestEngines asks the engines whether limits are felt where every controller is there, with
// runc and box-runtime, both managers of groups, and podman without root, if
// BOX_ENGINES_VM=all asks for that. Those marked always run with box-runtime in any case.
func TestEngines(t *testing.T) {
	all := os.Getenv("BOX_ENGINES_VM") == "all"
	for _, run := range []struct {
		name, driver, tests string
		mode                vm.Mode
		always              bool
	}{
		{"containerd", "cgroupfs", "TestFelt(CRI|Containerd)$", vm.Root, false},
		{"docker", "cgroupfs", "TestFeltDocker$", vm.Root, false},
		{"podman", "cgroupfs", "TestFeltPodman$", vm.Root, false},
		{"containerd-systemd", "systemd", "TestFelt(CRI|Containerd)$", vm.Systemd, false},
		{"docker-systemd", "systemd", "TestFeltDocker$", vm.Systemd, false},
		{"podman-systemd", "systemd", "TestFeltPodman$", vm.Systemd, false},
		{"podman-rootless", "systemd", "TestFeltRootless$", vm.SystemdUser, false},
	} {
		t.Run(run.name, func(t *testing.T) {
			if !all && !run.always {
				t.Skip("takes minutes: make engines-vm")
			}
			cache, err := os.UserCacheDir()
			if err != nil {
				t.Fatal(err)
			}
			env := []string{
				"BOX_ENGINES=all", "BOX_BIN=" + filepath.Dir(testkit.Build(t, "./cmd/box-runtime", false)),
				"BOX_ENGINES_CACHE=" + filepath.Join(cache, "box-test"), "BOX_ENGINES_DRIVER=" + run.driver,
			}
			if !all {
				env = append(env, "BOX_ENGINES_RUNTIMES=box-runtime")
			} else if list := os.Getenv("BOX_ENGINES_RUNTIMES"); list != "" {
				env = append(env, "BOX_ENGINES_RUNTIMES="+list)
			}
			testkit.VMTests(t, vm.Config{Mode: run.mode, Env: env, Timeout: 15 * time.Minute}, "./test/engines", "-test.run="+run.tests)
		})
	}
}
