package rootfs

import (
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"box/internal/errdefs"
	"box/internal/sys"
)

// Facts are what planning needs to know of the host. They only choose between
// steps: the steps themselves do not trust them.
type Facts struct {
	// Root is the container's root directory: absolute, without symlinks.
	Root string
	// Mounts tells of each of the spec's mounts, in order.
	Mounts []MountFacts
	// Cgroup2 is where the host's cgroup2 hierarchy is mounted.
	Cgroup2 string
	// Hierarchies are the host's hierarchies of cgroup v1, with the container's group
	// in each; none on a host that has v2 alone.
	Hierarchies []Hierarchy
	// Kcore says that the kernel has /proc/kcore.
	Kcore bool
	// Confined says that the runtime itself lives in a user namespace, as under podman
	// without root: it may make no device nodes there, nor undo what the host has locked.
	Confined bool
	// NoPivot asks to do without pivot_root (--no-pivot). Full are the host's mount
	// points then at which the whole of a procfs or sysfs is mounted.
	NoPivot bool
	Full    []string
}

// Hierarchy is one of cgroup v1.
type Hierarchy struct {
	Name string // as in /proc/PID/cgroup: "cpu,cpuacct", "name=systemd"
	Dir  string // the container's group on the host
}

// MountFacts tell of one mount.
type MountFacts struct {
	// Source is the absolute path of a bind mount's source.
	Source string
	// File says that the source is not a directory.
	File bool
	// Mode has type and permissions of the directory that a tmpfs is to cover, 0 if
	// they are not known.
	Mode uint32
	// Proc says that the source is a procfs.
	Proc bool
	// Missing is the destination, with symlinks resolved inside the root, if it does
	// not exist; empty if it does.
	Missing string
}

// Look gathers the facts about the bundle's root and mounts. Relative paths of the
// spec begin at the bundle directory.
func Look(bundle string, s *specs.Spec) (Facts, error) {
	if s.Root == nil || s.Root.Path == "" {
		return Facts{}, errdefs.New(errdefs.ErrInvalid, "read root.path: it is empty")
	}
	root, err := filepath.EvalSymlinks(absolute(bundle, s.Root.Path))
	if err != nil {
		return Facts{}, fmt.Errorf("find root directory: %w", err)
	}
	dir, err := unix.Open(root, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return Facts{}, &os.PathError{Op: "open root directory", Path: root, Err: err}
	}
	defer unix.Close(dir)
	f := Facts{Root: root, Cgroup2: findCgroup2(), Kcore: exists("/proc/kcore")}
	for i, m := range s.Mounts {
		facts, err := f.lookMount(bundle, m)
		if err != nil {
			return Facts{}, err
		}
		if !f.covered(m, s.Mounts[:i]) {
			dest := f.dest(m.Destination)
			facts.Missing = missing(dir, dest)
			if m.Type == "tmpfs" && facts.Missing == "" {
				facts.Mode = modeOf(dir, dest)
			}
		}
		f.Mounts = append(f.Mounts, facts)
	}
	return f, nil
}

// LookNoPivot gathers what planning without pivot_root needs to know in addition.
func (f *Facts) LookNoPivot() error {
	data, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return err
	}
	f.NoPivot, f.Full = true, fullMounts(string(data))
	return nil
}

// fullMounts finds in mountinfo (proc_pid_mountinfo(5)) the mount points of procfs and
// sysfs that show the file system's root, the last mounted first.
func fullMounts(mountinfo string) (paths []string) {
	for line := range strings.Lines(mountinfo) {
		place, fs, ok := strings.Cut(line, " - ")
		fields := strings.Fields(place)
		if !ok || len(fields) < 5 || fields[3] != "/" {
			continue
		}
		if kind, _, _ := strings.Cut(fs, " "); kind == "proc" || kind == "sysfs" {
			paths = append(paths, unescape(fields[4]))
		}
	}
	slices.Reverse(paths)
	return paths
}

// unescape undoes what the kernel does to paths in mountinfo.
func unescape(path string) string {
	if !strings.Contains(path, `\`) {
		return path
	}
	return strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`).Replace(path)
}

// covered says that the destination lies below an earlier mount: what the root has
// there now says nothing.
func (f *Facts) covered(m specs.Mount, earlier []specs.Mount) bool {
	return slices.ContainsFunc(earlier, func(e specs.Mount) bool {
		return under(f.dest(m.Destination), f.dest(e.Destination))
	})
}

// dest is a destination as a path of the container. The specification wants it
// absolute; a relative one begins at the root, as with other runtimes. One that begins
// with the root directory's own path is what some callers write, and means the place
// inside it.
func (f *Facts) dest(dest string) string {
	dest = cleanDest(dest)
	if inside, ok := strings.CutPrefix(dest, f.Root); ok && f.Root != "/" && (inside == "" || inside[0] == '/') {
		return cleanDest(inside)
	}
	return dest
}

