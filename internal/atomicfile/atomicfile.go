// Package atomicfile replaces files so that a reader, or the next boot, sees either
// the old content or the new, and takes advisory locks that the kernel drops with
// their holder.
//
// It is not a database: one file is one unit. Files that belong together must be
// made consistent by the order in which they are written.
//
// Invariants: the file at path is never seen half written; a failed write leaves
// the old file as it was and no temporary file behind. A temporary file left by a
// crash begins with ".tmp-" (Prefix) and lies in the same directory. In directories that
// nobody sweeps, WriteBeside leaves none if the kernel can help it.
package atomicfile

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"
)

// Prefix begins the name of every temporary file, so that listings can skip, and
// sweeps can remove, what a crash left behind.
const Prefix = ".tmp-"

// Write replaces the file at path by data with the given permission bits (the
// umask does not apply). On return the content and the name are on disk.
func Write(path string, data []byte, perm os.FileMode) error {
	if err := replace(path, data, perm, true); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return nil
}

// WriteVolatile is Write without the two syncs: for tmpfs, and for what a reboot
// makes void anyway. It is as atomic for readers.
func WriteVolatile(path string, data []byte, perm os.FileMode) error {
	if err := replace(path, data, perm, false); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return nil
}

// WriteBeside is WriteVolatile for a directory that is somebody else's. The file has no
// name until it is complete (O_TMPFILE, open(2)), so that a crash leaves nothing. Two cases
// remain in which it has a temporary one: for the moment between two system calls where
// there is a file at path already, for a link replaces nothing, and all along on file
// systems without such files.
func WriteBeside(path string, data []byte, perm os.FileMode) error {
	err := place(path, data, perm)
	if err == unix.EOPNOTSUPP {
		err = replace(path, data, perm, false)
	}
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return nil
}

// place makes the file without a name and links it to path. EOPNOTSUPP, and nothing has
// happened, is the answer where that is not possible.
func place(path string, data []byte, perm os.FileMode) error {
	fd, err := unix.Open(filepath.Dir(path), unix.O_TMPFILE|unix.O_WRONLY|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return unix.EOPNOTSUPP // EISDIR or ENOENT from who does not know the flag; else replace says why
	}
	defer unix.Close(fd)
	if err := write(fd, data); err != nil {
		return &os.PathError{Op: "write", Path: path, Err: err}
	}
	if err := unix.Fchmod(fd, uint32(perm.Perm())); err != nil {
		return &os.PathError{Op: "chmod", Path: path, Err: err}
	}
	switch err = link(fd, path); err {
	case nil:
		return nil
	case unix.EEXIST:
	default: // there may be no procfs
		return unix.EOPNOTSUPP
	}
	temp, err := named(path, func(temp string) error { return link(fd, temp) })
	if err != nil {
		return &os.PathError{Op: "link", Path: temp, Err: err}
	}
	return rename(temp, path)
}

// link gives a file without a name one.
func link(fd int, path string) error {
	return unix.Linkat(unix.AT_FDCWD, "/proc/self/fd/"+strconv.Itoa(fd), unix.AT_FDCWD, path, unix.AT_SYMLINK_FOLLOW)
}

func replace(path string, data []byte, perm os.FileMode, durable bool) error {
	f, temp, err := create(path)
	if err != nil {
		return err
	}
	if err := fill(f, temp, data, perm, durable); err != nil {
		_ = unix.Unlink(temp)
		return err
	}
	if err := rename(temp, path); err != nil {
		return err
	}
	if durable {
		return syncDir(filepath.Dir(path))
	}
	return nil
}

// rename puts the temporary file in its place, or removes it. It is not os.Rename, which
// looks first whether path is a directory.
func rename(temp, path string) error {
	if err := unix.Rename(temp, path); err != nil {
		_ = unix.Unlink(temp)
		return &os.LinkError{Op: "rename", Old: temp, New: path, Err: err}
	}
	return nil
}

// create makes the temporary file beside path. It works on bare descriptors: package
// os would start Go's poller for a file that is always ready, eight calls for a
// write that needs five.
func create(path string) (fd int, temp string, err error) {
	temp, err = named(path, func(temp string) (err error) {
		fd, err = unix.Open(temp, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_CLOEXEC, 0o600)
		return err
	})
	if err != nil {
		return -1, "", &os.PathError{Op: "create", Path: temp, Err: err}
	}
	return fd, temp, nil
}

// named makes something under a temporary name beside path that is free.
func named(path string, make func(temp string) error) (temp string, err error) {
	for range maxTries {
		temp = filepath.Join(filepath.Dir(path), Prefix+filepath.Base(path)+"-"+strconv.FormatUint(uint64(rand.Uint32()), 10))
		if err = make(temp); err != unix.EEXIST && err != unix.EINTR {
			break
		}
	}
	return temp, err
}

// maxTries bounds the search for a name that is free.
const maxTries = 10000

// fill writes, syncs if asked, and closes fd in every case.
func fill(fd int, name string, data []byte, perm os.FileMode, durable bool) error {
	op, err := "write", write(fd, data)
	if err == nil {
		op, err = "chmod", unix.Fchmod(fd, uint32(perm.Perm()))
	}
	if err == nil && durable {
		op, err = "sync", syncFile(fd)
	}
	if cerr := unix.Close(fd); err == nil {
		op, err = "close", cerr
	}
	if err != nil {
		return &os.PathError{Op: op, Path: name, Err: err}
	}
	return nil
}

func syncFile(fd int) error {
	for {
		if err := unix.Fsync(fd); err != unix.EINTR {
			return err
		}
	}
}

func write(fd int, data []byte) error {
	for len(data) > 0 {
		n, err := unix.Write(fd, data)
		if err != nil && err != unix.EINTR {
			return err
		}
		data = data[max(n, 0):]
	}
	return nil
}

// syncDir makes a rename in dir durable: the name is data of the directory.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}
