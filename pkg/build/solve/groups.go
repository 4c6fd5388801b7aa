package solve

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"

	"box/internal/sys"

	"golang.org/x/sys/unix"
)

// sweepGroups kills what lives in the control groups of a step and removes
// them. A runtime that was killed half-way may not have written down that it
// had made any, so its own delete finds nothing.
func sweepGroups(id string) error {
	var dirs []string
	for _, root := range []string{"/sys/fs/cgroup", "/sys/fs/cgroup/*"} {
		found, err := filepath.Glob(filepath.Join(root, cgroupPath(id)))
		if err != nil {
			return err
		}
		dirs = append(dirs, found...)
	}
	var errs []error
	for _, dir := range dirs {
		errs = append(errs, removeGroup(dir))
	}
	return errors.Join(errs...)
}

// removeGroup removes a control group, the ones below it first.
func removeGroup(dir string) error {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, e := range entries {
		if e.IsDir() {
			if err := removeGroup(filepath.Join(dir, e.Name())); err != nil {
				return err
			}
		}
	}
	for range rmdirTries {
		if err := emptyGroup(dir); err != nil {
			return err
		}
		// A process that has ended is counted for a moment longer, and cgroup v1
		// has nothing that would tell when it no longer is.
		if err = unix.Rmdir(dir); !errors.Is(err, unix.EBUSY) {
			break
		}
		runtime.Gosched()
	}
	if err != nil && !errors.Is(err, unix.ENOENT) {
		return &fs.PathError{Op: "remove control group", Path: dir, Err: err}
	}
	return nil
}

// rmdirTries bounds how often the removal of a busy control group is tried:
// some ten milliseconds.
const rmdirTries = 2000

// emptyGroup kills the processes of a group until there is none.
func emptyGroup(dir string) error {
	for {
		text, err := os.ReadFile(filepath.Join(dir, "cgroup.procs"))
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENODEV) {
			return nil
		}
		pids := strings.Fields(string(text))
		if err != nil || len(pids) == 0 {
			return err
		}
		for _, word := range pids {
			pid, err := strconv.Atoi(word)
			if err != nil {
				return err
			}
			if err := killAndWait(pid); err != nil {
				return err
			}
		}
	}
}

// killAndWait kills a process and waits for its end by its descriptor.
func killAndWait(pid int) error {
	p, err := sys.PidfdOpen(pid)
	if errors.Is(err, unix.ESRCH) {
		return nil
	}
	if err != nil {
		return err
	}
	defer p.Close()
	if err := sys.PidfdSendSignal(p, unix.SIGKILL); err != nil && !errors.Is(err, unix.ESRCH) {
		return err
	}
	_, err = sys.PollPidfd(p, -1)
	return err
}
