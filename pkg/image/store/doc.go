// Package store keeps images: a content store in the form of an OCI image
// layout, the tags in its index.json, and the unpacked layers in the snapshot
// store beside it.
//
//	ROOT/image/oci-layout, index.json     readable in place: skopeo inspect oci:ROOT/image:NAME
//	ROOT/image/blobs/<algorithm>/<hex>    content, named by its digest
//	ROOT/image/ingest/                    blobs being written
//	ROOT/image/compressed/<hex>           which blob is the compressed form of a layer, by diffID
//	ROOT/image/.lock, .index.lock         see below
//	ROOT/snapshots/                       package overlay
//
// # Invariants
//
//   - A blob appears under its name by rename, after its digest has been
//     verified. It never changes.
//   - index.json is replaced atomically, and only after everything it refers to
//     has reached the disk. A tag never points at something incomplete.
//   - An image is unpacked only if every layer, uncompressed, has the diffID
//     that the configuration promises.
//
// # Locks
//
// Everything that adds content holds .lock shared for the whole operation; the
// collection of garbage holds it exclusively and is skipped, not waited for,
// when it cannot have it. So whoever holds it shared may rely on every blob and
// layer he has seen, and under the exclusive lock every file in ingest/ is
// the leftover of a dead process. .index.lock covers one read-modify-write of
// index.json. The kernel drops both with their holder: kill -9 at any moment
// leaves a usable store.
//
// It is no registry client and does not parse what users type beyond image
// names; package registry and the command line do.
package store
