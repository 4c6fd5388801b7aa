package network

import (
	"errors"
	"fmt"
	"os"
	"runtime"

	"golang.org/x/sys/unix"
)

// NewNamespace makes a network namespace with loopback up and returns it as an
// open file. Nothing else holds it: it ends, with everything in it, when the last
// descriptor, mount or process of it is gone.
func NewNamespace() (*os.File, error) {
	var ns *os.File
	err := onOwnThread(func() (err error) {
		if err = unix.Unshare(unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("make network namespace: %w", err)
		}
		if ns, err = currentNamespace(); err != nil {
			return err
		}
		return linkUp("lo")
	})
	if err != nil && ns != nil {
		return nil, errors.Join(err, ns.Close())
	}
	return ns, err
}

// inNamespace runs f on a thread in ns. Sockets that f opens stay in ns, also
// when they are used afterwards; so does what f writes under /proc/sys/net, for
// that tree follows the namespace of the writing thread.
func inNamespace(ns *os.File, f func() error) error {
	return onOwnThread(func() error {
		if err := unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("enter network namespace %s: %w", ns.Name(), err)
		}
		return f()
	})
}

// onOwnThread runs f, which may change the thread's network namespace, and puts
// the thread back. A thread that cannot be put back stays locked, so that the Go
// runtime ends it instead of using it for something else.
func onOwnThread(f func() error) error {
	runtime.LockOSThread()
	home, err := currentNamespace()
	if err != nil {
		runtime.UnlockOSThread()
		return err
	}
	defer home.Close() //nolint:errcheck // only read
	err = f()
	if back := unix.Setns(int(home.Fd()), unix.CLONE_NEWNET); back != nil {
		return errors.Join(err, fmt.Errorf("return to the caller's network namespace: %w", back))
	}
	runtime.UnlockOSThread()
	return err
}

func currentNamespace() (*os.File, error) {
	f, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		return nil, fmt.Errorf("open the thread's network namespace: %w", err)
	}
	return f, nil
}

// linkUp sets a link of the thread's namespace up. An ioctl costs a third of what
// a netlink socket does.
func linkUp(name string) error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("set link %s up: %w", name, err)
	}
	defer unix.Close(fd) //nolint:errcheck // nothing was written to it
	req, err := unix.NewIfreq(name)
	if err != nil {
		return fmt.Errorf("set link %s up: %w", name, err)
	}
	req.SetUint16(unix.IFF_UP)
	if err := unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, req); err != nil {
		return fmt.Errorf("set link %s up: %w", name, err)
	}
	return nil
}

// writeSysctl sets a file under /proc/sys/net for the thread's namespace. One
// that does not exist (a kernel without IPv6, without bridge netfilter) is left.
func writeSysctl(path, value string) error {
	f, err := os.OpenFile("/proc/sys/net/"+path, os.O_WRONLY, 0)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("set sysctl: %w", err)
	}
	_, err = f.WriteString(value)
	return errors.Join(err, f.Close())
}
