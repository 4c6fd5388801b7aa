package launch

import (
	"fmt"
	"strings"

	"golang.org/x/sys/unix"
)

// argKind says how an argument of a system call is printed.
type argKind uint8

const (
	argInt argKind = iota
	argHex
	argFd
	argPtr
	argMode
	argDev
	argErrno
	argIoctl
	argFcntl
	argPrctl
	argFsconfig
	// From here on: sets of flags, by flagTables.
	argOpen
	argAt
	argMount
	argUmount
	argOpenTree
	argMoveMount
	argFsopen
	argFsmount
	argAttr
	argClone
	argCloseRange
)

// flag is a name for bits. A table lists combined values before their parts.
type flag struct {
	name string
	bits uint64
}

type flagTable []flag

// text names the bits set in v; what has no name is left as a number.
func (t flagTable) text(v uint64) string {
	var parts []string
	for _, f := range t {
		if f.bits != 0 && v&f.bits == f.bits {
			parts = append(parts, f.name)
			v &^= f.bits
		}
	}
	if v != 0 || len(parts) == 0 {
		parts = append(parts, fmt.Sprintf("%#x", v))
	}
	return strings.Join(parts, "|")
}

// name finds the one value, for arguments that are not sets.
func (t flagTable) name(v uint64) string {
	for _, f := range t {
		if f.bits == v {
			return f.name
		}
	}
	return fmt.Sprintf("%#x", v)
}

func (k argKind) text(v int64) string {
	switch k {
	case argInt:
		return fmt.Sprint(v)
	case argFd:
		if v == unix.AT_FDCWD {
			return "AT_FDCWD"
		}
		return fmt.Sprint(v)
	case argPtr:
		if v == 0 {
			return "NULL"
		}
	case argMode:
		return fmt.Sprintf("%#o", v)
	case argDev:
		return fmt.Sprintf("%d:%d", unix.Major(uint64(v)), unix.Minor(uint64(v)))
	case argErrno:
		return errnoText(unix.Errno(v))
	}
	if table := k.values(); table != nil {
		return table.name(uint64(v))
	}
	if table := k.flags(); table != nil && v != 0 {
		return table.text(uint64(v))
	}
	return hexText(v)
}

// hexText prints small negative numbers as what they were written as.
func hexText(v int64) string {
	if v < 0 {
		return fmt.Sprint(v)
	}
	return fmt.Sprintf("%#x", v)
}

