// Package monitor supervises one container from its start to its end. It is
// the whole of box-monitor, the one program of box that runs as long as a
// container does; nothing heavy may be linked into it.
//
// A monitor is started by the engine in a mount namespace of its own, with two
// inherited descriptors: its first connection and the container's lock. It
// mounts the container's root file system and names its network namespace where
// only its own children see them, so that both are gone when it and the
// container are. It keeps the ports, collects the output, writes the log,
// reaps the container, takes everything down again, and tells everybody who
// asked. It makes no decision of its own and reads no configuration but the
// record.
//
// Invariants:
//   - it holds the lock as long as anything of the container exists; it lets
//     go only after the last thing is cleared away, or when it is killed, and
//     then the next command's sweep does the clearing;
//   - what a client is told has happened: "started" after the command runs,
//     "exited" after all output is written and everything that anybody could
//     see is torn down;
//   - a slow or dead client costs the container its patience at most, never its
//     log and never its teardown;
//   - it waits for descriptors and children, it never polls.
//
// The flow: Main → await the start request → setup (ports, network, mounts) →
// runtime run → serve and wait → teardown.
package monitor
