package record

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"box/internal/errdefs"
)

const (
	idLen    = 64
	shortLen = 12
	namesDir = ".names"
)

// NewID returns a random id. One whose short form is all digits is not used:
// as a hostname it would be taken for a number.
func NewID() string {
	var b [idLen / 2]byte
	for {
		_, _ = rand.Read(b[:]) // never fails: crypto/rand ends the program instead
		id := hex.EncodeToString(b[:])
		if !isDigits(id[:shortLen]) {
			return id
		}
	}
}

// IsID tells whether s has the form of a container id. Ids become path names,
// so whatever comes from outside is checked with it.
func IsID(s string) bool { return len(s) == idLen && isHex(s) }

// Short is the id as people see it.
func Short(id string) string { return id[:min(shortLen, len(id))] }

func isHex(s string) bool {
	for i := range len(s) {
		if c := s[i]; (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return true
}

func isDigits(s string) bool {
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return false
		}
	}
	return true
}

// maxName is what fits into a host name label and into a file name.
const maxName = 128

// CheckName refuses what Docker refuses: [a-zA-Z0-9][a-zA-Z0-9_.-]+.
func CheckName(name string) error {
	if len(name) < 2 || len(name) > maxName {
		return errdefs.New(errdefs.ErrInvalid, "invalid container name %q: it must have 2 to %d characters", name, maxName)
	}
	for i := range len(name) {
		if !nameChar(name[i], i) {
			return errdefs.New(errdefs.ErrInvalid, "invalid container name %q: letters, digits, and after the first character _ . - are allowed", name)
		}
	}
	return nil
}

func nameChar(c byte, pos int) bool {
	switch {
	case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9':
		return true
	}
	return pos > 0 && (c == '_' || c == '.' || c == '-')
}

func (s *Store) namePath(name string) string {
	return filepath.Join(s.root, "containers", namesDir, name)
}

// nameTarget returns the id that owns name.
func (s *Store) nameTarget(name string) (string, error) {
	if err := CheckName(name); err != nil {
		return "", err
	}
	id, err := os.Readlink(s.namePath(name))
	if err != nil {
		return "", err
	}
	if !IsID(id) {
		return "", errdefs.New(errdefs.ErrCorrupt, "read name %s: link to %q", name, id)
	}
	return id, nil
}

// ReserveName gives name to id, or says who has it (ErrConflict). The holder of
// id's lock calls it after the container's directory exists, so that a name
// whose container has no directory is known to be a leftover and is taken over.
func (s *Store) ReserveName(name, id string) error {
	if err := CheckName(name); err != nil {
		return err
	}
	err := os.Symlink(id, s.namePath(name))
	if errors.Is(err, os.ErrExist) {
		err = s.takeOverName(name, id)
	}
	if err != nil {
		return fmt.Errorf("reserve name: %w", err)
	}
	return nil
}

// takeOverName replaces a stale link. The lock on the directory keeps two
// processes from taking over from each other.
func (s *Store) takeOverName(name, id string) error {
	dir, err := os.Open(s.namePath(""))
	if err != nil {
		return err
	}
	defer dir.Close()
	if err := unix.Flock(int(dir.Fd()), unix.LOCK_EX); err != nil {
		return err
	}
	owner, err := s.nameTarget(name)
	if err == nil && s.exists(owner) {
		return errdefs.WithHint(
			errdefs.New(errdefs.ErrConflict, "container name %q is already in use by container %s", name, Short(owner)),
			"remove it with `box rm %s` or choose another name", name)
	}
	if err := os.Remove(s.namePath(name)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return os.Symlink(id, s.namePath(name))
}

func (s *Store) exists(id string) bool {
	_, err := os.Lstat(s.Dir(id))
	return err == nil
}

// ReleaseName frees name if it belongs to id.
func (s *Store) ReleaseName(name, id string) error {
	owner, err := s.nameTarget(name)
	if errors.Is(err, os.ErrNotExist) || (err == nil && owner != id) {
		return nil
	}
	if err := os.Remove(s.namePath(name)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("release name: %w", err)
	}
	return nil
}

// ReleaseNames frees every name of id: for leftovers whose record is gone.
func (s *Store) ReleaseNames(id string) error {
	dir := s.namePath("")
	entries, err := os.ReadDir(dir)
	if err != nil {
		return fmt.Errorf("list names: %w", err)
	}
	var errs []error
	for _, e := range entries {
		if target, err := os.Readlink(filepath.Join(dir, e.Name())); err == nil && target == id {
			errs = append(errs, os.Remove(filepath.Join(dir, e.Name())))
		}
	}
	return errors.Join(errs...)
}
