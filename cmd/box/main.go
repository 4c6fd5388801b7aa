// The Go runtime would read its cgroup's CPU limit at the start, keep the files
// open and read them again all the time, to adapt GOMAXPROCS. Most commands are
// gone before that could matter.
//
//go:debug containermaxprocs=0
//go:debug updatemaxprocs=0

// Command box builds, runs and ships OCI containers without a daemon. All it
// does is in package cli; see docs/architecture.md.
package main

import (
	"os"

	"box/pkg/cli"
)

// Set by the linker; see the Makefile.
var version, commit string

func main() {
	os.Exit(cli.Main(cli.Build{Version: version, Commit: commit}, os.Args[1:]))
}
