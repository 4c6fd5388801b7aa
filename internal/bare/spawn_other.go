//go:build !amd64 && !arm64

package bare

import "golang.org/x/sys/unix"

// spawn has no code for other machines; there is none in package launch either.
func spawn(**Call, int, *uint32) int { return -int(unix.ENOSYS) }
