// Package cgroups makes, limits, empties and removes the control group of a
// container (cgroup v2, Documentation/admin-guide/cgroup-v2.rst of the kernel;
// cgroup v1 in package legacy).
//
// Hosts have one of three layouts. Pure: cgroup2 on /sys/fs/cgroup, all
// controllers in it. Hybrid: cgroup2 on /sys/fs/cgroup/unified, most controllers
// in v1 hierarchies beside it; the group is made in all of them, since limits are
// set and figures are read where the controller is; freezing, killing and device
// rules work in the unified one. V1 alone: all of it there.
//
// A limit is refused by name if its controller is not there, with the reason,
// unless its value asks for nothing: engines always write cpu.shares 1024 (the
// kernel's default) or a pids limit of 2048 (podman's), wanted or not.
//
// The flow: Resolve finds the path, Create makes the group, Apply and SetDevices
// write limits and device rules, Launch starts the process in it; Location is
// written down. Later Open, then Procs, Freeze, Thaw, Kill, OOMKills, and Remove,
// which waits for the last process to be gone.
//
// A process is born in its group and cannot escape from it in between; only where
// the kernel does not allow that it is moved there, while it waits. A Cgroup keeps
// no state: it is a path, and two of the same path are the same group.
//
// Invariants: the root group is never touched; no path leaves the hierarchy;
// waiting is by notification (poll on cgroup.events) where the kernel has one,
// which v1 has not.
package cgroups
