package guest

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"box/internal/testkit/vm"
)

// Where things lie in the initial file system.
const (
	disk  = "/disk"  // the ext4 of this run
	lower = "/lower" // the host's files
	root  = "/new"   // the overlay of both
)

// mount is one line of a mount table.
type mount struct {
	kind, source, target string
	flags                uintptr
	data                 string
}

const nodev = unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC

// kernelMounts are the file systems that init needs itself, below prefix.
func kernelMounts(prefix string) []mount {
	at := func(name string) string { return filepath.Join(prefix, name) }
	return []mount{
		{"proc", "proc", at("proc"), nodev, ""},
		{"sysfs", "sysfs", at("sys"), nodev, ""},
		{"devtmpfs", "devtmpfs", at("dev"), unix.MS_NOSUID, "mode=755"},
	}
}

// rootMounts make the root of the first mount of the overlay on: what a running
// Debian has, with the places where containers are stored on the disk, because an overlay
// cannot be the upper layer of another.
func rootMounts(job *vm.Job) []mount {
	at := func(name string) string { return filepath.Join(root, name) }
	all := append(kernelMounts(root), []mount{
		{"devpts", "devpts", at("dev/pts"), unix.MS_NOSUID | unix.MS_NOEXEC, "mode=620,gid=5,ptmxmode=666"},
		{"tmpfs", "tmpfs", at("dev/shm"), unix.MS_NOSUID | unix.MS_NODEV, "mode=1777"},
		{"mqueue", "mqueue", at("dev/mqueue"), nodev, ""},
		{"tmpfs", "tmpfs", at("run"), unix.MS_NOSUID | unix.MS_NODEV, "mode=755"},
		{"cgroup2", "cgroup2", at("sys/fs/cgroup"), nodev, "nsdelegate"},
		{"securityfs", "securityfs", at("sys/kernel/security"), nodev, ""},
		{"bpf", "bpf", at("sys/fs/bpf"), nodev, "mode=700"},
		{"", job.ModulesDir, at("lib/modules"), unix.MS_BIND, ""},
	}...)
	for _, dir := range diskDirs {
		all = append(all, mount{"", filepath.Join(disk, dir), at(dir), unix.MS_BIND, ""})
	}
	for _, dir := range job.Writable {
		all = append(all, mount{"", filepath.Join(lower, dir), at(dir), unix.MS_BIND, ""})
	}
	return all
}

// diskDirs lie on the disk: temporary files, the stores of engines, homes.
var diskDirs = []string{"var/tmp", "var/lib/box", "var/lib/containers", "var/lib/containerd", "var/lib/docker", home}

// makeRoot mounts everything and makes it this process's root.
func makeRoot(job *vm.Job) error {
	first := []mount{
		{"ext4", "/dev/vda", disk, 0, ""},
		{"virtiofs", "host", lower, 0, ""},
	}
	if err := mountAll(first); err != nil {
		return err
	}
	job.ModulesDir = filepath.Join(lower, job.ModulesDir)
	for _, dir := range append([]string{"upper", "work"}, diskDirs...) {
		if err := os.MkdirAll(filepath.Join(disk, dir), 0o755); err != nil {
			return err
		}
	}
	overlay := mount{"overlay", "overlay", root, 0, fmt.Sprintf("lowerdir=%s,upperdir=%s/upper,workdir=%s/work", lower, disk, disk)}
	if err := mountAll(append([]mount{overlay}, rootMounts(job)...)); err != nil {
		return err
	}
	if err := os.Chmod(filepath.Join(root, "var/tmp"), 0o777|os.ModeSticky); err != nil {
		return err
	}
	return switchRoot()
}

// switchRoot moves the overlay over the initial file system, which cannot be
// pivoted away (pivot_root(2), NOTES). Its procfs and sysfs go before: out of sight of
// everybody, they would make the kernel allow anybody to mount one without masks.
func switchRoot() error {
	for _, path := range []string{"/proc", "/sys"} {
		if err := unix.Unmount(path, unix.MNT_DETACH); err != nil {
			return fmt.Errorf("unmount the initial %s: %w", path, err)
		}
	}
	if err := os.Chdir(root); err != nil {
		return err
	}
	if err := unix.Mount(".", "/", "", unix.MS_MOVE, ""); err != nil {
		return fmt.Errorf("move root: %w", err)
	}
	if err := unix.Chroot("."); err != nil {
		return fmt.Errorf("change root: %w", err)
	}
	if err := os.Chdir("/"); err != nil {
		return err
	}
	return makeNodes()
}

// makeNodes makes the device nodes by which the kernel knows to load a module,
// and the links of /dev: there is no udev.
func makeNodes() error {
	for name, dev := range map[string]uint64{
		"/dev/fuse": unix.Mkdev(10, 229), "/dev/net/tun": unix.Mkdev(10, 200), "/dev/loop-control": unix.Mkdev(10, 237),
	} {
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			return err
		}
		if err := unix.Mknod(name, unix.S_IFCHR|0o666, int(dev)); err != nil && err != unix.EEXIST {
			return fmt.Errorf("make %s: %w", name, err)
		}
		if err := os.Chmod(name, 0o666); err != nil {
			return err
		}
	}
	for name, target := range map[string]string{
		"/dev/fd": "/proc/self/fd", "/dev/stdin": "fd/0", "/dev/stdout": "fd/1", "/dev/stderr": "fd/2",
	} {
		if err := os.Symlink(target, name); !errors.Is(err, fs.ErrExist) && err != nil {
			return err
		}
	}
	return nil
}

// mountAll mounts a table in order, and makes missing targets.
func mountAll(table []mount) error {
	for _, m := range table {
		if err := os.MkdirAll(m.target, 0o755); err != nil {
			return err
		}
		if err := unix.Mount(m.source, m.target, m.kind, m.flags, m.data); err != nil {
			return fmt.Errorf("mount %s on %s: %w", m.source, m.target, err)
		}
	}
	return nil
}
