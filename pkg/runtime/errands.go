package runtime

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"box/internal/errdefs"
	"box/internal/sys"
	"box/pkg/namespaces"
	"box/pkg/plan"
	"box/pkg/rootfs"
	"box/pkg/rootfs/copyup"
)

// This file does in the parent what a launch program asks for while it mounts: see
// rootfs.Errand. Most containers ask for nothing, and then there is not even a socket.

// openHelper makes the socket for errands if the file system may need it: one end for
// the program, the other for us.
func (c *creation) openHelper() error {
	if len(c.draft.Root.Errands()) == 0 {
		return nil
	}
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return os.NewSyscallError("socketpair", err)
	}
	c.helper = os.NewFile(uintptr(fds[0]), "errands")
	c.draft.Root.UseHelper(c.fds.hand(os.NewFile(uintptr(fds[1]), "errands")))
	return nil
}

// serve does what the program asks for and answers it.
func (c *creation) serve(e *rootfs.Errand) error {
	if e.CopyUp {
		return c.copyUp(e)
	}
	mount, err := c.fetch(e)
	if err != nil {
		return fmt.Errorf("mount %s: %w", e.Source, err)
	}
	defer mount.Close()
	return sys.SendFiles(int(c.helper.Fd()), []byte(plan.Word), mount)
}

// fetch copies the source's mount, as the program would itself if it might.
func (c *creation) fetch(e *rootfs.Errand) (*os.File, error) {
	flags := uint(unix.OPEN_TREE_CLONE | unix.OPEN_TREE_CLOEXEC)
	if e.Recursive {
		flags |= unix.AT_RECURSIVE
	}
	var mount *os.File
	err := namespaces.Inside(c.proc, func() error {
		fd, err := unix.OpenTree(unix.AT_FDCWD, e.Source, flags)
		if err != nil {
			return os.NewSyscallError("open_tree", err)
		}
		mount = os.NewFile(uintptr(fd), e.Source)
		return nil
	})
	if err != nil || e.Map == nil {
		return mount, err
	}
	if err := c.translate(mount, e.Map); err != nil {
		mount.Close()
		return nil, err
	}
	return mount, nil
}

// translate makes the mount show other owners (mount_setattr(2), "ID-mapped mounts").
func (c *creation) translate(mount *os.File, m *rootfs.IDMap) error {
	ids, err := c.mapping(m)
	if err != nil {
		return err
	}
	defer ids.Close()
	flags := uint(unix.AT_EMPTY_PATH)
	if m.Recursive {
		flags |= unix.AT_RECURSIVE
	}
	attr := unix.MountAttr{Attr_set: unix.MOUNT_ATTR_IDMAP, Userns_fd: uint64(ids.Fd())}
	err = unix.MountSetattr(int(mount.Fd()), "", flags, &attr)
	if err == unix.EINVAL {
		return errdefs.New(errdefs.ErrUnsupported, "set MOUNT_ATTR_IDMAP: its file system may not support id-mapped mounts: %w", err)
	}
	if err != nil {
		return fmt.Errorf("set MOUNT_ATTR_IDMAP: %w", err)
	}
	return nil
}

// mapping opens the user namespace that holds a map.
func (c *creation) mapping(m *rootfs.IDMap) (*os.File, error) {
	if len(m.UIDs) == 0 {
		return namespaces.UserOf(c.proc)
	}
	return namespaces.NewUser(m.UIDs, m.GIDs)
}

// copyUp copies what a tmpfs will cover into it.
func (c *creation) copyUp(e *rootfs.Errand) error {
	_, files, err := sys.RecvFiles(int(c.helper.Fd()), make([]byte, len(plan.Word)))
	if err != nil {
		return fmt.Errorf("%s: %w", e.Mark, err)
	}
	defer func() {
		for _, f := range files {
			f.Close()
		}
	}()
	if len(files) != 2 {
		return errdefs.New(errdefs.ErrInvalid, "%s: %d descriptors came, not two", e.Mark, len(files))
	}
	if err := copyup.Copy(files[0], files[1]); err != nil {
		return fmt.Errorf("tmpcopyup: %w", err)
	}
	return sys.SendFiles(int(c.helper.Fd()), []byte(plan.Word))
}
