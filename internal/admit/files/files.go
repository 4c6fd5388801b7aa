// Package files gives the process its limit of open files back, which the entry point
// (package admit) has lowered.
//
// It has to happen between the start of the Go runtime and package syscall, which looks
// at the limit, raises it, and sets it for every program that is started. Packages are
// made ready in the order of their paths as far as their imports are ready (Go
// specification, "Package initialization"): so this one imports nothing.
package files

// lowered is what the limit was before: struct rlimit of setrlimit(2), zero if it is as it
// was.
var lowered struct{ soft, hard uint64 }

func init() {
	if lowered.hard != 0 {
		restore()
	}
}
