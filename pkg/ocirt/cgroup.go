package ocirt

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// cgroupRoot is where the control groups are by convention; on hosts with v1
// hierarchies they are the directories below.
const cgroupRoot = "/sys/fs/cgroup"

// KillCgroups kills what is in the control groups at path (linux.cgroupsPath in
// its cgroupfs form), in whichever hierarchy a runtime has made them, and
// removes them. It is the last resort for a container that its runtime does not
// know of, because the runtime was killed before it had written that down.
func KillCgroups(ctx context.Context, path string) error {
	if path == "" || path == "/" || strings.Contains(path, "..") {
		return nil
	}
	dirs := []string{filepath.Join(cgroupRoot, path)}
	if entries, err := os.ReadDir(cgroupRoot); err == nil {
		for _, entry := range entries {
			dirs = append(dirs, filepath.Join(cgroupRoot, entry.Name(), path))
		}
	}
	var errs []error
	for _, dir := range dirs {
		errs = append(errs, killCgroup(ctx, dir))
	}
	return errors.Join(errs...)
}

// killCgroup kills the processes of one group and removes it. The removal is
// tried until the kernel has taken the dead away: cgroup v1 has no event to
// wait for.
func killCgroup(ctx context.Context, dir string) error {
	for wait := time.Millisecond; ; wait *= 2 {
		if err := removeGroups(dir); err == nil || errors.Is(err, os.ErrNotExist) {
			return nil
		} else if wait > maxGroupWait {
			return fmt.Errorf("remove control group %s: %w", dir, err)
		}
		killGroup(dir)
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

const maxGroupWait = 2 * time.Second

// killGroup kills by cgroup.kill, which also catches what forks meanwhile, or
// one by one where that is missing (v1, kernels before 5.14).
func killGroup(dir string) {
	if os.WriteFile(filepath.Join(dir, "cgroup.kill"), []byte("1"), 0) == nil {
		return
	}
	data, err := os.ReadFile(filepath.Join(dir, "cgroup.procs"))
	if err != nil {
		return
	}
	for _, pid := range strings.Fields(string(data)) {
		if n, err := strconv.Atoi(pid); err == nil && n > 1 {
			_ = unix.Kill(n, unix.SIGKILL) // gone is as good as killed
		}
	}
}

// removeGroups removes the group and those that the container made below.
func removeGroups(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, entry := range entries {
		if entry.IsDir() {
			if err := removeGroups(filepath.Join(dir, entry.Name())); err != nil {
				return err
			}
		}
	}
	return unix.Rmdir(dir)
}
