package cgroups_test

import (
	"fmt"

	"box/pkg/cgroups"
)

// A group is found by its whole path only: what is remembered of one must not
// depend on where the caller stands.
func ExampleAt() {
	_, err := cgroups.At("box/web")
	fmt.Println(err)
	// Output:
	// open cgroup "box/web": not an absolute path
}
