package runtime

import (
	"box/internal/errdefs"
)

// maxIDLength keeps the id usable as one path component (NAME_MAX).
const maxIDLength = 255

// ValidateID accepts the ids that runc accepts: [a-zA-Z0-9_+-][a-zA-Z0-9_+.-]*.
// The id becomes a directory name under the root and a cgroup name, so neither
// "/" nor a leading "." can be let through (crun 1.28: "../x" as an id).
func ValidateID(id string) error {
	if id == "" {
		return errdefs.New(errdefs.ErrInvalid, "container id cannot be empty")
	}
	if len(id) > maxIDLength {
		return errdefs.New(errdefs.ErrInvalid, "invalid container ID format: %d characters, at most %d", len(id), maxIDLength)
	}
	for i := range len(id) {
		if !idByte(id[i], i == 0) {
			return errdefs.New(errdefs.ErrInvalid, "invalid container ID format: %q", id)
		}
	}
	return nil
}

func idByte(c byte, first bool) bool {
	switch {
	case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9':
		return true
	case c == '_', c == '+', c == '-':
		return true
	}
	return c == '.' && !first
}