// modeOf looks up type and permissions of what lies at dest inside root, 0 if that
// is not possible.
func modeOf(root int, dest string) uint32 {
	how := unix.OpenHow{Flags: unix.O_PATH | unix.O_CLOEXEC, Resolve: inRoot}
	fd, err := sys.Openat2(root, rel(dest), &how)
	if err != nil {
		return 0
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if unix.Fstat(fd, &st) != nil {
		return 0
	}
	return st.Mode
}

// absolute takes relative paths from base.
func absolute(base, p string) string {
	if filepath.IsAbs(p) {
		return filepath.Clean(p)
	}
	return filepath.Join(base, p)
}

func exists(path string) bool { return unix.Access(path, unix.F_OK) == nil }

// findCgroup2 knows the two places that systems use: alone, and beside v1.
func findCgroup2() string {
	for _, dir := range []string{"/sys/fs/cgroup", "/sys/fs/cgroup/unified"} {
		var st unix.Statfs_t
		if unix.Statfs(dir, &st) == nil && st.Type == unix.CGROUP2_SUPER_MAGIC {
			return dir
		}
	}
	return ""
}

// lookMount looks at the source of a bind mount; others have none, and one that
// is remounted does not matter. A source inside the root may be made by an earlier
// mount: then it is taken for a directory, and the steps find out.
func (f *Facts) lookMount(bundle string, m specs.Mount) (MountFacts, error) {
	var out MountFacts
	if !isBind(m) || slices.Contains(m.Options, "remount") {
		return out, nil
	}
	out.Source = absolute(bundle, m.Source)
	var st unix.Stat_t
	err := unix.Stat(out.Source, &st)
	if err == unix.ENOENT && under(out.Source, f.Root) {
		return out, nil
	}
	if err != nil {
		return MountFacts{}, fmt.Errorf("mount %s on %s: %w", m.Source, m.Destination, &os.PathError{Op: "stat", Path: out.Source, Err: err})
	}
	out.File = st.Mode&unix.S_IFMT != unix.S_IFDIR
	var fs unix.Statfs_t
	out.Proc = unix.Statfs(out.Source, &fs) == nil && fs.Type == unix.PROC_SUPER_MAGIC
	return out, nil
}

// isBind says whether the spec asks for a bind mount: by type or by option.
func isBind(m specs.Mount) bool {
	if m.Type == "bind" {
		return true
	}
	for _, o := range m.Options {
		if o == "bind" || o == "rbind" {
			return true
		}
	}
	return false
}

// cleanDest makes a path absolute and free of dots.
func cleanDest(dest string) string { return path.Clean("/" + dest) }

// missing returns the empty string if dest exists inside root, else the path that
// must be made: a dangling symlink on the way stands for what it points to.
func missing(root int, dest string) string {
	how := unix.OpenHow{Flags: unix.O_PATH | unix.O_CLOEXEC, Resolve: inRoot}
	fd, err := sys.Openat2(root, rel(dest), &how)
	if err == nil {
		unix.Close(fd)
		return ""
	}
	if !errors.Is(err, unix.ENOENT) {
		return "" // the step will fail in its own words
	}
	return resolve(root, dest)
}

// rel makes an absolute path of the container relative to the root's descriptor.
func rel(p string) string {
	if p = strings.TrimPrefix(p, "/"); p != "" {
		return p
	}
	return "."
}

// maxLinks is the kernel's own limit of symlinks in one path.
const maxLinks = 40

// resolve follows symlinks inside root, also such as lead to what does not exist.
// The result is a guess for planning: the tree may change at any time.
func resolve(root int, dest string) string {
	done, rest := "/", strings.Split(dest, "/")
	for links := 0; len(rest) > 0; {
		part := rest[0]
		rest = rest[1:]
		target, ok := readlink(root, path.Join(done, part))
		switch {
		case part == "" || part == ".":
		case part == "..":
			done = path.Dir(done)
		case !ok:
			done = path.Join(done, part)
		case links == maxLinks:
			return dest
		default:
			links++
			if path.IsAbs(target) {
				done = "/"
			}
			rest = append(strings.Split(target, "/"), rest...)
		}
	}
	return done
}

// readlink reads the symlink p inside root; ok is false for everything else.
func readlink(root int, p string) (target string, ok bool) {
	how := unix.OpenHow{Flags: unix.O_PATH | unix.O_NOFOLLOW | unix.O_CLOEXEC, Resolve: inRoot}
	fd, err := sys.Openat2(root, rel(p), &how)
	if err != nil {
		return "", false
	}
	defer unix.Close(fd)
	buf := make([]byte, unix.PathMax)
	n, err := unix.Readlinkat(fd, "", buf)
	if err != nil {
		return "", false
	}
	return string(buf[:n]), true
}
