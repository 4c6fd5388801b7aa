package vm

import (
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
func share(program string, listener *os.File, root string, writable []string) *exec.Cmd {
	cmd := exec.Command(program, append([]string{ShareCommand, root}, writable...)...)
	cmd.ExtraFiles = []*os.File{listener}
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNS, Pdeathsig: unix.SIGKILL}
	return cmd
}

// listen makes a listening socket, before anybody can ask for it: QEMU, which
// starts at the same time, then just waits for its answer.
func listen(path string) (*os.File, error) {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, os.NewSyscallError("socket", err)
	}
	f := os.NewFile(uintptr(fd), path)
	if err := unix.Bind(fd, &unix.SockaddrUnix{Name: path}); err != nil {
		f.Close()
		return nil, fmt.Errorf("bind %s: %w", path, err)
	}
	if err := unix.Listen(fd, 1); err != nil {
		f.Close()
		return nil, fmt.Errorf("listen %s: %w", path, err)
	}
	return f, nil
}

// Share is the server: in a mount namespace of its own it makes args[0] a
// read-only view of the host's /, with the directories args[1:] writable in it, and becomes
// virtiofsd on descriptor 3. It returns only with an error.
func Share(args []string) error {
	if len(args) == 0 {
		return fmt.Errorf("share: no directory")
	}
	root, writable := args[0], args[1:]
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make mounts private: %w", err)
	}
	if err := bind("/", root, true); err != nil {
		return err
	}
	// What the host's kernel shows is not the guest's business.
	for _, dir := range []string{"proc", "sys", "dev"} {
		_ = unix.Unmount(filepath.Join(root, dir), unix.MNT_DETACH)
	}
	for _, dir := range writable {
		if err := bind(dir, filepath.Join(root, dir), false); err != nil {
			return err
		}
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

// bind mounts source and what is mounted below it on target, read-only if asked
// for. The copy is taken before it is attached, so it does not contain itself.
func bind(source, target string, readOnly bool) error {
	fd, err := unix.OpenTree(unix.AT_FDCWD, source, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_RECURSIVE)
	if err != nil {
		return fmt.Errorf("open tree %s: %w", source, err)
	}
	defer unix.Close(fd)
	if readOnly {
		attr := &unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY}
		if err := unix.MountSetattr(fd, "", unix.AT_EMPTY_PATH|unix.AT_RECURSIVE, attr); err != nil {
			return fmt.Errorf("make tree %s read-only: %w", source, err)
		}
	}
	if err := unix.MoveMount(fd, "", unix.AT_FDCWD, target, unix.MOVE_MOUNT_F_EMPTY_PATH); err != nil {
		return fmt.Errorf("move tree to %s: %w", target, err)
	}
	return nil
}
