//go:build amd64 || arm64

package bare

// spawn starts the thread. It returns its number, or -errno.
func spawn(calls **Call, n int, alive *uint32) int
