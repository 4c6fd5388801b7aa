package namespaces

import (
	"fmt"
	"os"
	"strconv"
	"syscall"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"box/internal/errdefs"
	"box/pkg/launch"
)

// Inside runs f on a thread that has entered the mount namespace of our child p, and
// whose root directory is the child's: paths mean there what they mean to the child,
// and mounts are copied with the locks that they have for it. The thread keeps our
// privileges, and our user namespace.
func Inside(p *launch.Process, f func() error) error {
	root, err := openPath("/proc/" + strconv.Itoa(p.Pid) + "/root")
	if err != nil {
		return err
	}
	defer unix.Close(root)
	return onThread(func() error {
		// Threads share root and working directory, which forbids setns.
		if err := unix.Unshare(unix.CLONE_FS); err != nil {
			return fmt.Errorf("unshare working directory: %w", err)
		}
		if err := unix.Setns(int(p.Pidfd.Fd()), unix.CLONE_NEWNS); err != nil {
			return fmt.Errorf("join mount namespace of process %d: %w", p.Pid, err)
		}
		if err := unix.Fchdir(root); err != nil {
			return fmt.Errorf("enter root of process %d: %w", p.Pid, err)
		}
		if err := unix.Chroot("."); err != nil {
			return fmt.Errorf("enter root of process %d: %w", p.Pid, err)
		}
		return f()
	})
}

func openPath(path string) (int, error) {
	fd, err := unix.Open(path, unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, &os.PathError{Op: "open", Path: path, Err: err}
	}
	return fd, nil
}

// UserOf opens the user namespace of our child p.
func UserOf(p *launch.Process) (*os.File, error) {
	return openNamespace("/proc/" + strconv.Itoa(p.Pid) + "/ns/user")
}

func openNamespace(path string) (*os.File, error) {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: path, Err: err}
	}
	return os.NewFile(uintptr(fd), path), nil
}

// NewUser makes a user namespace with these maps that nobody lives in: mounts are
// id-mapped by one (mount_setattr(2)). Its maps may lack id 0.
func NewUser(uids, gids []specs.LinuxIDMapping) (*os.File, error) {
	u, err := entries("uidMappings", uids)
	if err != nil {
		return nil, err
	}
	g, err := entries("gidMappings", gids)
	if err != nil {
		return nil, err
	}
	var f *os.File
	err = withChild(syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWUSER, UidMappings: u, GidMappings: g}, func(child *launch.Process) (err error) {
		f, err = UserOf(child)
		return err
	})
	return f, err
}

// withChild starts a program that only waits, gives it to f, and ends it.
func withChild(sys syscall.SysProcAttr, f func(child *launch.Process) error) error {
	p := &launch.Plan{ReportFD: 3}
	p.Await(launch.Int(0), "wait to be looked at", "a namespace lives as long as somebody is in it, or holds it open")
	program, err := launch.NewProgram(p)
	if err != nil {
		return err
	}
	defer program.Close()
	var fds [2]int
	if err := unix.Pipe2(fds[:], unix.O_CLOEXEC); err != nil {
		return os.NewSyscallError("pipe2", err)
	}
	read, write := os.NewFile(uintptr(fds[0]), "pipe"), os.NewFile(uintptr(fds[1]), "pipe")
	defer write.Close()
	child, err := program.Start(launch.Attr{Files: []*os.File{read}, Dir: "/", Sys: sys})
	read.Close()
	if err != nil {
		return fmt.Errorf("make user namespace: %w", err)
	}
	defer child.Close()
	defer func() { _, _ = child.Wait() }()
	defer func() { _ = child.Kill() }()
	return f(child)
}

// entries turns a map of the spec into that of the standard library.
func entries(field string, list []specs.LinuxIDMapping) ([]syscall.SysProcIDMap, error) {
	var out []syscall.SysProcIDMap
	for i, m := range list {
		if m.Size == 0 || uint64(m.ContainerID)+uint64(m.Size) > maxID || uint64(m.HostID)+uint64(m.Size) > maxID {
			return nil, errdefs.New(errdefs.ErrInvalid, "read %s[%d]: %d ids from %d to %d do not fit", field, i, m.Size, m.ContainerID, m.HostID)
		}
		out = append(out, syscall.SysProcIDMap{ContainerID: int(m.ContainerID), HostID: int(m.HostID), Size: int(m.Size)})
	}
	return out, nil
}
