// Package dockerfile turns the text of a Dockerfile into stages of typed
// instructions.
//
// It is the only package of box that imports BuildKit's Dockerfile packages:
// the grammar (directives, continuations, heredocs, JSON forms, word
// expansion) is theirs, so that a file that builds elsewhere parses here in
// the same way. Everything above works on the types of this package.
//
// It is not a planner: variables are not expanded, stages not resolved and
// files not looked at. What box does not carry out yet is not an error here
// either, but a Refusal on the instruction, so that a stage which the target
// does not need may hold it.
//
// Invariants: a File has at least one stage; every instruction knows its
// lines; every error is a *Error with file, line and an excerpt.
package dockerfile
