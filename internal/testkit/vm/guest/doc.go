// Package guest is the inside of the test VM: the init process that builds the
// root out of the host's files, gives the command its cgroup, runs it and tells
// the host how it ended.
//
// It must never run anywhere else: it mounts, and it ends by nothing but the
// machine's end. [IsInit] says whether it may.
//
// The one flow: load modules → find the port → mount disk, host's files, overlay →
// kernel file systems → cgroups → users → the command (or systemd, which starts
// this program again as the unit that runs the command) → its status.
package guest
