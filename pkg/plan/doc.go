// Package plan turns the specification of a container, of a process in one or of a hook,
// and facts about the host, into a launch plan: the steps from a fresh process to the
// execve of the command.
//
// It is pure: it opens, reads and asks for nothing, so that a plan can be printed,
// compared and tested anywhere. It starts no programs (package launch), makes no cgroups
// and keeps no state (package runtime), and what a mount or a namespace takes in steps
// is the business of packages rootfs and namespaces; here is their order.
//
// Invariants:
//   - The same values give the same plan, byte by byte.
//   - Each step has a name, which prefixes its error, and says why it stands where it
//     stands.
//   - Whatever can be refused is refused before there is a process, by New…; Assemble
//     fails only for what cannot be known earlier.
//
// The one flow: NewContainer (or NewProcess, for Exec and Hook) checks; the caller opens
// what the program needs and fills in Layout; Assemble writes the steps down. While the
// program runs, it reports the marks named here, and Explain puts failures into words.
package plan
