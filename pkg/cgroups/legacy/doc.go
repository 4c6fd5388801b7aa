// Package legacy is the driver for cgroup v1: it makes a container's group in
// every v1 hierarchy of the host, places processes in it, limits it by the
// controllers that are there, and removes it (Documentation/admin-guide/cgroup-v1
// of the kernel). It is small on purpose: hosts with v1 are old, and what is
// missing there is missing.
//
// It is not used on hosts with cgroup v2 alone, where Find returns nil, and it
// costs them nothing but that question. On hybrid hosts it stands beside the
// unified hierarchy, which package cgroups serves, and which does what v1 does
// badly: kill, freeze, notify, device rules.
//
// Placement needs no wait and no race: the thread that clones enters the group
// first, so that the child is born in it, and leaves again. A thread may move
// itself without the kernel's global lock, which moving a process waits for: in
// nine hierarchies that is the difference between a tenth of a millisecond and
// tens of them.
//
// Invariants: the root group of a hierarchy is never changed; no path leaves its
// hierarchy; mounts are never touched.
package legacy
