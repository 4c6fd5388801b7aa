package spec_test

import (
	"fmt"

	"box/pkg/spec"
)

// A mistake is reported with its line, its column and the path of the field.
func ExampleDecode() {
	_, err := spec.Decode("config.json", []byte(`{
  "ociVersion": "1.2.0",
  "process": {"args": ["sh"], "cwd": "/", "user": {"uid": "root"}}
}`))
	fmt.Println(err)
	// Output:
	// config.json:3:59: process.user.uid: want a number, have a string
}
