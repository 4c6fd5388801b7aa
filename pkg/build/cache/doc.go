// Package cache is the memory of the builder: which result an operation had,
// what files of a context contained when they were last looked at, and what a
// step was made of the last time it ran.
//
// It holds no file systems and no layers, only their digests; a result whose
// layer is gone is no hit, and it is the caller who checks that. It decides
// nothing about keys either: the solver computes them.
//
// On disk, under one directory:
//
//	results/<hex of key>   JSON, one Result
//	contents/<hex>         digest of what a selection of an immutable tree holds
//	steps/<hex>            JSON, what a step was made of: explains a miss
//	contexts/<hex>         binary, digests of a context's files by their stat data
//
// Invariants: every file is replaced atomically, so that builds may share the
// directory without locks; all of it may be deleted at any time and costs time
// only. A file that cannot be read, from a crash or a later version, counts as
// absent.
package cache
