package overlay

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// A layer is thousands of files. To wait until all of them are on the disk
// (fsync for each, or syncfs for the whole filesystem and everybody's data on
// it) costs seconds and is wanted only by those whose machine then loses power.
// Instead a layer carries a note: under which boot it was written, and how many
// entries and bytes it has. In that boot it is as it was written. The first time
// it is used in a later boot it is counted once: what a power failure cuts short
// is missing or short (filesystems record a file's size when its data is
// written). If it is whole, the note goes, for it has been on the disk since.

// noteName is the file beside diff/ that holds the note.
const noteName = "boot"

// note is the contents of that file: boot id, entries, bytes.
func (s *Store) note(diff string) (string, error) {
	entries, size, err := count(diff)
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("%s %d %d", s.boot, entries, size), nil
}

// count counts the entries of a tree and the bytes of its files.
func count(dir string) (entries, size int64, err error) {
	err = filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		entries++
		if !d.Type().IsRegular() {
			return nil
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		size += info.Size()
		return nil
	})
	if err != nil {
		return 0, 0, fmt.Errorf("count layer: %w", err)
	}
	return entries, size, nil
}

// torn reports whether a layer was cut short by a power failure.
func (s *Store) torn(dir string) bool {
	path := filepath.Join(dir, noteName)
	data, err := os.ReadFile(path)
	if err != nil {
		return false // no note: it has been counted
	}
	boot, rest, _ := strings.Cut(string(data), " ")
	if boot == s.boot {
		return false
	}
	entries, size, err := count(filepath.Join(dir, "diff"))
	if err != nil || rest != fmt.Sprintf("%d %d", entries, size) {
		return true
	}
	_ = os.Remove(path) // if it stays, the layer is counted again
	return false
}
