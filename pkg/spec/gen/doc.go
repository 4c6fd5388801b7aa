// Package gen writes the OCI runtime configuration of a container: what
// config.json says when the user asked for nothing in particular, and what
// changes when they did.
//
// The defaults are Docker's, because images and habits are made for them: the
// same mounts, masked and read-only paths, fourteen capabilities, device rules
// and seccomp profile (taken from github.com/moby/profiles, with two holes
// closed, see seccomp.go). What Docker decides per image (the numeric user, the
// supplementary groups, the home directory) is decided here too, by
// ResolveUser.
//
// It is not a validator (package spec is) and it touches no container: Spec is
// a function from Options to a value. Two facts of the host enter it, and both
// only ever make the result stricter: the kernel version (inside the seccomp
// profile) and which CPUs have a thermal_throttle directory to mask.
//
// Invariants: the inheritable and ambient capability sets are empty
// (CVE-2022-24769), a user other than root starts without effective
// capabilities (CVE-2018-10856), the primary group is in the list of additional
// groups (CVE-2023-25173), and nothing that an image can say reaches a path on
// the host.
package gen
