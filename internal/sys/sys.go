// Package sys holds the system calls that golang.org/x/sys/unix lacks, or that are
// dangerous to call bare: opening and making paths inside a directory tree that
// somebody hostile may be changing, passing descriptors over sockets, pidfds.
//
// It is not a portability layer and adds no policy: each function is one kernel
// mechanism with its flags chosen once. What x/sys wraps well is called from there.
//
// Invariants: every descriptor made here is close-on-exec; every path inside a tree
// is resolved by the kernel in one call (openat2) and used by descriptor afterwards,
// never twice as a string (CVE-2021-30465, CVE-2024-45310); nothing panics.
package sys

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// ignoringEINTR calls f until it is not interrupted by a signal.
func ignoringEINTR(f func() error) error {
	for {
		if err := f(); !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}

// file wraps a fresh descriptor; name is for error messages only.
func file(fd int, name string) *os.File { return os.NewFile(uintptr(fd), name) }
