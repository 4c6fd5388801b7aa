package runtime

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"box/pkg/cgroups"
	"box/pkg/label"
	"box/pkg/launch"
	"box/pkg/namespaces"
	"box/pkg/plan"
	"box/pkg/rootfs"
	"box/pkg/seccomp"
	"box/pkg/spec"
)

// assemble turns the spec into the container's plan, and opens what the program is given.
func (c *creation) assemble() error {
	var err error
	if c.draft, err = c.rt.draft(c.ID, c.Bundle, c.spec, c.set, &c.facts, c.group, c.opts.NoPivot); err != nil {
		return err
	}
	if err := c.open(); err != nil {
		return err
	}
	c.dress()
	if err := c.keepFilter(c.draft.Process.Filter, c.draft.Process.Flags); err != nil {
		return err
	}
	c.built, err = c.draft.Assemble()
	return err
}

// open opens what the program is given. The order is that of the descriptors.
func (c *creation) open() error {
	var err error
	if c.fds, err = c.rt.newDescriptors(c.opts.PreserveFDs + c.listen); err != nil {
		return err
	}
	if c.permit, err = c.fds.openPermit(); err != nil {
		return err
	}
	if c.wait {
		if err := c.fds.openStart(c.container); err != nil {
			return err
		}
	}
	if c.spaces, err = c.set.Open(); err != nil {
		return err
	}
	for range c.set.Joins {
		c.fds.Joins = append(c.fds.Joins, c.fds.give(nil)) // launch has the files
	}
	if c.tty, err = openConsole(c.spec.Process, c.opts.ConsoleSocket, c.opts.stay, c.fds); err != nil {
		return err
	}
	return c.openHelper()
}

// dress tells the plan what was opened, and what the options decide.
func (c *creation) dress() {
	d := c.draft
	c.late = c.group.Late()
	d.Layout, d.Terminal, d.Wait, d.Late = c.fds.Layout, c.tty.options(), c.wait, c.late
	if c.listen > 0 { // sd_listen_fds(3): the command is pid 1 of its namespace
		d.Env = append(d.Env, "LISTEN_FDS="+strconv.Itoa(c.listen), "LISTEN_PID=1")
	}
	if c.opts.NoNewKeyring {
		d.Process.Keyring = ""
	}
	// A thread that has joined namespaces ends after the fork, and the signal would
	// come at once.
	if c.child && len(d.Set.ParentJoins) == 0 {
		d.Process.DeathSignal = unix.SIGKILL
	}
}

// draft looks at what the plan of a container depends on, and checks it: the part that
// needs nothing but the bundle and the host.
func (r *Runtime) draft(id, bundle string, s *specs.Spec, set *namespaces.Set, f *plan.Facts, group *cgroups.Cgroup, noPivot bool) (*plan.Container, error) {
	if err := checkResctrl(s.Linux.IntelRdt); err != nil {
		return nil, err
	}
	var err error
	lookForModules(f, s.Process, s.Linux.MountLabel)
	if err := label.CheckMount(s.Linux.MountLabel, f.Modules); err != nil {
		return nil, err
	}
	if f.Root, err = rootfs.Look(bundle, s); err != nil {
		return nil, err
	}
	f.Root.Confined = f.Confined
	for _, place := range group.Legacy() {
		f.Root.Hierarchies = append(f.Root.Hierarchies, rootfs.Hierarchy{Name: place.Hierarchy, Dir: place.Dir})
	}
	if noPivot {
		if err := f.Root.LookNoPivot(); err != nil {
			return nil, err
		}
	}
	d, err := plan.NewContainer(id, s, set, f, environment(s.Process, f.Root.Root))
	if err != nil {
		return nil, err
	}
	for _, note := range d.Notes() {
		r.warn(note)
	}
	if d.Process.Filter != nil {
		r.debugf("seccomp filter flags: %d", d.Process.Flags)
	}
	return d, nil
}

// newSet reads the namespaces of a spec as we can have them.
func newSet(s *specs.Spec) (*namespaces.Set, error) {
	set, err := namespaces.From(s.Linux)
	if err != nil {
		return nil, err
	}
	if uid := os.Geteuid(); uid != 0 {
		set.Unprivileged(uid, os.Getegid())
	}
	return set, nil
}

// launch starts the program in its namespaces and its cgroup.
func (c *creation) launch() error {
	program, err := launch.NewProgram(c.built.Plan)
	if err != nil {
		return err
	}
	defer program.Close()
	joins, err := c.spaces.Files()
	if err != nil {
		return err
	}
	for i, f := range joins {
		c.fds.files[c.fds.Joins[i]] = f
	}
	attr := launch.Attr{Files: c.fds.files, Dir: "/"}
	c.set.Configure(&attr.Sys)
	err = c.spaces.Enter(func() error {
		return c.group.Launch(&attr.Sys, 0, starter(program, &attr, &c.proc))
	})
	c.fds.started()
	c.spaces.Close()
	c.spaces = nil
	if err == nil && c.late {
		err = permitted(c.permit)
	}
	return err
}

// starter returns what starts a program, in the form that cgroups.Launch calls.
func starter(program *launch.Program, attr *launch.Attr, proc **launch.Process) func() (int, error) {
	return func() (int, error) {
		var err error
		if *proc, err = program.Start(*attr); err != nil {
			return 0, err
		}
		return (*proc).Pid, nil
	}
}

// Plan assembles the plan that create would carry out for a bundle, without
// touching anything.
func Plan(bundle string) (*launch.Plan, error) {
	bundle, err := filepath.Abs(bundle)
	if err != nil {
		return nil, err
	}
	s, err := spec.Load(bundle)
	if err != nil {
		return nil, err
	}
	set, err := newSet(s)
	if err != nil {
		return nil, err
	}
	f := gatherFacts()
	group, err := cgroups.Resolve(s.Linux.CgroupsPath, "ID", cgroups.Options{})
	if err != nil {
		return nil, err
	}
	d, err := (&Runtime{}).draft("ID", bundle, s, set, &f, group, false)
	if err != nil {
		return nil, err
	}
	d.LayOut()
	b, err := d.Assemble()
	if err != nil {
		return nil, err
	}
	return b.Plan, nil
}

// keepFilter keeps the compiled seccomp filter for exec.
func (c *creation) keepFilter(filter []unix.SockFilter, flags uint) error {
	if len(filter) == 0 {
		return nil
	}
	c.FilterFlags = flags
	return writeNew(c.path(filterFile), seccomp.Bytes(filter))
}

// filter reads the container's seccomp filter back; nil if it has none.
func (c *container) filter() ([]unix.SockFilter, error) {
	data, err := readFile(c.path(filterFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, c.missing()
	}
	if err != nil {
		return nil, err
	}
	filter, err := seccomp.FromBytes(data)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", c.path(filterFile), err)
	}
	return filter, nil
}
