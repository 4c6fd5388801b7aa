package gen_test

import (
	"fmt"
	"os"

	"box/pkg/spec/gen"
)

// An image made from scratch has no accounts: its user has to be a number.
func ExampleResolveUser() {
	dir, err := os.MkdirTemp("", "image")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)
	root, err := os.Open(dir)
	if err != nil {
		panic(err)
	}
	defer root.Close()

	user, home, err := gen.ResolveUser(root, "1000:100")
	fmt.Println(user.UID, user.GID, home, err)
	_, _, err = gen.ResolveUser(root, "app")
	fmt.Println(err)
	// Output:
	// 1000 100 / <nil>
	// find user "app": no such name in the image's /etc/passwd
}
