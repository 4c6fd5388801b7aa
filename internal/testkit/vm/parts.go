package vm

import (
	"fmt"
	"os"
	"os/exec"

	"golang.org/x/sys/unix"
)

// parts are QEMU's ends and files. It inherits them in this order, from descriptor
// 3 on.
type parts struct{ port, serial, monitor, files, disk, initrd *os.File }

// Descriptors of the parts in QEMU.
const (
	portFD = 3 + iota
	serialFD
	monitorFD
	filesFD
	diskFD
	initrdFD
)

// list is the parts in the order of their descriptors.
func (p parts) list() []*os.File {
	return []*os.File{p.port, p.serial, p.monitor, p.files, p.disk, p.initrd}
}

// pair makes a channel: a connected pair of sockets. The near end goes to Go's
// poller, so that closing it ends a read and deadlines hold.
func pair() (near, far *os.File, err error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, os.NewSyscallError("socketpair", err)
	}
	if err := unix.SetNonblock(fds[0], true); err != nil {
		return nil, nil, err
	}
	return os.NewFile(uintptr(fds[0]), "near"), os.NewFile(uintptr(fds[1]), "far"), nil
}

// memory makes a file in memory.
func memory(name string, data []byte) (*os.File, error) {
	fd, err := unix.MemfdCreate(name, unix.MFD_CLOEXEC)
	if err != nil {
		return nil, os.NewSyscallError("memfd_create", err)
	}
	f := os.NewFile(uintptr(fd), name)
	if _, err := f.Write(data); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// nameless opens a new file in the directory for temporary files that has no name there, or,
// where the file system cannot do that (an overlay of Linux before 6.6),
// had one for a moment only.
func nameless() (*os.File, error) {
	f, err := os.OpenFile(os.TempDir(), unix.O_TMPFILE|os.O_RDWR, 0o600)
	if err == nil {
		return f, nil
	}
	if f, err = os.CreateTemp("", "box-vm-"); err != nil {
		return nil, err
	}
	if err := os.Remove(f.Name()); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// diskSize is what the guest sees; the file is sparse.
const diskSize = 4 << 30

// makeDisk makes an empty ext4 file system. Without a journal, because nobody
// will ever recover it.
func makeDisk() (*os.File, error) {
	f, err := nameless()
	if err != nil {
		return nil, fmt.Errorf("make disk: %w", err)
	}
	if err := f.Truncate(diskSize); err != nil {
		f.Close()
		return nil, fmt.Errorf("make disk: %w", err)
	}
	cmd := exec.Command("/sbin/mkfs.ext4", "-q", "-F", "-O", "^has_journal", "-E", "lazy_itable_init=1,root_owner=0:0", "/proc/self/fd/3")
	cmd.ExtraFiles = []*os.File{f}
	if out, err := cmd.CombinedOutput(); err != nil {
		f.Close()
		return nil, fmt.Errorf("make file system: %w: %s", err, out)
	}
	return f, nil
}
