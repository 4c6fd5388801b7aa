// Package cgroups makes, limits, empties and removes the control group of a
// container, in the unified hierarchy (cgroup v2, Documentation/admin-guide/
// cgroup-v2.rst of the kernel).
//
// Hosts have one of three layouts. Pure: cgroup2 on /sys/fs/cgroup, all
// controllers in it. Hybrid: cgroup2 on /sys/fs/cgroup/unified, most controllers
// in v1 hierarchies beside it; grouping, freezing, killing and device rules work
// there, limits of a controller that is elsewhere do not and are refused. V1
// alone is refused, as is a group that systemd is to make.
//
// A limit is refused by name if its controller is not there, with the reason,
// unless its value asks for nothing: engines always write cpu.shares 1024 (the
// kernel's default) or a pids limit of 2048 (podman's), wanted or not.
//
// The flow: Resolve finds the path, Create makes the directory, Apply and
// SetDevices write limits and device rules, File gives the descriptor for
// clone3(CLONE_INTO_CGROUP); later Procs, Freeze, Thaw, Kill, OOMKills, and
// Remove, which waits for the last process to be gone.
//
// It places no process by writing to cgroup.procs: a process that is born in its
// group cannot escape from it in between. It keeps no state: a Cgroup is a path,
// and two of the same path are the same group.
//
// Invariants: the root group is never touched; no path leaves the hierarchy;
// waiting is by notification (poll on cgroup.events), never by time.
package cgroups
