package runtime

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"box/internal/atomicfile"
	"box/internal/sys"
	"box/pkg/criu"
	"box/pkg/plan"
)

// The names of criu's logs, which people look for, and of the note of what the standard
// streams were.
const (
	dumpLog         = "dump.log"
	restoreLog      = "restore.log"
	descriptorsFile = "descriptors.json"
)

// Checkpoint writes a running container to disk. Unless it is to go on, it is deleted
// then.
func (r *Runtime) Checkpoint(ctx context.Context, id string, o CheckpointOptions) error {
	dirs, err := o.open(true)
	defer dirs.close()
	if err != nil {
		return err
	}
	if err := o.checkStatusFD(); err != nil {
		return err
	}
	return r.change(id, &verbCheckpoint, func(c *container) error {
		if c.waiting() { // and paused: the program that waits is none that could be restored
			return verbCheckpoint.refusal(id, Created)
		}
		if err := r.dump(c, &o, dirs); err != nil {
			return err
		}
		if o.PreDump || o.LeaveRunning {
			return nil
		}
		return r.remove(ctx, c, c.Hooks)
	})
}

func (r *Runtime) dump(c *container, o *CheckpointOptions, dirs *images) error {
	config, err := c.config()
	if err != nil {
		return err
	}
	opts := o.options(dirs, dumpLog, config.Annotations)
	opts.Root, opts.Pid, opts.Parent, opts.LeaveRunning = c.Rootfs, c.Pid, o.ParentPath, o.LeaveRunning
	opts.TCPSkipInFlight, opts.LinkRemap = o.TCPSkipInFlight, o.LinkRemap
	opts.PageServer, opts.PagePort = o.PageServer, o.PagePort
	if group, err := c.cgroup(); err == nil && group.Unified() {
		opts.FreezeCgroup = group.Dir()
	}
	if opts.External, err = externalNamespaces(config.Linux.Namespaces); err != nil {
		return err
	}
	kind := criu.Dump
	if o.PreDump {
		kind = criu.PreDump
	} else if err := c.describe(config, opts, dirs); err != nil {
		return err
	}
	if err := o.checkFeatures(); err != nil {
		return err
	}
	err = criu.Run(criu.Command{Path: o.Criu}, kind, opts, func(n *criu.Notice) error {
		r.debugf("criu: %s", n.Script)
		if n.Script == "status-ready" {
			r.tellReady(o.StatusFD)
		}
		return nil
	})
	if err != nil {
		r.quote(dirs, dumpLog)
		return fmt.Errorf("checkpoint container %s: %w", c.ID, err)
	}
	return nil
}

// tellReady tells whoever waits on the descriptor that lazy pages can be fetched. One
// that has gone is no reason to give up: the pages are there all the same.
func (r *Runtime) tellReady(fd int) {
	if fd < 0 {
		return
	}
	_, err := unix.Write(fd, []byte{0})
	if err = errors.Join(err, unix.Close(fd)); err != nil {
		r.warn(fmt.Sprintf("--status-fd %d: %v", fd, err))
	}
}

// describe tells criu what of the container comes from outside, and writes down what
// its standard streams are.
func (c *container) describe(s *specs.Spec, opts *criu.Options, dirs *images) error {
	root, err := os.Open(fmt.Sprintf("/proc/%d/root", c.Pid))
	if err != nil {
		return err
	}
	defer root.Close()
	for _, m := range outsideMounts(s, c.Bundle, nil) {
		name := resolved(root, m.Key)
		opts.Mounts = append(opts.Mounts, criu.Pair{Key: name, Value: name})
	}
	for _, path := range s.Linux.MaskedPaths {
		// Directories are masked by a file system of ours, which criu knows to write.
		if f, err := sys.OpenInRoot(root, path, unix.O_PATH, 0); err == nil {
			if st, err := f.Stat(); err == nil && !st.IsDir() {
				opts.Mounts = append(opts.Mounts, criu.Pair{Key: resolved(root, path), Value: "/dev/null"})
			}
			f.Close()
		}
	}
	for _, node := range deviceNodes(s) {
		opts.Mounts = append(opts.Mounts, criu.Pair{Key: node, Value: node})
	}
	data, err := json.Marshal(c.streams())
	if err != nil {
		return err
	}
	return atomicfile.WriteBeside(filepath.Join(dirs.dir.Name(), descriptorsFile), data, 0o600)
}

// streams names what is in the place of the standard streams: the pipes that the
// caller of create gave, which restore replaces by its own caller's, and for whoever
// reads the file the other things that init has there now.
func (c *container) streams() []string {
	names := slices.Clone(c.Pipes)
	if names == nil {
		names = make([]string, plan.FirstPreserved)
	}
	for fd, pipe := range names {
		now, err := os.Readlink(fmt.Sprintf("/proc/%d/fd/%d", c.Pid, fd))
		if pipe == "" && err == nil && !strings.HasPrefix(now, "pipe:") {
			names[fd] = now
		}
	}
	return names
}

// outside tells whether criu can leave a namespace alone when it was joined, and what it
// calls it.
func outside(t specs.LinuxNamespaceType) (words [2]string, ok bool) {
	switch t {
	case specs.NetworkNamespace:
		return [2]string{"net", "extRootNetNS"}, true
	case specs.PIDNamespace:
		return [2]string{"pid", "extRootPidNS"}, true
	}
	return words, false
}

// externalNamespaces names the joined namespaces for a dump.
func externalNamespaces(list []specs.LinuxNamespace) (external []string, err error) {
	for _, n := range list {
		words, ok := outside(n.Type)
		if !ok || n.Path == "" {
			continue
		}
		var st unix.Stat_t
		if err := unix.Stat(n.Path, &st); err != nil {
			return nil, &os.PathError{Op: "stat", Path: n.Path, Err: err}
		}
		external = append(external, fmt.Sprintf("%s[%d]:%s", words[0], st.Ino, words[1]))
	}
	return external, nil
}

// quotedLines is how many of the errors in criu's log are repeated.
const quotedLines = 10

// quote repeats what criu's log says of errors as warnings: its answer has but a number.
func (r *Runtime) quote(dirs *images, log string) {
	dir := dirs.dir
	if dirs.work != nil {
		dir = dirs.work
	}
	f, err := os.Open(filepath.Join(dir.Name(), log))
	if err != nil {
		return
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	for n := 0; n < quotedLines && lines.Scan(); {
		if strings.Contains(lines.Text(), "Error") {
			r.warn(log + ": " + lines.Text())
			n++
		}
	}
}