// Tables of flags. Combined values such as O_TMPFILE stand before their parts.
var (
	openFlags = flagTable{
		{"O_TMPFILE", unix.O_TMPFILE},
		{"O_SYNC", unix.O_SYNC},
		{"O_WRONLY", unix.O_WRONLY},
		{"O_RDWR", unix.O_RDWR},
		{"O_CREAT", unix.O_CREAT},
		{"O_EXCL", unix.O_EXCL},
		{"O_NOCTTY", unix.O_NOCTTY},
		{"O_TRUNC", unix.O_TRUNC},
		{"O_APPEND", unix.O_APPEND},
		{"O_NONBLOCK", unix.O_NONBLOCK},
		{"O_PATH", unix.O_PATH},
		{"O_DIRECTORY", unix.O_DIRECTORY},
		{"O_NOFOLLOW", unix.O_NOFOLLOW},
		{"O_CLOEXEC", unix.O_CLOEXEC},
	}
	resolveFlags = flagTable{
		{"RESOLVE_NO_XDEV", unix.RESOLVE_NO_XDEV},
		{"RESOLVE_NO_MAGICLINKS", unix.RESOLVE_NO_MAGICLINKS},
		{"RESOLVE_NO_SYMLINKS", unix.RESOLVE_NO_SYMLINKS},
		{"RESOLVE_BENEATH", unix.RESOLVE_BENEATH},
		{"RESOLVE_IN_ROOT", unix.RESOLVE_IN_ROOT},
	}
	atFlags = flagTable{
		{"AT_SYMLINK_NOFOLLOW", unix.AT_SYMLINK_NOFOLLOW},
		{"AT_REMOVEDIR", unix.AT_REMOVEDIR},
		{"AT_EMPTY_PATH", unix.AT_EMPTY_PATH},
		{"AT_NO_AUTOMOUNT", unix.AT_NO_AUTOMOUNT},
		{"AT_RECURSIVE", unix.AT_RECURSIVE},
	}
	mountFlags = flagTable{
		{"MS_RDONLY", unix.MS_RDONLY},
		{"MS_NOSUID", unix.MS_NOSUID},
		{"MS_NODEV", unix.MS_NODEV},
		{"MS_NOEXEC", unix.MS_NOEXEC},
		{"MS_REMOUNT", unix.MS_REMOUNT},
		{"MS_NOATIME", unix.MS_NOATIME},
		{"MS_NODIRATIME", unix.MS_NODIRATIME},
		{"MS_BIND", unix.MS_BIND},
		{"MS_MOVE", unix.MS_MOVE},
		{"MS_REC", unix.MS_REC},
		{"MS_UNBINDABLE", unix.MS_UNBINDABLE},
		{"MS_PRIVATE", unix.MS_PRIVATE},
		{"MS_SLAVE", unix.MS_SLAVE},
		{"MS_SHARED", unix.MS_SHARED},
		{"MS_RELATIME", unix.MS_RELATIME},
		{"MS_STRICTATIME", unix.MS_STRICTATIME},
	}
	umountFlags = flagTable{
		{"MNT_FORCE", unix.MNT_FORCE},
		{"MNT_DETACH", unix.MNT_DETACH},
		{"MNT_EXPIRE", unix.MNT_EXPIRE},
		{"UMOUNT_NOFOLLOW", unix.UMOUNT_NOFOLLOW},
	}
	openTreeFlags = flagTable{
		{"OPEN_TREE_CLONE", unix.OPEN_TREE_CLONE},
		{"OPEN_TREE_CLOEXEC", unix.OPEN_TREE_CLOEXEC},
		{"AT_RECURSIVE", unix.AT_RECURSIVE},
		{"AT_EMPTY_PATH", unix.AT_EMPTY_PATH},
		{"AT_SYMLINK_NOFOLLOW", unix.AT_SYMLINK_NOFOLLOW},
		{"AT_NO_AUTOMOUNT", unix.AT_NO_AUTOMOUNT},
	}
	moveMountFlags = flagTable{
		{"MOVE_MOUNT_F_SYMLINKS", unix.MOVE_MOUNT_F_SYMLINKS},
		{"MOVE_MOUNT_F_EMPTY_PATH", unix.MOVE_MOUNT_F_EMPTY_PATH},
		{"MOVE_MOUNT_T_SYMLINKS", unix.MOVE_MOUNT_T_SYMLINKS},
		{"MOVE_MOUNT_T_EMPTY_PATH", unix.MOVE_MOUNT_T_EMPTY_PATH},
		{"MOVE_MOUNT_BENEATH", 0x200},
	}
	fsopenFlags = flagTable{
		{"FSOPEN_CLOEXEC", unix.FSOPEN_CLOEXEC},
	}
	fsmountFlags = flagTable{
		{"FSMOUNT_CLOEXEC", unix.FSMOUNT_CLOEXEC},
	}
	attrFlags = flagTable{
		{"MOUNT_ATTR_RDONLY", unix.MOUNT_ATTR_RDONLY},
		{"MOUNT_ATTR_NOSUID", unix.MOUNT_ATTR_NOSUID},
		{"MOUNT_ATTR_NODEV", unix.MOUNT_ATTR_NODEV},
		{"MOUNT_ATTR_NOEXEC", unix.MOUNT_ATTR_NOEXEC},
		{"MOUNT_ATTR__ATIME", unix.MOUNT_ATTR__ATIME},
		{"MOUNT_ATTR_NOATIME", unix.MOUNT_ATTR_NOATIME},
		{"MOUNT_ATTR_STRICTATIME", unix.MOUNT_ATTR_STRICTATIME},
		{"MOUNT_ATTR_NODIRATIME", unix.MOUNT_ATTR_NODIRATIME},
		{"MOUNT_ATTR_IDMAP", unix.MOUNT_ATTR_IDMAP},
		{"MOUNT_ATTR_NOSYMFOLLOW", unix.MOUNT_ATTR_NOSYMFOLLOW},
	}
	cloneFlags = flagTable{
		{"CLONE_NEWUSER", unix.CLONE_NEWUSER},
		{"CLONE_NEWNS", unix.CLONE_NEWNS},
		{"CLONE_NEWPID", unix.CLONE_NEWPID},
		{"CLONE_NEWNET", unix.CLONE_NEWNET},
		{"CLONE_NEWIPC", unix.CLONE_NEWIPC},
		{"CLONE_NEWUTS", unix.CLONE_NEWUTS},
		{"CLONE_NEWCGROUP", unix.CLONE_NEWCGROUP},
		{"CLONE_NEWTIME", unix.CLONE_NEWTIME},
		{"CLONE_PARENT", unix.CLONE_PARENT},
	}
	closeRangeFlags = flagTable{
		{"CLOSE_RANGE_UNSHARE", unix.CLOSE_RANGE_UNSHARE},
		{"CLOSE_RANGE_CLOEXEC", unix.CLOSE_RANGE_CLOEXEC},
	}
)

