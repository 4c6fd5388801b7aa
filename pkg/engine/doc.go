// Package engine is what a user calls a container: create, start, run, stop,
// kill, wait, list, inspect, logs, exec, remove.
//
// There is no daemon. An Engine is a view on two directories, and any number
// of processes may have one at the same time. What has to live as long as a
// container, and no shorter, is in the container's monitor (package monitor).
// The engine pulls no images, prints nothing, and knows no flags.
//
// Invariants:
//   - whoever changes a container holds its lock (package record); the lock
//     passes to the monitor at start;
//   - a process killed at any moment leaves only what the kernel removes by
//     itself and what Sweep finds by one look at the run directory. Every
//     method that looks at containers sweeps first;
//   - Remove and Sweep never follow a path into a container's tree.
//
// It has more than twelve files because there is one for each verb; what a verb
// shares with no other lies beside it.
//
// The one flow is Run: Sweep → reserve id and lock → spawn the monitor, which
// starts up while this process prepares root file system, volumes and
// config.json → save the record → ask the monitor to start → a Session, whose
// Wait returns the exit code.
package engine
