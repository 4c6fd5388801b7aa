package image_test

import (
	"fmt"

	"box/pkg/image"
)

func ExampleParseReference() {
	ref, err := image.ParseReference("busybox")
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(ref)
	fmt.Println(ref.Familiar())
	// Output:
	// docker.io/library/busybox:latest
	// busybox:latest
}
