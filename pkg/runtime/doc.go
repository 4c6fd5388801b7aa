// Package runtime carries an OCI container through its life: create, start,
// exec, kill, delete and the questions in between.
//
// It is not an engine. It knows nothing of images, networks, names or logs; it
// takes a bundle (a directory with config.json and, usually, rootfs/) and leaves
// behind one directory of state and one process. There is no daemon: every
// method reads what it needs from the state directory and the kernel.
//
// Invariants:
//   - A container's state directory exists before anything else of it does, and
//     goes last. Whatever a killed create left behind, Delete with force removes.
//   - The record on disk never says more than the kernel: whether a container is
//     created, running, paused or stopped is looked up each time.
//   - What happens inside the new namespaces is a launch plan, written by pure functions
//     (package plan) from a specs.Spec and a value of facts about the host.
//   - Nothing is printed on file descriptors 0, 1 and 2: they are the container's.
//
// The one flow: Create loads the bundle, gathers facts, assembles the plan, makes
// the cgroup, starts the program in its namespaces, does what only the parent can
// do while the program waits, and returns once the program reports that nothing
// but the execve is left. Start lets it go.
package runtime
