package cgroups

import (
	"bufio"
	"io"
	"os"
	"path"
	"strings"

	"golang.org/x/sys/unix"

	"box/internal/errdefs"
)

// usual are the places of the cgroup2 file system: on pure and on hybrid hosts.
var usual = []string{"/sys/fs/cgroup", "/sys/fs/cgroup/unified"}

// Root returns the mount point of the unified hierarchy. The usual places cost
// one statfs(2); elsewhere it is looked for in mountinfo.
func Root() (string, error) {
	for _, dir := range usual {
		var st unix.Statfs_t
		if unix.Statfs(dir, &st) == nil && st.Type == unix.CGROUP2_SUPER_MAGIC {
			return dir, nil
		}
	}
	f, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return "", err
	}
	defer f.Close()
	if dir := findMount(f); dir != "" {
		return dir, nil
	}
	return "", errdefs.WithHint(
		errdefs.New(errdefs.ErrUnsupported, "find the cgroup v2 hierarchy: no cgroup2 file system is mounted"),
		"Mount one with: mount -t cgroup2 none /sys/fs/cgroup/unified")
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

// ownGroup returns the group of the calling process, "/" if it is in none.
func ownGroup() (string, error) {
	data, err := readFile("/proc/self/cgroup")
	if err != nil {
		return "", err
	}
	for line := range strings.Lines(data) {
		if p, ok := strings.CutPrefix(strings.TrimSuffix(line, "\n"), "0::"); ok {
			return p, nil
		}
	}
	return "/", nil
}

// resolve turns linux.cgroupsPath into a path below the root of the hierarchy. An
// absolute one is that path. A relative one, and for an empty one the id of the
// container, stands beside the group of the caller: in it would be against the
// rule that a group with controllers has no processes of its own.
func resolve(cgroupsPath, id, own string) (string, error) {
	if strings.Count(cgroupsPath, ":") == 2 && !strings.HasPrefix(cgroupsPath, "/") {
		return "", errdefs.WithHint(
			errdefs.New(errdefs.ErrUnsupported, "linux.cgroupsPath: %q has the form slice:prefix:name, and groups made by systemd are not supported yet", cgroupsPath),
			"Choose the cgroupfs driver in the engine (podman --cgroup-manager cgroupfs, dockerd --exec-opt native.cgroupdriver=cgroupfs).")
	}
	for part := range strings.SplitSeq(cgroupsPath, "/") {
		// Neither may a group leave the tree it was meant for, nor a name
		// collide with the interface files of its parent.
		if part == ".." || strings.ContainsAny(part, "\n\x00") || len(part) > unix.NAME_MAX {
			return "", errdefs.New(errdefs.ErrInvalid, "linux.cgroupsPath: bad sub cgroup path %q", cgroupsPath)
		}
	}
	if cgroupsPath == "" {
		cgroupsPath = id
	}
	if !path.IsAbs(cgroupsPath) {
		cgroupsPath = path.Join(path.Dir(path.Clean("/"+own)), cgroupsPath)
	}
	p := path.Clean(cgroupsPath)
	if p == "/" {
		return "", errdefs.New(errdefs.ErrInvalid, "linux.cgroupsPath: %q is the root of the hierarchy", cgroupsPath)
	}
	return p, nil
}

// v1Name is the name of a controller in the old hierarchies.
func v1Name(controller string) string {
	if controller == "io" {
		return "blkio"
	}
	return controller
}

// whyMissing explains why the root of the hierarchy lacks a controller, from the
// content of /proc/self/cgroup: lines of hierarchy, controllers and path.
func whyMissing(controller, procCgroup string) string {
	for line := range strings.Lines(procCgroup) {
		f := strings.SplitN(line, ":", 3)
		if len(f) < 3 {
			continue
		}
		for c := range strings.SplitSeq(f[1], ",") {
			if c == v1Name(controller) {
				return "the controller " + controller + " is mounted as cgroup v1 on this host"
			}
		}
	}
	return "this kernel offers no controller " + controller
}
