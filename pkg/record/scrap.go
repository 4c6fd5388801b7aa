package record

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"box/internal/atomicfile"
)

// VolumeDir is the directory of a volume's content.
func (s *Store) VolumeDir(name string) string {
	return filepath.Join(s.root, "volumes", name, "_data")
}

// RemoveAnonymous removes the anonymous volumes among mounts.
func (s *Store) RemoveAnonymous(mounts []Mount) error {
	var errs []error
	for _, m := range mounts {
		// An anonymous volume is named by an id: a record that was tampered with
		// does not make us delete anything else.
		if m.Anonymous && IsID(m.Name) {
			if err := os.RemoveAll(filepath.Dir(s.VolumeDir(m.Name))); err != nil {
				errs = append(errs, fmt.Errorf("remove volume: %w", err))
			}
		}
	}
	return errors.Join(errs...)
}

// volumesFile lists the anonymous volumes of a container that is being made,
// one name a line, so that they can be found when its maker is killed.
const volumesFile = "anonymous-volumes"

// NoteVolumes remembers anonymous volumes before they are made.
func (s *Store) NoteVolumes(id string, mounts []Mount) error {
	var list strings.Builder
	for _, m := range mounts {
		if m.Anonymous {
			list.WriteString(m.Name + "\n")
		}
	}
	if list.Len() == 0 {
		return nil
	}
	return atomicfile.WriteVolatile(filepath.Join(s.Dir(id), volumesFile), []byte(list.String()), 0o600)
}

// notedVolumes is the other end of NoteVolumes.
func (s *Store) notedVolumes(id string) []Mount {
	data, err := os.ReadFile(filepath.Join(s.Dir(id), volumesFile))
	if err != nil {
		return nil // none, or a container without a directory
	}
	var mounts []Mount
	for _, name := range strings.Fields(string(data)) {
		mounts = append(mounts, Mount{Name: name, Anonymous: true})
	}
	return mounts
}

// Scrap deletes everything of a container that is not running: its writable
// layer by removeLayer, its anonymous volumes if it is auto-removed or was
// never finished, its name, and its directory, the record last. It can be
// repeated after being killed at any point. r is nil when no record can be
// read. The caller holds the lock.
func (s *Store) Scrap(id string, r *Record, removeLayer func(id string) error) error {
	if err := removeLayer(id); err != nil {
		return err
	}
	if r == nil {
		if err := errors.Join(s.RemoveAnonymous(s.notedVolumes(id)), s.ReleaseNames(id)); err != nil {
			return err
		}
		return s.RemoveDir(id)
	}
	if r.Host.AutoRemove || !s.saved(id) {
		if err := s.RemoveAnonymous(r.Host.Mounts); err != nil {
			return err
		}
	}
	if r.Name != "" {
		if err := s.ReleaseName(r.Name, id); err != nil {
			return err
		}
	}
	return s.RemoveDir(id)
}

// saved tells whether the container's making was finished.
func (s *Store) saved(id string) bool {
	_, err := os.Lstat(filepath.Join(s.Dir(id), recordFile))
	return err == nil
}
