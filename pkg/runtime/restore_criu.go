package runtime

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	goruntime "runtime"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"box/internal/errdefs"
	"box/internal/sys"
	"box/pkg/criu"
	"box/pkg/resctrl"
)

// run runs criu, on a thread with a mount namespace of its own: criu wants the root
// directory to be a mount, and that mount goes with the namespace however we end.
func (c *restoration) run(ctx context.Context) error {
	done := make(chan error)
	go func() {
		goruntime.LockOSThread() // for good: the thread ends with the goroutine
		done <- c.runApart(ctx)
	}()
	err := <-done
	for _, f := range c.cmd.Files {
		f.Close()
	}
	if c.give != nil {
		c.give.Close()
	}
	return err
}

func (c *restoration) runApart(ctx context.Context) error {
	if err := unix.Unshare(unix.CLONE_NEWNS | unix.CLONE_FS); err != nil {
		return os.NewSyscallError("unshare", err)
	}
	if err := unix.Mount("", "/", "", unix.MS_SLAVE|unix.MS_REC, ""); err != nil {
		return fmt.Errorf("make mounts private: %w", err)
	}
	if err := c.rehearse(); err != nil {
		return err
	}
	if err := c.mountRoot(); err != nil {
		return err
	}
	// Opened again: what was opened before is in the mount namespace that we have left,
	// where criu's working directory would then be, and nothing can be mounted.
	for _, f := range []**os.File{&c.opts.Images, &c.opts.Work} {
		if *f == nil {
			continue
		}
		again, err := os.Open((*f).Name())
		if err != nil {
			return err
		}
		defer again.Close()
		*f = again
	}
	c.cmd.Start = c.startInGroup
	return criu.Run(c.cmd, criu.Restore, c.opts, func(n *criu.Notice) error { return c.notice(ctx, n) })
}

// rehearse makes the mount points, and learns where they are.
func (c *restoration) rehearse() error {
	if err := c.mountRoot(); err != nil {
		return err
	}
	root, err := os.Open(c.root)
	if err != nil {
		return err
	}
	defer root.Close()
	if err := rehearseMounts(root, c.Bundle, c.spec.Mounts); err != nil {
		return err
	}
	c.addMounts(root)
	if err := unix.Unmount(c.root, unix.MNT_DETACH); err != nil {
		return fmt.Errorf("unmount %s: %w", c.root, err)
	}
	return nil
}

// mountRoot mounts the root directory where criu finds it.
func (c *restoration) mountRoot() error {
	if err := unix.Mount(c.Rootfs, c.root, "", unix.MS_BIND|unix.MS_REC, ""); err != nil {
		return fmt.Errorf("mount %s on %s: %w", c.Rootfs, c.root, err)
	}
	return nil
}

// startInGroup starts criu in the container's groups, where it restores the processes to.
func (c *restoration) startInGroup(cmd *exec.Cmd) error {
	attr := &syscall.SysProcAttr{}
	err := c.group.Launch(attr, 0, func() (int, error) {
		again := *cmd
		again.SysProcAttr = attr
		if err := again.Start(); err != nil {
			return 0, err
		}
		cmd.Process = again.Process
		return again.Process.Pid, nil
	})
	if err != nil {
		return err
	}
	pid := cmd.Process.Pid
	if rdt := c.spec.Linux.IntelRdt; rdt != nil { // what criu forks is in its group
		if err := c.joinResctrl(resctrl.Root(), rdt, pid); err != nil {
			return err
		}
	}
	c.opts.CgroupRoots, err = cgroupRoots(pid)
	return err
}

// cgroupRoots tells criu below which groups those in the images are to be, whatever they
// were: the ones that it is in itself.
func cgroupRoots(pid int) ([]criu.Pair, error) {
	data, err := readFile(fmt.Sprintf("/proc/%d/cgroup", pid))
	if err != nil {
		return nil, err
	}
	var roots []criu.Pair
	for line := range strings.Lines(string(data)) {
		fields := strings.SplitN(strings.TrimSuffix(line, "\n"), ":", 3) // cgroups(7)
		if len(fields) != 3 {
			continue
		}
		for controller := range strings.SplitSeq(fields[1], ",") {
			roots = append(roots, criu.Pair{Key: controller, Value: fields[2]})
		}
	}
	return roots, nil
}

// notice does what is to be done at the stages that criu reports.
func (c *restoration) notice(ctx context.Context, n *criu.Notice) error {
	c.rt.debugf("criu: %s", n.Script)
	switch n.Script {
	case "setup-namespaces":
		if err := c.setUpNetwork(n.Pid); err != nil {
			return err
		}
		return c.namespaceHooks(ctx, n.Pid)
	case "post-restore":
		return c.adoptRestored(n.Pid)
	case "orphan-pts-master":
		if c.give == nil || n.File == nil {
			return errdefs.New(errdefs.ErrInvalid, "restore: the images have a terminal, and the specification has none")
		}
		return sys.SendFiles(int(c.give.Fd()), []byte(n.File.Name()), n.File)
	}
	return nil
}

// namespaceHooks runs the hooks that are for new namespaces. Their place is the runtime's
// own mount namespace, where what they mount is seen, and not that of our thread.
func (c *restoration) namespaceHooks(ctx context.Context, pid int) error {
	if c.spec.Hooks == nil {
		return nil
	}
	c.hooked = true
	st := c.State
	st.Pid = pid
	done := make(chan error, 1)
	go func() { done <- c.runtimeHooks(ctx, &st) }()
	return <-done
}

// adoptRestored writes down the restored process.
func (c *restoration) adoptRestored(pid int) error {
	p, err := processStat(pid)
	if err != nil {
		return err
	}
	c.Pid, c.StartTime = pid, p.start
	if inOtherNamespace(pid, "time") {
		c.Join |= unix.CLONE_NEWTIME // criu makes one, so that the clocks go on where they stopped
	}
	if c.pidfd, err = c.container.pidfd(); err != nil {
		return err
	}
	return c.save()
}

func inOtherNamespace(pid int, kind string) bool {
	theirs, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/%s", pid, kind))
	ours, err2 := os.Readlink("/proc/self/ns/" + kind)
	return err == nil && err2 == nil && theirs != ours
}
