// Package volume reads what users and images say about volumes, and makes the
// directories that are mounted for them. It mounts nothing and removes nothing.
//
// Invariants:
//   - a path that comes from an image stays inside the image's tree, and no
//     symbolic link of a tree is followed while it is copied;
//   - a volume that has something in it is never written to.
//
// The flow: Wanted (pure) → Spec.Mount for each (pure), so that the caller can
// write down what it is going to make → Spec.Make.
package volume
