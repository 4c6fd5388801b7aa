package runtime

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	goruntime "runtime"
	"strings"
	"syscall"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"box/internal/errdefs"
	"box/internal/sys"
	"box/pkg/criu"
	"box/pkg/launch"
	"box/pkg/plan"
)

// RestoreOptions is what restore is asked for beside the images and the bundle.
type RestoreOptions struct {
	CheckpointOptions
	Run RunOptions
}

// restoration is one restore under way: the creation of a container whose processes
// criu makes.
type restoration struct {
	*creation
	opts *criu.Options
	cmd  criu.Command
	root string   // where the root directory is mounted for criu
	give *os.File // takes the master end of the terminal

	pidfd *os.File // of the restored init, opened before it goes on
}

// Restore makes a container from images that Checkpoint has written, and a bundle that
// is as it was then. In the foreground it waits like Run.
func (r *Runtime) Restore(ctx context.Context, id string, o RestoreOptions) (int, error) {
	dirs, err := o.open(false)
	defer dirs.close()
	if err != nil {
		return 0, err
	}
	c, err := r.begin(id, &o.Run.CreateOptions)
	if err != nil {
		return 0, err
	}
	defer c.close()
	c.stay = !o.Run.Detach
	if c.stay && !o.Run.NoSubreaper {
		if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
			return 0, c.abandon(ctx, err)
		}
	}
	rc := &restoration{creation: c, root: c.path("criu-root")}
	defer func() {
		if rc.pidfd != nil {
			launch.StopRelay()
			rc.pidfd.Close()
		}
	}()
	if err := rc.restore(ctx, &o, dirs); err != nil {
		return 0, c.abandon(ctx, err)
	}
	if o.Run.Detach {
		return 0, nil
	}
	return c.foreground(ctx, o.Run.Keep)
}

// restore does the work of Restore up to the point where the processes run.
func (c *restoration) restore(ctx context.Context, o *RestoreOptions, dirs *images) error {
	if err := c.prepare(); err != nil {
		return err
	}
	if err := errors.Join(c.makeGroup(), c.setDevices()); err != nil {
		return err
	}
	if err := c.keepCompiledFilter(); err != nil {
		return err
	}
	if err := c.describe(o, dirs); err != nil {
		return err
	}
	if err := c.openTerminal(); err != nil {
		return err
	}
	if err := os.Mkdir(c.root, 0o700); err != nil {
		return err
	}
	defer os.Remove(c.root)
	if err := c.run(ctx); err != nil {
		c.rt.quote(dirs, restoreLog)
		return fmt.Errorf("restore container %s: %w", c.ID, err)
	}
	return c.tell()
}

// keepCompiledFilter keeps the seccomp filter for exec; that of the restored processes
// is in the images.
func (c *restoration) keepCompiledFilter() error {
	filter, flags, err := plan.CompileFilter(c.spec.Linux.Seccomp)
	if err != nil {
		return err
	}
	return c.keepFilter(filter, flags)
}

// describe tells criu where the things are that are not in the images.
func (c *restoration) describe(o *RestoreOptions, dirs *images) error {
	c.opts = o.options(dirs, restoreLog, c.spec.Annotations)
	c.opts.Root, c.opts.Sibling, c.opts.EvasiveDevices = c.root, true, true
	c.opts.LSMProfile, c.opts.LSMMountContext = o.LSMProfile, o.LSMContext
	c.cmd = criu.Command{Path: o.Criu, Stdio: [3]*os.File{os.Stdin, os.Stdout, os.Stderr}}
	return errors.Join(c.inheritStreams(dirs), c.enterNamespaces())
}

// addMounts tells criu where to mount from what is not in the images. Called with the
// root directory as it was in the container, for the keys are what destinations were
// there.
func (c *restoration) addMounts(root *os.File) {
	for _, m := range outsideMounts(c.spec, c.Bundle, c.group.Legacy()) {
		c.opts.Mounts = append(c.opts.Mounts, criu.Pair{Key: resolved(root, m.Key), Value: m.Value})
	}
	for _, node := range deviceNodes(c.spec) { // /dev/null covers masked files, too
		c.opts.Mounts = append(c.opts.Mounts, criu.Pair{Key: node, Value: node})
	}
}

// inheritStreams puts our standard streams in the place of those that were pipes. Others
// criu opens again, or refuses.
func (c *restoration) inheritStreams(dirs *images) error {
	data, err := readFile(filepath.Join(dirs.dir.Name(), descriptorsFile))
	if err != nil {
		return err
	}
	var streams []string
	if err := json.Unmarshal(data, &streams); err != nil {
		return errdefs.New(errdefs.ErrCorrupt, "decode %s/%s: %w", dirs.dir.Name(), descriptorsFile, err)
	}
	for fd, name := range streams {
		if fd < plan.FirstPreserved && strings.HasPrefix(name, "pipe:") {
			c.opts.Inherit = append(c.opts.Inherit, criu.Inherit{Key: name, FD: fd})
		}
	}
	return nil
}

// enterNamespaces names the namespaces that the specification has by path.
func (c *restoration) enterNamespaces() error {
	for _, n := range c.spec.Linux.Namespaces {
		words, ok := outside[n.Type]
		switch {
		case n.Path == "":
		case ok:
			f, err := os.Open(n.Path)
			if err != nil {
				return err
			}
			c.opts.Inherit = append(c.opts.Inherit, criu.Inherit{Key: words[1], FD: criu.FirstFile + len(c.cmd.Files)})
			c.cmd.Files = append(c.cmd.Files, f)
		case n.Type == specs.CgroupNamespace:
			return errdefs.New(errdefs.ErrUnsupported, "restore into the cgroup namespace %s: criu cannot join one", n.Path)
		default:
			c.opts.Joins = append(c.opts.Joins, criu.Pair{Key: string(n.Type), Value: n.Path})
		}
	}
	return nil
}

// openTerminal prepares the way for the terminal's master end, which criu hands back.
func (c *restoration) openTerminal() error {
	fds, err := c.rt.newDescriptors(0)
	if err != nil {
		return err
	}
	if c.tty, err = openConsole(c.spec.Process, c.creation.opts.ConsoleSocket, c.stay, fds); err != nil || c.tty == nil {
		return err
	}
	c.give = fds.files[c.tty.fd]
	return nil
}

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

// startInGroup starts criu in the container's cgroup, where it restores the processes to.
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
	c.opts.CgroupRoots, err = cgroupRoots(cmd.Process.Pid)
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

// namespaceHooks runs the hooks that are for new namespaces.
func (c *restoration) namespaceHooks(ctx context.Context, pid int) error {
	h := c.spec.Hooks
	if h == nil {
		return nil
	}
	c.hooked = true
	st, host := c.State, hostRunner(c.Bundle)
	st.Pid = pid
	if err := runHooks(ctx, hookPrestart, h.Prestart, &st, host); err != nil { //nolint:staticcheck // SA1019
		return err
	}
	return runHooks(ctx, hookCreateRuntime, h.CreateRuntime, &st, host)
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

// tell announces the container as create does.
func (c *restoration) tell() error {
	if c.pidfd == nil {
		return errdefs.New(errdefs.ErrUnavailable, "restore container %s: criu has not said which process it is", c.ID)
	}
	if c.stay {
		if err := c.tty.relay(c.pidfd); err != nil {
			return err
		}
	}
	if socket := c.creation.opts.PidfdSocket; socket != "" {
		if err := sendFile(socket, "pidfd", c.pidfd); err != nil {
			return err
		}
	}
	return writePidFile(c.creation.opts.PidFile, c.Pid)
}
