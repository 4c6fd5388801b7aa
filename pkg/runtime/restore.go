package runtime

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"box/internal/errdefs"
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
	o.Run.stay = !o.Run.Detach
	c, err := r.begin(id, &o.Run.CreateOptions, false)
	if err != nil {
		return 0, err
	}
	defer c.close()
	if o.Run.stay && !o.Run.NoSubreaper {
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
	return c.foreground(ctx, rc.pidfd, o.Run.Keep)
}

// restore does the work of Restore up to the point where the processes run.
func (c *restoration) restore(ctx context.Context, o *RestoreOptions, dirs *images) error {
	if err := checkResctrl(c.spec.Linux.IntelRdt); err != nil {
		return err
	}
	if err := c.prepare(); err != nil {
		return err
	}
	if err := c.makeGroup(); err != nil { // then it may be somebody else's
		return err
	}
	if err := c.setDevices(); err != nil {
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
		words, ok := outside(n.Type)
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
	if c.tty, err = openConsole(c.spec.Process, c.creation.opts.ConsoleSocket, c.creation.opts.stay, fds); err != nil || c.tty == nil {
		return err
	}
	c.give = fds.files[c.tty.fd]
	return nil
}

// tell announces the container as create does.
func (c *restoration) tell() error {
	if c.pidfd == nil {
		return errdefs.New(errdefs.ErrUnavailable, "restore container %s: criu has not said which process it is", c.ID)
	}
	if c.creation.opts.stay {
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
