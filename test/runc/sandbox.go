package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// hierarchy is one mounted hierarchy of control groups.
type hierarchy struct {
	Mount   string // where the host has it
	Options string // controllers or name=…; "" for v2
	Own     string // the job's group in it, as a path on the host
}

func (h hierarchy) v2() bool { return h.Options == "" }

// sandbox is a group in every hierarchy, which a job sees as the root of each.
type sandbox struct{ Hierarchies []hierarchy }

// planSandbox names groups below those that this process is in. Untouched views have
// none.
func planSandbox(name, view string) (sandbox, error) {
	if untouched(view) {
		return sandbox{}, nil
	}
	mounts, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return sandbox{}, err
	}
	defer mounts.Close()
	own, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return sandbox{}, err
	}
	all, err := hierarchies(mounts, string(own), name)
	if err != nil {
		return sandbox{}, err
	}
	return sandbox{Hierarchies: all}, nil
}

// make creates the groups.
func (s sandbox) make() error {
	for _, h := range s.Hierarchies {
		if err := h.make(); err != nil {
			return err
		}
	}
	return nil
}

// hierarchies reads mountinfo and /proc/self/cgroup, and names the job's groups.
func hierarchies(mountinfo io.Reader, cgroup, name string) ([]hierarchy, error) {
	var all []hierarchy
	for s := bufio.NewScanner(mountinfo); s.Scan(); {
		left, right, ok := strings.Cut(s.Text(), " - ")
		place, kind := strings.Fields(left), strings.Fields(right)
		if !ok || len(place) < 5 || len(kind) < 3 || !strings.HasPrefix(kind[0], "cgroup") {
			continue
		}
		h := hierarchy{Mount: place[4]}
		if kind[0] == "cgroup" {
			h.Options = controllers(kind[2])
		}
		h.Own = filepath.Join(h.Mount, current(cgroup, h.Options), name)
		if !slices.ContainsFunc(all, func(o hierarchy) bool { return o.Options == h.Options }) {
			all = append(all, h)
		}
	}
	if len(all) == 0 {
		return nil, errors.New("no control groups are mounted")
	}
	return all, nil
}

// controllers are the mount options of a v1 hierarchy that say which it is.
func controllers(super string) string {
	var own []string
	for _, o := range strings.Split(super, ",") {
		if !slices.Contains([]string{"rw", "ro", "xattr", "clone_children", "noprefix"}, o) && !strings.HasPrefix(o, "release_agent=") {
			own = append(own, o)
		}
	}
	return strings.Join(own, ",")
}

// current is this process's group in the hierarchy, from /proc/self/cgroup.
func current(cgroup, options string) string {
	for _, line := range strings.Split(cgroup, "\n") {
		fields := strings.SplitN(line, ":", 3)
		if len(fields) == 3 && fields[1] == options {
			return fields[2]
		}
	}
	return "/"
}

// make creates the job's group. A new group of the v1 cpuset controller takes
// no process before it has processors and memory nodes.
func (h hierarchy) make() error {
	if err := os.Mkdir(h.Own, 0o755); err != nil {
		return fmt.Errorf("make control group: %w", err)
	}
	if !slices.Contains(strings.Split(h.Options, ","), "cpuset") {
		return nil
	}
	for _, file := range []string{"cpuset.cpus", "cpuset.mems"} {
		value, err := os.ReadFile(filepath.Join(filepath.Dir(h.Own), file))
		if err == nil {
			err = os.WriteFile(filepath.Join(h.Own, file), value, 0)
		}
		if err != nil {
			return fmt.Errorf("set up control group: %w", err)
		}
	}
	return nil
}

// enter moves this process into the groups, makes them its roots, and mounts
// what the view shows on /sys/fs/cgroup. The mounts of the host stay as they are:
// this is a private mount namespace.
func (s sandbox) enter(view string) error {
	if len(s.Hierarchies) == 0 {
		return nil
	}
	for _, h := range s.Hierarchies {
		if err := os.WriteFile(filepath.Join(h.Own, "cgroup.procs"), []byte("0"), 0); err != nil {
			return fmt.Errorf("enter control group: %w", err)
		}
	}
	if err := unix.Unshare(unix.CLONE_NEWCGROUP); err != nil {
		return fmt.Errorf("unshare control groups: %w", err)
	}
	if view == "v2" {
		return mountCgroup("/sys/fs/cgroup", "")
	}
	if err := unix.Mount("tmpfs", "/sys/fs/cgroup", "tmpfs", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, "mode=755"); err != nil {
		return fmt.Errorf("mount /sys/fs/cgroup: %w", err)
	}
	for _, h := range s.Hierarchies {
		if err := os.MkdirAll(h.Mount, 0o755); err != nil {
			return err
		}
		if err := mountCgroup(h.Mount, h.Options); err != nil {
			return err
		}
	}
	return nil
}

func mountCgroup(target, options string) error {
	kind := "cgroup"
	if options == "" {
		kind = "cgroup2"
	}
	if err := unix.Mount(kind, target, kind, unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, options); err != nil {
		return fmt.Errorf("mount %s %s on %s: %w", kind, options, target, err)
	}
	return nil
}

// thaw lets everything in the groups run, so that it can die.
func (s sandbox) thaw() {
	for _, h := range s.Hierarchies {
		file, word := "freezer.state", "THAWED"
		if h.v2() {
			file, word = "cgroup.freeze", "0"
		}
		for _, dir := range h.groups() {
			// Most hierarchies have no such file; a group may go meanwhile.
			_ = os.WriteFile(filepath.Join(dir, file), []byte(word), 0)
		}
	}
}

// groups are the job's groups, parents first.
func (h hierarchy) groups() (dirs []string) {
	_ = filepath.WalkDir(h.Own, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() {
			dirs = append(dirs, path)
		}
		return nil
	})
	return dirs
}

func (s sandbox) tryRemove() error {
	var errs []error
	for _, h := range s.Hierarchies {
		groups := h.groups()
		slices.Reverse(groups)
		for _, dir := range groups {
			if err := os.Remove(dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
				errs = append(errs, fmt.Errorf("remove control group: %w", err))
			}
		}
	}
	return errors.Join(errs...)
}