// flags is the table of an argument that is a set of flags. A switch and not a map,
// which would be built at every start of the process.
func (k argKind) flags() flagTable {
	switch k {
	case argOpen:
		return openFlags
	case argAt:
		return atFlags
	case argMount:
		return mountFlags
	case argUmount:
		return umountFlags
	case argOpenTree:
		return openTreeFlags
	case argMoveMount:
		return moveMountFlags
	case argFsopen:
		return fsopenFlags
	case argFsmount:
		return fsmountFlags
	case argAttr:
		return attrFlags
	case argClone:
		return cloneFlags
	case argCloseRange:
		return closeRangeFlags
	}
	return nil
}

// values is the table of an argument that is one value of several.
func (k argKind) values() flagTable {
	switch k {
	case argIoctl:
		return ioctlNames
	case argFcntl:
		return fcntlNames
	case argPrctl:
		return prctlNames
	case argFsconfig:
		return fsconfigNames
	}
	return nil
}

// Tables of single values.
var (
	ioctlNames = flagTable{
		{"TIOCSCTTY", unix.TIOCSCTTY},
		{"TIOCGPTPEER", unix.TIOCGPTPEER},
		{"TIOCSPTLCK", unix.TIOCSPTLCK},
		{"TIOCSWINSZ", unix.TIOCSWINSZ},
		{"SIOCSIFFLAGS", unix.SIOCSIFFLAGS},
		{"NS_GET_NSTYPE", unix.NS_GET_NSTYPE},
	}
	fcntlNames = flagTable{
		{"F_GETFD", unix.F_GETFD},
		{"F_SETFD", unix.F_SETFD},
		{"F_DUPFD", unix.F_DUPFD},
		{"F_DUPFD_CLOEXEC", unix.F_DUPFD_CLOEXEC},
		{"F_GETFL", unix.F_GETFL},
		{"F_SETFL", unix.F_SETFL},
	}
	prctlNames = flagTable{
		{"PR_SET_DUMPABLE", unix.PR_SET_DUMPABLE},
		{"PR_SET_PDEATHSIG", unix.PR_SET_PDEATHSIG},
		{"PR_SET_NAME", unix.PR_SET_NAME},
		{"PR_SET_KEEPCAPS", unix.PR_SET_KEEPCAPS},
		{"PR_SET_NO_NEW_PRIVS", unix.PR_SET_NO_NEW_PRIVS},
		{"PR_SET_SECCOMP", unix.PR_SET_SECCOMP},
		{"PR_CAPBSET_DROP", unix.PR_CAPBSET_DROP},
		{"PR_CAP_AMBIENT", unix.PR_CAP_AMBIENT},
		{"PR_SET_SECUREBITS", unix.PR_SET_SECUREBITS},
		{"PR_SET_CHILD_SUBREAPER", unix.PR_SET_CHILD_SUBREAPER},
		{"PR_SET_TIMERSLACK", unix.PR_SET_TIMERSLACK},
		{"PR_SET_IO_FLUSHER", unix.PR_SET_IO_FLUSHER},
		{"PR_SET_MEMORY_MERGE", unix.PR_SET_MEMORY_MERGE},
	}
	fsconfigNames = flagTable{
		{"FSCONFIG_SET_FLAG", unix.FSCONFIG_SET_FLAG},
		{"FSCONFIG_SET_STRING", unix.FSCONFIG_SET_STRING},
		{"FSCONFIG_SET_BINARY", unix.FSCONFIG_SET_BINARY},
		{"FSCONFIG_SET_PATH", unix.FSCONFIG_SET_PATH},
		{"FSCONFIG_SET_PATH_EMPTY", unix.FSCONFIG_SET_PATH_EMPTY},
		{"FSCONFIG_SET_FD", unix.FSCONFIG_SET_FD},
		{"FSCONFIG_CMD_CREATE", unix.FSCONFIG_CMD_CREATE},
		{"FSCONFIG_CMD_RECONFIGURE", unix.FSCONFIG_CMD_RECONFIGURE},
	}
)
