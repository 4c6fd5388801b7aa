// Package plan turns the stages of a Dockerfile into a graph of operations.
//
// Planning is pure: its inputs are the parsed file, the options of the build
// and the configs of the base images (through a Resolver); its output is the
// same for the same inputs, can be printed (Plan.String) and is compared in
// golden tests without root. Nothing is read from the build context and
// nothing is run; what an operation does is the business of package solve.
//
// The flow: New picks the target stage, evaluates it instruction by
// instruction and, on the way, every stage it stands on or copies from. Stages
// that the target does not need are never looked at, so their base images are
// not even resolved.
//
// Invariants: an Op's inputs come before it in Plan.Ops; two operations with
// the same definition are one Op; the definition digest covers everything an
// Op does except the contents of the build context.
package plan
