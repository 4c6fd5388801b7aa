package legacy

import (
	"path"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"box/pkg/cgroups/kernfs"
)

// usual is where distributions mount the hierarchies, each in a directory named
// after its controllers.
const usual = "/sys/fs/cgroup"

// hierarchy is one mounted hierarchy.
type hierarchy struct {
	name        string   // "cpu,cpuacct", "name=systemd": as in /proc/PID/cgroup
	controllers []string // "cpu", "cpuacct"; none for named ones
	mount       string   // directory of its root group
	own         string   // path of the caller's group
}

// find lists the mounted hierarchies, in the kernel's order. procCgroup is the
// content of /proc/self/cgroup, lines of id:controllers:path (cgroups(7)), which
// has every hierarchy, mounted or not; a pure v2 host has only the line 0::path.
func find(procCgroup string, mountOf func(name string) string) []hierarchy {
	var all []hierarchy
	for line := range strings.Lines(procCgroup) {
		id, rest, _ := strings.Cut(strings.TrimSuffix(line, "\n"), ":")
		name, own, ok := strings.Cut(rest, ":")
		if !ok || id == "0" || name == "" {
			continue
		}
		h := hierarchy{name: name, own: path.Clean("/" + own)}
		if !strings.HasPrefix(name, "name=") {
			h.controllers = strings.Split(name, ",")
		}
		if h.mount = mountOf(name); h.mount != "" {
			all = append(all, h)
		}
	}
	return all
}

// mountPoint looks for a hierarchy at its usual place, which costs a statfs(2),
// and in mountinfo otherwise. A hierarchy that is mounted nowhere has "".
func mountPoint(name string) string {
	dirs := append([]string{strings.TrimPrefix(name, "name=")}, strings.Split(name, ",")...)
	for _, dir := range dirs {
		var st unix.Statfs_t
		dir = filepath.Join(usual, dir)
		if unix.Statfs(dir, &st) == nil && st.Type == unix.CGROUP_SUPER_MAGIC {
			return dir
		}
	}
	data, _ := kernfs.Read("/proc/self/mountinfo") // unreadable as empty: not mounted for us
	return findMount(data, name)
}

// findMount looks for the mount of a hierarchy's root group in mountinfo
// (proc_pid_mountinfo(5)): the controllers are among the options of the file
// system, which come last.
func findMount(mountinfo, name string) string {
	for line := range strings.Lines(mountinfo) {
		mount, fs, _ := strings.Cut(line, " - ")
		m, f := strings.Fields(mount), strings.Fields(fs)
		if len(m) < 5 || len(f) < 3 || f[0] != "cgroup" || m[3] != "/" {
			continue
		}
		options := strings.Split(f[2], ",")
		if !slices.ContainsFunc(strings.Split(name, ","), func(n string) bool { return !slices.Contains(options, n) }) {
			return m[4]
		}
	}
	return ""
}
