package runtime

import (
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"box/internal/sys"
	"box/pkg/cgroups/legacy"
	"box/pkg/criu"
)

// isBind tells whether a mount shows something of the host.
func isBind(m specs.Mount) bool {
	return m.Type == "bind" || slices.Contains(m.Options, "bind") || slices.Contains(m.Options, "rbind")
}

// sourceOf is the source of a bind mount on the host.
func sourceOf(bundle string, m specs.Mount) string {
	if filepath.IsAbs(m.Source) {
		return m.Source
	}
	return filepath.Join(bundle, m.Source)
}

// outsideMounts are the mounts of a specification whose content is not the container's:
// criu writes none of it to disk, and mounts it again from the host. The keys are
// destinations as they are written, the values sources on the host. places are the
// container's groups in the v1 hierarchies of the host, which are bind mounts where there
// is no cgroup namespace.
func outsideMounts(s *specs.Spec, bundle string, places []legacy.Place) []criu.Pair {
	var pairs []criu.Pair
	for _, m := range s.Mounts {
		switch {
		case isBind(m):
			pairs = append(pairs, criu.Pair{Key: m.Destination, Value: sourceOf(bundle, m)})
		case m.Type == "cgroup" && !hasCgroupNamespace(s):
			for _, p := range places {
				pairs = append(pairs, criu.Pair{Key: path.Join(m.Destination, strings.TrimPrefix(p.Hierarchy, "name=")), Value: p.Dir})
			}
		}
	}
	return pairs
}

func hasCgroupNamespace(s *specs.Spec) bool {
	return slices.ContainsFunc(s.Linux.Namespaces, func(n specs.LinuxNamespace) bool { return n.Type == specs.CgroupNamespace })
}

// deviceNodes are the device nodes that a container may have bound from the host: the
// default ones and those of the specification.
func deviceNodes(s *specs.Spec) []string {
	nodes := []string{"/dev/null", "/dev/random", "/dev/full", "/dev/tty", "/dev/zero", "/dev/urandom"}
	for _, d := range s.Linux.Devices {
		nodes = append(nodes, d.Path)
	}
	return nodes
}

// resolved is where a mount point lies in a root directory when links are followed; as
// it is written if that cannot be told. root may be that of another mount namespace.
func resolved(root *os.File, path string) string {
	f, err := sys.OpenInRoot(root, path, unix.O_PATH, 0)
	if err != nil {
		return path
	}
	defer f.Close()
	base, err := os.Readlink(procFD(root))
	if err != nil {
		return path
	}
	at, err := os.Readlink(procFD(f))
	if rest, ok := strings.CutPrefix(at, strings.TrimSuffix(base, "/")); err == nil && ok && rest != "" {
		return rest
	}
	return path
}

// procFD is the name of one of our descriptors for system calls that take none.
func procFD(f *os.File) string { return fmt.Sprintf("/proc/self/fd/%d", f.Fd()) }

// rehearseMounts makes the mount points that criu needs and does not make itself, as
// create would have: the root directory may be a fresh copy, and so may be what is
// mounted. Each may lie in an earlier mount. So all of them are mounted, one after the
// other, by whoever is in a mount namespace that nobody else sees; in the place of the
// container's own file systems, whose content criu brings along, stands an empty one.
func rehearseMounts(root *os.File, bundle string, mounts []specs.Mount) error {
	for _, m := range mounts {
		source, kind, flags := "tmpfs", "tmpfs", uintptr(0)
		if isBind(m) {
			source, kind, flags = sourceOf(bundle, m), "", unix.MS_BIND|unix.MS_REC
		}
		at, err := makeMountPoint(root, m.Destination, kind == "" && !isDirectory(source))
		if err != nil {
			return fmt.Errorf("make mount point %s: %w", m.Destination, err)
		}
		err = unix.Mount(source, procFD(at), kind, flags, "")
		at.Close()
		if err != nil {
			return fmt.Errorf("mount %s on %s: %w", source, m.Destination, err)
		}
	}
	return nil
}

func isDirectory(path string) bool {
	st, err := os.Stat(path)
	return err == nil && st.IsDir()
}

// makeMountPoint opens a mount point inside root, a directory or a file, and makes it if
// it is not there. What is there is taken as it is.
func makeMountPoint(root *os.File, path string, file bool) (*os.File, error) {
	if !file {
		return sys.MkdirAllInRoot(root, path, 0o755)
	}
	parent, err := sys.MkdirAllInRoot(root, filepath.Dir(path), 0o755)
	if err != nil {
		return nil, err
	}
	parent.Close()
	f, err := sys.OpenInRoot(root, path, unix.O_CREAT|unix.O_EXCL|unix.O_WRONLY, 0o644)
	if errors.Is(err, os.ErrExist) {
		return sys.OpenInRoot(root, path, unix.O_PATH, 0)
	}
	return f, err
}
