// Package vm runs a command in a virtual machine of its own: Debian's kernel,
// the host's files, and nothing but cgroup v2 with every controller. It is how
// tests prove limits, unprivileged containers and systemd on hosts that mount
// version 1 hierarchies, and how they meet an older kernel than the host's.
//
// QEMU emulates the processor (no KVM is asked for), which makes the machine start
// in three seconds and compute a dozen times slower than the host: build
// natively, run only the binaries inside.
//
// It is no general runner of virtual machines: there is one shape, one kernel, no
// network card, and the disk is thrown away. Invariants: the host's files cannot
// be written from inside but for the directories that [Config.Writable] names,
// and [Run] leaves nothing behind, neither process nor file.
//
// The one flow: [Run] makes channels, a sparse disk and an initial file
// system out of this very program (see package guest), starts virtiofsd and QEMU,
// and then speaks [Frame]s with the guest until the status of the command comes. If
// the time is over before, it asks the machine what it is at, and says so.
package vm
