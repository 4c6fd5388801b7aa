package cgroups

import (
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"box/internal/errdefs"
	"box/pkg/cgroups/kernfs"
	"box/pkg/cgroups/legacy"
)

// Launch runs start, which forks, such that the child is born in the group. attr
// is what start forks with; it is changed. start returns the child's pid, and is
// called on the goroutine of the caller, or again if the kernel does not let a
// child be born in the group: then it is moved there, while it waits for its
// parent. If that fails the child is left running; the error then has runc's
// words, which callers look for.
//
// With the pid of a container's init, a child that cannot come into the group
// comes into that of the init instead. A container with a writable cgroup tree may
// have moved its processes below, or anywhere, after which the group takes no
// processes or is gone.
func (c *Cgroup) Launch(attr *syscall.SysProcAttr, init int, start func() (pid int, err error)) error {
	if c.unit == nil {
		return c.launch(attr, init, start)
	}
	err := c.launch(attr, init, start)
	return errors.Join(err, c.unit.release())
}

func (c *Cgroup) launch(attr *syscall.SysProcAttr, init int, start func() (int, error)) error {
	if c.legacy == nil || c.none {
		return c.launchUnified(attr, init, start)
	}
	err := c.legacy.Within(func() error { return c.launchUnified(attr, init, start) })
	if e, ok := errors.AsType[*legacy.EnterError](err); ok {
		return fmt.Errorf("adding pid %d to cgroups: %w", e.Thread, err)
	}
	return err
}

func (c *Cgroup) launchUnified(attr *syscall.SysProcAttr, init int, start func() (int, error)) error {
	if c.root == "" || c.none {
		_, err := start()
		return err
	}
	dir, err := c.File()
	if err == nil {
		attr.UseCgroupFD, attr.CgroupFD = true, int(dir.Fd())
		_, err = start()
		dir.Close()
		attr.UseCgroupFD = false
		if !placeRefused(err) {
			return err
		}
	}
	pid, serr := start()
	if serr != nil {
		return serr
	}
	if err = c.Join(pid); err != nil && init != 0 && c.joinInit(pid, init) == nil {
		return nil
	}
	if err != nil {
		return fmt.Errorf("adding pid %d to cgroups: %w", pid, err)
	}
	return nil
}

// placeRefused tells whether an error of clone3(2) may be about the group: it
// hands controllers down or is threaded (EBUSY, EOPNOTSUPP), a common ancestor is
// not ours (EACCES), it is full (EAGAIN; moving is not limited), is gone (ENODEV),
// or the kernel or a seccomp filter around us does not know the flag.
func placeRefused(err error) bool {
	for _, errno := range []unix.Errno{
		unix.EBUSY, unix.EOPNOTSUPP, unix.EACCES, unix.EAGAIN, unix.ENODEV, unix.ENOSYS, unix.EINVAL, unix.E2BIG,
	} {
		if errors.Is(err, errno) {
			return true
		}
	}
	return false
}

// Late tells whether a child of ours cannot be born in the group, and will be moved
// there by Launch: a user may move processes only below a group that is his
// (cgroup-v2.rst, "Delegation Containment"), and systemd does it for him. Until
// Launch returns the child must wait with whatever depends on its group, a new
// cgroup namespace above all.
func (c *Cgroup) Late() bool {
	if !c.rootless || c.none || c.root == "" || os.Geteuid() == 0 {
		return false
	}
	data, err := kernfs.Read("/proc/self/cgroup")
	own, ok := unifiedPath(data)
	if err != nil || !ok {
		return true
	}
	procs := filepath.Join(c.root, commonAncestor(own, c.path), "cgroup.procs")
	return unix.Access(procs, unix.W_OK) != nil
}

// commonAncestor is the deepest group that two groups are in or are.
func commonAncestor(a, b string) string {
	for a != "/" && a != b && !strings.HasPrefix(b, a+"/") {
		a = path.Dir(a)
	}
	return a
}

// Join moves a process into the group in the unified hierarchy.
func (c *Cgroup) Join(pid int) error {
	err := c.write("cgroup.procs", strconv.Itoa(pid))
	if c.unit != nil && refusedToUs(err) {
		err = c.unit.attach(pid)
	}
	return err
}

// joinInit moves a process into the group that another is in.
func (c *Cgroup) joinInit(pid, init int) error {
	data, err := kernfs.Read("/proc/" + strconv.Itoa(init) + "/cgroup")
	if err != nil {
		return err
	}
	p, ok := unifiedPath(data)
	if !ok || p == "/" {
		return errdefs.New(errdefs.ErrUnavailable, "process %d is in no cgroup of its own", init)
	}
	return (&Cgroup{root: c.root, path: path.Clean(p)}).Join(pid)
}

// Sub returns the group or groups below that exec is to run in: paths as in runc's
// --cgroup, "path" for all hierarchies or "controller[,controller]:path" for some
// of v1. It does not look whether they exist; Launch does.
func (c *Cgroup) Sub(paths []string) (*Cgroup, error) {
	sub := *c
	if c.legacy != nil {
		sub.legacy = c.legacy.Clone()
	}
	for _, p := range paths {
		names, below, split := strings.Cut(p, ":")
		if !split {
			names, below = "", p
		}
		if split && c.legacy == nil {
			return nil, errdefs.New(errdefs.ErrInvalid, "--cgroup %q: cgroup v2 has one hierarchy for all controllers, and takes a path alone", p)
		}
		if slices.Contains(strings.Split(below, "/"), "..") {
			return nil, errdefs.New(errdefs.ErrInvalid, "bad sub cgroup path: %s", below)
		}
		if !split {
			sub.path = path.Join(c.path, below)
		}
		if sub.legacy != nil {
			if err := sub.legacy.Descend(names, below); err != nil {
				return nil, err
			}
		}
	}
	return &sub, nil
}
