// Package layer turns layer archives into directory trees and back.
//
// Unpack writes a tar stream, which is hostile, into a private directory in
// overlay's on-disk form; Pack writes such a directory as a tar stream, the same
// bytes for the same tree. Decompress sits before the one, Compress behind the
// other.
//
// # Invariants
//
//   - Nothing outside the directory is read, written or changed: every path is
//     resolved by openat2 beneath the directory's own descriptor, names with
//     ".." are refused, and what was resolved is used by descriptor.
//   - Overlay's own xattrs are neither taken from an archive nor put into one.
//   - A stream is bounded in bytes, entries and path length before anything of
//     it is trusted; the digest of all its bytes is compared at the end.
//
// The package does not know what an image is and does not join layers: it is
// given one layer and one directory.
package layer
