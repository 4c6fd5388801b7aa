//go:build amd64 || arm64

package launch

// relayHandlers returns the addresses of the signal handlers: for all signals, and
// for those that may also be faults of ours.
func relayHandlers() (all, fault uintptr)
