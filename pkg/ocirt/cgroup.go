package ocirt

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"box/internal/errdefs"
	"box/internal/sys"
	"box/pkg/cgroups"
)

// KillCgroups kills what is in the control groups at path (linux.cgroupsPath in
// its cgroupfs form), in whichever hierarchy a runtime has made them, and
// removes them. It is the last resort for a container that its runtime does not
// know of, because the runtime was killed before it had written that down.
// Groups that do not exist are no error.
func KillCgroups(ctx context.Context, path string) error {
	if err := checkGroupPath(path); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, killLimit, errKillLimit)
	defer cancel()
	return errors.Join(killUnified(ctx, path), killLegacy(ctx, path))
}

// checkGroupPath stands before everything else: the root of a hierarchy holds
// every process of the host.
func checkGroupPath(path string) error {
	if !filepath.IsAbs(path) || filepath.Clean(path) != path || path == "/" {
		return errdefs.New(errdefs.ErrInvalid, "kill control group %q: not the absolute path of a group below the root", path)
	}
	return nil
}

// killLimit bounds the wait for processes that the kernel does not let die, so
// that a command that clears up behind another ends with an error instead.
const killLimit = 10 * time.Second

var errKillLimit = errdefs.New(errdefs.ErrUnavailable, "its processes were killed and do not end")

// killUnified is for cgroup v2, where the kernel kills a group as a whole and
// tells when it is empty.
func killUnified(ctx context.Context, path string) error {
	group, err := cgroups.Open(path)
	if errors.Is(err, errdefs.ErrUnsupported) {
		return nil // no such hierarchy on this host
	}
	if err == nil {
		err = errors.Join(group.Kill(), group.Remove(ctx))
	}
	return err
}

// legacyRoot is where the hierarchies of cgroup v1 are by convention, each in a
// directory of its own. On hosts without any it is that of cgroup v2.
const legacyRoot = "/sys/fs/cgroup"

// killLegacy does the same in every hierarchy of cgroup v1. A container has its
// processes in several of them.
func killLegacy(ctx context.Context, path string) error {
	entries, err := os.ReadDir(legacyRoot)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("list control groups: %w", err)
	}
	var errs []error
	for _, entry := range entries {
		var st unix.Statfs_t
		root := filepath.Join(legacyRoot, entry.Name())
		// Further names of a hierarchy are symbolic links, which are no directories.
		if !entry.IsDir() || unix.Statfs(root, &st) != nil || st.Type != unix.CGROUP_SUPER_MAGIC {
			continue
		}
		if err := killLegacyGroup(ctx, filepath.Join(root, path)); err != nil {
			errs = append(errs, fmt.Errorf("remove control group %s: %w", filepath.Join(root, path), err))
		}
	}
	return errors.Join(errs...)
}

// killLegacyGroup kills the processes of one group, one by one, and removes it.
// A process that has ended is counted for a moment longer, and cgroup v1 has
// nothing that would tell when it no longer is: hence the tries.
func killLegacyGroup(ctx context.Context, dir string) error {
	for wait := 100 * time.Microsecond; ; wait *= 2 {
		err := removeGroups(dir)
		if !errors.Is(err, unix.EBUSY) {
			return err
		}
		if err := killMembers(ctx, dir); err != nil {
			return err
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// removeGroups removes the group and those that the container made below.
func removeGroups(dir string) error {
	entries, err := os.ReadDir(dir)
	if absent(err) {
		return nil
	}
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
	if err := unix.Rmdir(dir); !absent(err) {
		return err
	}
	return nil
}

// absent tells whether err says that a group is not there, or no longer.
func absent(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENODEV)
}

// killMembers kills the processes of a group and of those below it, and waits
// for their ends.
func killMembers(ctx context.Context, dir string) error {
	return filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err == nil && entry.Name() == "cgroup.procs" {
			var data []byte
			data, err = os.ReadFile(path)
			for _, word := range strings.Fields(string(data)) {
				err = errors.Join(err, killMember(ctx, word))
			}
		}
		if absent(err) {
			return nil
		}
		return err
	})
}

func killMember(ctx context.Context, word string) error {
	pid, err := strconv.Atoi(word)
	if err != nil || pid <= 1 {
		return err // 0 is a process that this pid namespace cannot see
	}
	process, err := sys.PidfdOpen(pid)
	if errors.Is(err, unix.ESRCH) {
		return nil
	}
	if err != nil {
		return err
	}
	defer process.Close()
	if err := sys.PidfdSendSignal(process, unix.SIGKILL); err != nil && !errors.Is(err, unix.ESRCH) {
		return err
	}
	exited, err := sys.PollPidfd(process, millisLeft(ctx))
	if err == nil && !exited {
		return errKillLimit
	}
	return err
}

// millisLeft is the time until the deadline of ctx, in poll(2)'s terms.
func millisLeft(ctx context.Context) int {
	deadline, ok := ctx.Deadline()
	if !ok {
		return -1
	}
	return int(max(time.Until(deadline), 0).Milliseconds())
}
