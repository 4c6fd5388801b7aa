package vm

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"
)

// ShareCommand is the first argument with which this program is started as the
// server of the host's files; see [Share].
const ShareCommand = "@share"

// virtiofsd is where Debian's qemu-system-common puts the C version of it.
const virtiofsd = "/usr/lib/qemu/virtiofsd"

// share is the command of the server for the guest's root, which answers on
// listener. The process ends when QEMU goes, or this one.
func share(program string, listener *os.File, writable []string) *exec.Cmd {
	cmd := exec.Command(program, append([]string{ShareCommand}, writable...)...)
	cmd.ExtraFiles = []*os.File{listener}
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNS, Pdeathsig: unix.SIGKILL}
	return cmd
}

// listen makes a listening socket without a name in the file system, which is what
// virtiofsd wants, and a client that is connected to it already: QEMU, which starts at
// the same time, then just waits for its answer.
func listen() (listener, client *os.File, err error) {
	var files [2]*os.File
	for i, name := range []string{"listener", "client"} {
		fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return nil, nil, errors.Join(os.NewSyscallError("socket", err), files[0].Close())
		}
		files[i] = os.NewFile(uintptr(fd), name)
	}
	if err := connect(int(files[0].Fd()), int(files[1].Fd())); err != nil {
		return nil, nil, errors.Join(err, files[0].Close(), files[1].Close())
	}
	return files[0], files[1], nil
}

// connect makes the kernel choose an abstract name for the listener ("autobind",
// unix(7)) and connects the client to it.
func connect(listener, client int) error {
	if err := unix.Bind(listener, &unix.SockaddrUnix{}); err != nil {
		return os.NewSyscallError("bind", err)
	}
	if err := unix.Listen(listener, 1); err != nil {
		return os.NewSyscallError("listen", err)
	}
	name, err := unix.Getsockname(listener)
	if err != nil {
		return os.NewSyscallError("getsockname", err)
	}
	return os.NewSyscallError("connect", unix.Connect(client, name))
}

// Share is the server: in a mount namespace of its own it puts a read-only copy of
// the host's / with the directories writable in it over the directory for temporary
// files, and becomes virtiofsd on descriptor 3, which serves it. It returns only
// with an error.
func Share(writable []string) error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make mounts private: %w", err)
	}
	root := os.TempDir()
	if err := mountView(root, writable); err != nil {
		return err
	}
	// cache=always: the host's files stay as they are while the machine runs, and
	// asking again costs a round trip each time. no_readdirplus and the rlimit: the
	// server holds one descriptor per file that the guest knows, and hard limits
	// may be as low as 20,000. sandbox=chroot: the other sandbox wants /proc
	// mounted, which containers do not allow everywhere.
	err := unix.Exec(virtiofsd, []string{
		virtiofsd, "--fd=3", "--rlimit-nofile=0", "-f",
		"-o", "source=" + root, "-o", "cache=always", "-o", "no_readdirplus", "-o", "sandbox=chroot", "-o", "xattr", "-o", "log_level=err",
	}, os.Environ())
	return fmt.Errorf("execute %s: %w", virtiofsd, err)
}

// mountView mounts the view on root. All copies are taken before anything is
// mounted, so none contains another, and root may hide any of the directories.
func mountView(root string, writable []string) error {
	var fds []int
	for i, dir := range append([]string{"/"}, writable...) {
		fd, err := copyTree(dir, i == 0)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		fds = append(fds, fd)
	}
	if err := attach(fds[0], root); err != nil {
		return err
	}
	// What the host's kernel shows is not the guest's business.
	for _, dir := range []string{"proc", "sys", "dev"} {
		_ = unix.Unmount(filepath.Join(root, dir), unix.MNT_DETACH)
	}
	for i, dir := range writable {
		if err := attach(fds[1+i], filepath.Join(root, dir)); err != nil {
			return err
		}
	}
	return nil
}

// copyTree takes a copy of what is mounted on dir and below it, read-only if asked for.
func copyTree(dir string, readOnly bool) (int, error) {
	fd, err := unix.OpenTree(unix.AT_FDCWD, dir, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_RECURSIVE)
	if err != nil {
		return -1, fmt.Errorf("open tree %s: %w", dir, err)
	}
	if !readOnly {
		return fd, nil
	}
	attr := &unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY}
	if err := unix.MountSetattr(fd, "", unix.AT_EMPTY_PATH|unix.AT_RECURSIVE, attr); err != nil {
		unix.Close(fd)
		return -1, fmt.Errorf("make tree %s read-only: %w", dir, err)
	}
	return fd, nil
}

// attach mounts a copy on target.
func attach(tree int, target string) error {
	if err := unix.MoveMount(tree, "", unix.AT_FDCWD, target, unix.MOVE_MOUNT_F_EMPTY_PATH); err != nil {
		return fmt.Errorf("move tree to %s: %w", target, err)
	}
	return nil
}
