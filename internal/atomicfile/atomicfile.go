// Package atomicfile replaces files so that a reader, or the next boot, sees either
// the old content or the new, and takes advisory locks that the kernel drops with
// their holder.
//
// It is not a database: one file is one unit. Files that belong together must be
// made consistent by the order in which they are written.
//
// Invariants: the file at path is never seen half written; a failed write leaves
// the old file as it was and no temporary file behind. A temporary file left by a
// crash begins with ".tmp-" (Prefix) and lies in the same directory.
package atomicfile

import (
	"fmt"
	"os"
	"path/filepath"
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

func replace(path string, data []byte, perm os.FileMode, durable bool) error {
	dir := filepath.Dir(path)
	f, err := os.CreateTemp(dir, Prefix+filepath.Base(path)+"-*")
	if err != nil {
		return err
	}
	if err := fill(f, data, perm, durable); err != nil {
		os.Remove(f.Name())
		return err
	}
	if err := os.Rename(f.Name(), path); err != nil {
		os.Remove(f.Name())
		return err
	}
	if durable {
		return syncDir(dir)
	}
	return nil
}

// fill writes, syncs if asked, and closes f in every case.
func fill(f *os.File, data []byte, perm os.FileMode, durable bool) error {
	_, err := f.Write(data)
	if err == nil {
		err = f.Chmod(perm)
	}
	if err == nil && durable {
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	return err
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
