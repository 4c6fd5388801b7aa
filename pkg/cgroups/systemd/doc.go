// Package systemd has systemd make, change and stop the unit of a container: a
// transient scope, in a slice, delegated to us (systemd's CONTROL_GROUP_INTERFACE,
// org.freedesktop.systemd1(5)). What is in the group, and every limit that systemd
// has no property for, stays the business of package cgroups.
//
// It speaks D-Bus itself, over a blocking socket: the half dozen calls and the one
// signal that are needed are a few hundred bytes on the wire, and a general library
// would cost every container's start what few of them use. Nothing here runs, nor
// is anything dialled, unless a unit is asked for.
//
// A scope has processes from the beginning, or systemd does not start it. It is
// started with a holder: a program of a few kilobytes that waits, until the
// container's own has been born in the group. The holder ends with its maker, so a
// killed runtime leaves an empty scope, which systemd removes.
//
// It waits for jobs by systemd's signal. Annotations of a container set properties
// from a list, each with the type that systemd has for it, and no others: a spec
// may come from somebody who must not give orders to the init of the host
// (CVE-2024-3154).
package systemd
