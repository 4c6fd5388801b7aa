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

	"golang.org/x/sys/unix"
)

// Read reads an interface file. It does so without os.ReadFile, which would start
// Go's poller and register every file with it, for files that are always ready:
// half of the system calls of setting up a group.
func Read(name string) (string, error) { return readAt(unix.AT_FDCWD, name) }

// readAt reads an interface file whose name is relative to a directory.
func readAt(dir int, name string) (string, error) {
	fd, err := unix.Openat(dir, name, unix.O_RDONLY|unix.O_CLOEXEC, 0)
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
