package copyup

import (
	"errors"
	"strings"

	"golang.org/x/sys/unix"
)

// maxAttributes is the kernel's limit for the list of names and for a value.
const maxAttributes = 64 << 10

// attributes copies the extended attributes that mean something in a container: access
// lists, file capabilities, the users' own. Those of overlay file systems and of
// security modules belong to the place that the file is copied from. What the new file
// system cannot hold (a tmpfs has had users' attributes since Linux 6.6 only) is left
// out, as cp(1) does.
func attributes(from, to int) error {
	buf := make([]byte, maxAttributes)
	n, err := unix.Flistxattr(from, buf)
	if errors.Is(err, unix.ENOTSUP) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, name := range strings.Split(string(buf[:n]), "\x00") {
		if !travels(name) {
			continue
		}
		value := make([]byte, maxAttributes)
		n, err := unix.Fgetxattr(from, name, value)
		if err != nil {
			return err
		}
		err = unix.Fsetxattr(to, name, value[:n], 0)
		if err != nil && !errors.Is(err, unix.ENOTSUP) && !errors.Is(err, unix.EPERM) {
			return err
		}
	}
	return nil
}

// travels says whether a copy takes the attribute along.
func travels(name string) bool {
	switch name {
	case "security.capability", "system.posix_acl_access", "system.posix_acl_default":
		return true
	}
	return strings.HasPrefix(name, "user.") && !strings.HasPrefix(name, "user.overlay.")
}
