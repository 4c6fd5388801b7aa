package store_test

import (
	"context"
	"errors"
	"fmt"
	"os"

	"box/internal/errdefs"
	"box/pkg/image/store"
)

func Example() {
	root, err := os.MkdirTemp("", "store-example")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(root)
	s, err := store.Open(root)
	if err != nil {
		fmt.Println(err)
		return
	}
	// Whoever goes from an image to something that stands on it holds the store.
	release, err := s.Hold(context.Background())
	if err != nil {
		fmt.Println(err)
		return
	}
	defer release()
	_, err = s.Lookup("busybox")
	fmt.Println(err)
	fmt.Println(errors.Is(err, errdefs.ErrNotFound))
	// Output:
	// image busybox: no such image
	// true
}
