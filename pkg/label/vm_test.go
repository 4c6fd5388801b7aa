package label_test

import (
	"testing"

	"box/internal/testkit"
	"box/internal/testkit/vm"
)

// TestInVM runs what needs AppArmor on a kernel that has it.
func TestInVM(t *testing.T) {
	testkit.VMTests(t, vm.Config{}, "./pkg/label", "-test.run=AppArmorForReal")
}

// TestContainerInVM runs whole containers under a profile there.
func TestContainerInVM(t *testing.T) {
	binary := testkit.Build(t, "./cmd/box-runtime", false)
	testkit.VMTests(t, vm.Config{Env: []string{"BOX_TEST_RUNTIME=" + binary}}, "./pkg/runtime", "-test.run=AppArmorProfile")
}

// TestSELinuxInVM runs what needs SELinux on a kernel that is told to have it.
func TestSELinuxInVM(t *testing.T) {
	selinux := vm.Config{KernelArgs: []string{"security=selinux", "selinux=1"}, Env: []string{"BOX_TEST_SELINUX=1"}}
	testkit.VMTests(t, selinux, "./pkg/label", "-test.run=SELinuxForReal")
	selinux.Env = append(selinux.Env, "BOX_TEST_RUNTIME="+testkit.Build(t, "./cmd/box-runtime", false))
	testkit.VMTests(t, selinux, "./pkg/runtime", "-test.run=TestSELinuxLabels")
}
