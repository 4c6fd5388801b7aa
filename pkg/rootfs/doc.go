// Package rootfs plans the file system of a container: everything mounted, device
// nodes made, paths masked, and the root pivoted, as steps of a launch program.
//
// The flow is Look (what planning must know of the host, as a plain value), New
// (checks, no access to the host), then the phases in this order:
//
//	AddMounts   propagation, the root mount, mounts, devices, links
//	            (here createContainer hooks and the console have their place)
//	AddMasks    masked and read-only paths
//	AddPivot    pivot_root, read-only root
//	AddWorkdir, and, with the command's own ids, AddEnter
//
// The image is taken for hostile, the configuration for trusted. Therefore:
//
//   - A path inside the root is resolved once, by openat2 with RESOLVE_IN_ROOT and
//     RESOLVE_NO_MAGICLINKS at the moment when it is needed, and used by descriptor.
//     What a rename in a shared volume changes afterwards does not matter
//     (CVE-2021-30465, CVE-2024-45310).
//   - Mounts are made detached, given all their attributes, and attached by
//     descriptor: nothing is ever mounted more permissively than it will be.
//   - procfs and sysfs are mounted on ordinary directories only, and nothing but a
//     short list is mounted on a procfs (CVE-2019-16884, CVE-2019-19921).
//   - The source of a masked file is the host's /dev/null, opened before the pivot
//     and verified (CVE-2025-31133).
//
// What no list of system calls in the container's namespaces can do (to open a source
// that only the host's root may, to translate a mount's owners, to copy a tree), the
// program asks its parent for: see Errand. The package only says what is wanted.
//
// It is not a mounter: it calls nothing but the few looks in Look. It mounts no
// images; the root directory is there when a container begins.
package rootfs
