package cgroups

import (
	"bufio"
	"io"
	"path"
	"strings"

	"golang.org/x/sys/unix"

	"box/internal/errdefs"
	"box/pkg/cgroups/kernfs"
)

// The usual places of the cgroup2 file system.
const (
	pure   = "/sys/fs/cgroup"         // alone on the host
	hybrid = "/sys/fs/cgroup/unified" // beside v1 hierarchies
)

// Root returns the mount point of the unified hierarchy; it is ErrUnsupported if
// there is none.
func Root() (string, error) {
	if root := unifiedRoot(); root != "" {
		return root, nil
	}
	return "", noHierarchy("no cgroup2 file system is mounted")
}

// unifiedRoot returns the mount point of the unified hierarchy, "" if there is
// none. The usual places cost one statfs(2); elsewhere it is looked for in
// mountinfo.
func unifiedRoot() string {
	for _, dir := range []string{pure, hybrid} {
		var st unix.Statfs_t
		if unix.Statfs(dir, &st) == nil && st.Type == unix.CGROUP2_SUPER_MAGIC {
			return dir
		}
	}
	data, _ := kernfs.Read("/proc/self/mountinfo") // unreadable as empty: nothing is mounted for us
	return findMount(strings.NewReader(data))
}

// noHierarchy is the error for a host without cgroups.
func noHierarchy(why string) error {
	return errdefs.WithHint(
		errdefs.New(errdefs.ErrUnsupported, "find the cgroup hierarchies: %s", why),
		"Mount one with: mount -t cgroup2 none /sys/fs/cgroup")
}

// findMount looks for a cgroup2 mount of a whole hierarchy in mountinfo. The
// format is in proc_pid_mountinfo(5): the type follows " - ".
func findMount(r io.Reader) string {
	for lines := bufio.NewScanner(r); lines.Scan(); {
		mount, fs, _ := strings.Cut(lines.Text(), " - ")
		f := strings.Fields(mount)
		if len(f) > 4 && f[3] == "/" && strings.HasPrefix(fs, "cgroup2 ") {
			return f[4]
		}
	}
	return ""
}

// unifiedPath returns the path in the unified hierarchy from the content of a
// /proc/PID/cgroup, "/" if there is none.
func unifiedPath(procCgroup string) (p string, ok bool) {
	for line := range strings.Lines(procCgroup) {
		if p, ok := strings.CutPrefix(strings.TrimSuffix(line, "\n"), "0::"); ok {
			return p, true
		}
	}
	return "/", false
}

// checkPath refuses what is no linux.cgroupsPath of the cgroupfs form. One in systemd's
// form, slice:prefix:name, is a name like any other: containerd makes such paths for pods
// below a *.slice whichever driver it is set to, and runc takes them literally.
func checkPath(cgroupsPath string) error {
	for part := range strings.SplitSeq(cgroupsPath, "/") {
		// Neither may a group leave the tree it was meant for, nor a name
		// collide with the interface files of its parent.
		if part == ".." || strings.ContainsAny(part, "\n\x00") || len(part) > unix.NAME_MAX {
			return errdefs.New(errdefs.ErrInvalid, "linux.cgroupsPath: bad sub cgroup path %q", cgroupsPath)
		}
	}
	return nil
}

// resolve turns linux.cgroupsPath, or for an empty one the id of the container,
// into a path below the root of the unified hierarchy. An absolute one is that
// path. A relative one stands beside the group of the caller: in it would be
// against the rule that a group with controllers has no processes of its own.
func resolve(cgroupsPath, id, own string) (string, error) {
	if err := checkPath(cgroupsPath); err != nil {
		return "", err
	}
	p := cgroupsPath
	if p == "" {
		p = id
	}
	if path.Clean(p) == "." {
		return "", errdefs.New(errdefs.ErrInvalid, "linux.cgroupsPath: %q is the group of the caller", cgroupsPath)
	}
	if !path.IsAbs(p) {
		p = path.Join(path.Dir(path.Clean("/"+own)), p)
	}
	if p = path.Clean(p); p == "/" {
		return "", errdefs.New(errdefs.ErrInvalid, "linux.cgroupsPath: %q is the root of the hierarchy", cgroupsPath)
	}
	return p, nil
}
