package cgroups

import (
	"testing"

	"box/internal/testkit"
	"box/internal/testkit/vm"
)

// TestInVM runs this package's tests where cgroup v2 is alone and has every
// controller.
func TestInVM(t *testing.T) {
	testkit.VMTests(t, vm.Config{}, "./pkg/cgroups", "-test.skip=InVM|Scope")
}

// TestInVMWithSystemd runs those of scopes under systemd as the init.
func TestInVMWithSystemd(t *testing.T) {
	testkit.VMTests(t, vm.Config{Mode: vm.Systemd}, "./pkg/cgroups", "-test.run=Scope")
}

// TestInVMWithUserManager runs them as a user, with the user's own systemd.
func TestInVMWithUserManager(t *testing.T) {
	testkit.VMTests(t, vm.Config{Mode: vm.SystemdUser}, "./pkg/cgroups", "-test.run=Scope")
}
