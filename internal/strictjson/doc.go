// Package strictjson reads and writes JSON texts of known types without reflection.
//
// Why not encoding/json: the first use of a type in a process builds plans of it by
// reflection, 100 µs for the record of a container and 600 µs for specs.Spec, and
// box-runtime uses each type once in a life of four milliseconds. Here the caller brings
// a function for each type, generated (pkg/spec) or written down (pkg/runtime).
//
// It is also stricter where leniency hides mistakes: a key that occurs twice, be it in
// another case, and bytes that are not UTF-8 are errors here; in encoding/json they
// silently lose. Numbers fit their fields, and no string has a NUL.
//
// Invariants: a mistake is reported once, as errdefs.ErrInvalid, with the line and column
// in bytes and the path of the value; nesting is bounded; strings that are read are pieces
// of one copy of the text.
package strictjson
