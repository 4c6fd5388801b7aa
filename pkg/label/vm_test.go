package label_test

import (
	"testing"

	"box/internal/testkit"
	"box/internal/testkit/vm"
)

// TestInVM runs what needs AppArmor on a kernel that has it.
func TestInVM(t *testing.T) {
	testkit.VMTests(t, vm.Config{}, "./pkg/label", "-test.run=ForReal")
}

// TestContainerInVM runs whole containers under a profile there.
func TestContainerInVM(t *testing.T) {
	binary := testkit.Build(t, "./cmd/box-runtime", false)
	testkit.VMTests(t, vm.Config{Env: []string{"BOX_TEST_RUNTIME=" + binary}}, "./pkg/runtime", "-test.run=AppArmorProfile")
}
