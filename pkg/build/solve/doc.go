// Package solve carries out a plan: it finds out which operations have been
// done before, does the others, and gives the layers of the result.
//
// Operations are independent but for their inputs; each waits for its inputs
// and runs as soon as it may, the number of working ones bounded. What one
// needs to know of its input is the chainID, which names contents, so a cached
// operation touches no file system at all.
//
// The key of an operation is made of its own definition (package plan), the
// chainID it works on, and, for a copy, the digest of the files it reads:
// path, type, mode, owner, link target, extended attributes and data, but not
// the times. A step that ran again and gave the same files is therefore as
// good as cached for whoever copies from it.
//
// Files are read and written by directory file descriptor and openat2 only:
// a source never leaves its context (RESOLVE_BENEATH for what is walked,
// resolution by hand for what is named), a destination never leaves the root
// file system it is written to (RESOLVE_IN_ROOT).
//
// Everything a killed build leaves behind is found by Sweep: run directories
// whose lock nobody holds, snapshots without a run directory. Mounts and
// network namespaces need no sweeping, they die with the process.
//
// It does not parse or expand anything, does not resolve image names and does
// not write the image: that is package build.
package solve
