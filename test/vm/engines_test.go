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
// runc and box-runtime, both managers of groups, and podman without root; and has them write
// containers to disk where there is a kernel that criu works with.
func TestEngines(t *testing.T) {
	if os.Getenv("BOX_ENGINES_VM") != "all" {
		t.Skip("takes minutes: make engines-vm")
	}
	for _, run := range []struct {
		name, driver, tests string
		mode                vm.Mode
	}{
		{"containerd", "cgroupfs", "TestFelt(CRI|Containerd)$", vm.Root},
		{"docker", "cgroupfs", "TestFeltDocker$", vm.Root},
		{"podman", "cgroupfs", "TestFeltPodman$", vm.Root},
		{"containerd-systemd", "systemd", "TestFelt(CRI|Containerd)$", vm.Systemd},
		{"docker-systemd", "systemd", "TestFeltDocker$", vm.Systemd},
		{"podman-systemd", "systemd", "TestFeltPodman$", vm.Systemd},
		{"podman-rootless", "systemd", "TestFeltRootless$", vm.SystemdUser},
		{"checkpoint", "cgroupfs", "TestCheckpoint", vm.Root},
		{"checkpoint-systemd", "systemd", "TestCheckpoint", vm.Systemd},
	} {
		t.Run(run.name, func(t *testing.T) {
			cache, err := os.UserCacheDir()
			if err != nil {
				t.Fatal(err)
			}
			env := []string{
				"BOX_ENGINES=all", "BOX_BIN=" + filepath.Dir(testkit.Build(t, "./cmd/box-runtime", false)),
				"BOX_ENGINES_CACHE=" + filepath.Join(cache, "box-test"), "BOX_ENGINES_DRIVER=" + run.driver,
			}
			if list := os.Getenv("BOX_ENGINES_RUNTIMES"); list != "" {
				env = append(env, "BOX_ENGINES_RUNTIMES="+list)
			}
			testkit.VMTests(t, vm.Config{Mode: run.mode, Env: env, Timeout: 30 * time.Minute}, "./test/engines", "-test.run="+run.tests)
		})
	}
}
