// Package overlay keeps unpacked image layers and the writable directories of
// containers, and joins them into one tree with the kernel's overlay filesystem.
//
// # Words
//
// A layer is one directory in overlay's own on-disk form: a deleted file is a
// character device 0:0, a directory that hides everything below it carries the
// xattr trusted.overlay.opaque. A committed layer is named by its chainID (OCI
// image spec, config.md, "Layer ChainID"), the digest of itself and everything
// below it, and never changes again. A staged layer is one that is being
// unpacked; it does not know its parents yet, so all layers of an image can be
// unpacked at the same time. An active snapshot is a writable directory on top
// of a chain; it belongs to a container or to a build step and is named by a key.
//
// # On disk
//
//	layers/<hex of chainID>/diff     the layer
//	layers/<hex of chainID>/parent   chainID of the parent; empty for a base layer
//	layers/<hex of chainID>/boot     only in the boot that wrote the layer; see torn.go
//	active/<key>/{upper,work,parent} a writable snapshot
//	stage/<random>/                  work in progress, flock'd by its owner
//	empty/                           an empty directory, bottom of read-only views
//
// # Invariants
//
//   - layers/<x> appears by one rename and is complete from then on. What a
//     power failure has cut short is recognised and counts as absent.
//   - Whoever works in stage/ holds a flock on the directory there. A directory
//     without that lock belongs to nobody; Sweep removes it.
//   - The package makes no mount that outlives its file descriptor, except the
//     one that Mount makes in the caller's own mount namespace.
//
// It is not a content store: it knows nothing of tar, blobs, tags or images,
// and it does not decide what may be removed; package image/store does.
//
// The flow through it: Stage, unpack into Staged.Dir, Commit for every layer in
// order; then Prepare, Mount (inside PrivateMounts), and either
// RemoveActive or Active.Commit.
package overlay
