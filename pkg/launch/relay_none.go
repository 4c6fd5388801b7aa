//go:build !amd64 && !arm64

package launch

// relayHandlers has nothing to return where there is no interpreter either.
func relayHandlers() (all, fault uintptr) { return 0, 0 }
