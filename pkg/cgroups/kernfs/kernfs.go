// Package kernfs reads and writes the interface files of control groups, and
// lists and removes their directories. It knows neither version of cgroups and no
// controller; both drivers stand on it.
//
// It is not for other files: writes are single write(2) calls without O_CREAT, as
// the kernel wants them, and reads bypass Go's poller.
package kernfs

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"box/internal/errdefs"
)

// Read reads an interface file. It does so without os.ReadFile, which would start
// Go's poller and register every file with it, for files that are always ready:
// half of the system calls of setting up a group.
func Read(name string) (string, error) {
	fd, err := unix.Open(name, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return "", &os.PathError{Op: "open", Path: name, Err: err}
	}
	defer unix.Close(fd)
	data := make([]byte, 0, 1024)
	for {
		n, err := unix.Read(fd, data[len(data):cap(data)])
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return "", &os.PathError{Op: "read", Path: name, Err: err}
		}
		if n == 0 {
			return string(data), nil
		}
		if data = data[:len(data)+n]; len(data) == cap(data) {
			data = append(data, 0)[:len(data)]
		}
	}
}

// Write writes to a file that must exist: cgroup directories hold no others, and
// O_CREAT in them is an error that hides the real one.
func Write(name, value string) error {
	fd, err := unix.Open(name, unix.O_WRONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return &os.PathError{Op: "open", Path: name, Err: err}
	}
	defer unix.Close(fd)
	for {
		_, err := unix.Write(fd, []byte(value))
		if errors.Is(err, unix.EINTR) {
			continue // the kernel restarts most, but not the wait for a lock
		}
		if err != nil {
			return fmt.Errorf("write %q to %s: %w", value, name, err)
		}
		return nil
	}
}

// Gone tells whether an error says that a group was removed: its files answer
// with ENODEV when they were open at that time.
func Gone(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENODEV)
}

// Make makes the directory of a group and those above it. That the group itself
// was there before is fs.ErrExist.
func Make(dir string) error {
	err := os.Mkdir(dir, 0o755)
	if errors.Is(err, fs.ErrNotExist) {
		if err = os.MkdirAll(filepath.Dir(dir), 0o755); err == nil {
			err = os.Mkdir(dir, 0o755)
		}
	}
	return err
}

// RemoveTree removes the directory of a group, and those below it if it has any.
// EBUSY says that one of them still has processes. Nothing there is no error.
func RemoveTree(dir string) error {
	err := unix.Rmdir(dir)
	if err == nil || errors.Is(err, unix.ENOENT) {
		return nil
	}
	if !errors.Is(err, unix.EBUSY) { // busy: processes, or groups below
		return &os.PathError{Op: "rmdir", Path: dir, Err: err}
	}
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, e := range entries {
		if e.IsDir() {
			if err := RemoveTree(filepath.Join(dir, e.Name())); err != nil {
				return err
			}
		}
	}
	if err := unix.Rmdir(dir); err != nil && !errors.Is(err, unix.ENOENT) {
		return &os.PathError{Op: "rmdir", Path: dir, Err: err}
	}
	return nil
}

// Procs returns the processes in the groups of some directories and in the groups
// below them, each once, in ascending order. A group that does not exist has none.
func Procs(dirs ...string) ([]int, error) {
	var pids []int
	var err error
	for _, dir := range dirs {
		if pids, err = appendTree(pids, dir); err != nil {
			return nil, err
		}
	}
	slices.Sort(pids)
	return slices.Compact(pids), nil
}

// appendTree reads the processes of a group and those below it. The link count of a
// directory tells whether there are any below, which saves reading it: a group has
// dozens of files, and most have nothing below.
func appendTree(pids []int, dir string) ([]int, error) {
	pids, err := appendProcs(pids, filepath.Join(dir, "cgroup.procs"))
	if err != nil {
		return nil, err
	}
	var st unix.Stat_t
	if err := unix.Lstat(dir, &st); err != nil || st.Nlink == 2 {
		return pids, nil //nolint:nilerr // gone meanwhile
	}
	entries, err := os.ReadDir(dir)
	if err != nil && !Gone(err) {
		return nil, err
	}
	for _, e := range entries {
		if !e.IsDir() {
			continue
		}
		if pids, err = appendTree(pids, filepath.Join(dir, e.Name())); err != nil {
			return nil, err
		}
	}
	return pids, nil
}

// appendProcs reads one cgroup.procs.
func appendProcs(pids []int, file string) ([]int, error) {
	data, err := Read(file)
	if Gone(err) || errors.Is(err, unix.EOPNOTSUPP) {
		// Threaded groups do not list processes; those of their threads are
		// listed above them.
		return pids, nil
	}
	for line := range strings.FieldsSeq(data) {
		pid, err := strconv.Atoi(line)
		if err != nil {
			return nil, errdefs.New(errdefs.ErrCorrupt, "read %s: %w", file, err)
		}
		if pid > 0 { // 0 is a process of another pid namespace
			pids = append(pids, pid)
		}
	}
	return pids, err
}
