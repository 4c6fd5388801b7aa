package runtime

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"box/internal/admit"
	"box/internal/atomicfile"
	"box/internal/errdefs"
	"box/internal/sys"
	"box/pkg/cgroups"
	"box/pkg/launch"
	"box/pkg/namespaces"
	"box/pkg/netdev"
	"box/pkg/plan"
	"box/pkg/resctrl"
	"box/pkg/spec"
)

// CreateOptions is what create and run are asked for beside the spec.
type CreateOptions struct {
	Bundle        string // directory of config.json; relative to the working directory
	PidFile       string // takes the process id as decimal text
	ConsoleSocket string // unix socket that takes the terminal's master end
	PidfdSocket   string // unix socket that takes a pidfd
	PreserveFDs   int    // descriptors from 3 on that are passed to the command
	NoPivot       bool   // for hosts whose root is the initial ramfs
	NoNewKeyring  bool   // the command keeps the caller's session keyring

	stay bool // we wait for the command, and keep its terminal
}

func (o *CreateOptions) check() error {
	if o.PreserveFDs < 0 {
		return errdefs.New(errdefs.ErrInvalid, "--preserve-fds: %d is negative", o.PreserveFDs)
	}
	return nil
}

// creation is one create (or run) under way.
type creation struct {
	*container
	rt     *Runtime
	opts   *CreateOptions
	spec   *specs.Spec
	text   []byte // which spec was decoded from
	facts  plan.Facts
	listen int // descriptors of socket activation (sd_listen_fds(3)), for the command
	lock   *os.File
	group  *cgroups.Cgroup
	set    *namespaces.Set
	draft  *plan.Container
	spaces *namespaces.Opened
	fds    *descriptors
	permit *os.File // our end of the pipe that lets the program go on
	built  *plan.Assembly
	proc   *launch.Process
	late   bool // the program waits until it is in its cgroup
	hooked bool // a hook has run: poststop is owed
	wait   bool // the program waits for start
	child  bool // the command dies with us
	tty    *console
	helper *os.File // our end of the socket for its errands; nil if it has none
}

// Create makes a container from a bundle, up to the point where only the execve of
// its command is left.
func (r *Runtime) Create(ctx context.Context, id string, o CreateOptions) error {
	c, err := r.begin(id, &o, true)
	if err != nil {
		return err
	}
	defer c.close()
	c.wait = true
	if err := c.build(ctx); err != nil {
		return c.abandon(ctx, err)
	}
	return nil
}

// begin reads the bundle and claims the id: the state directory is made and locked, and
// has the configuration. For a container that is new, not restored, its namespaces are
// begun.
func (r *Runtime) begin(id string, o *CreateOptions, isNew bool) (*creation, error) {
	if err := errors.Join(ValidateID(id), o.check()); err != nil {
		return nil, err
	}
	bundle, err := filepath.Abs(o.Bundle)
	if err != nil {
		return nil, err
	}
	text, err := spec.Read(bundle)
	if err != nil {
		return nil, err
	}
	config, set, err := understand(bundle, text, isNew)
	if err != nil {
		return nil, err
	}
	c := &creation{rt: r, opts: o, spec: config, text: text, set: set, facts: gatherFacts(), listen: listenFDs()}
	c.container = &container{dir: r.dir(id), record: newRecord(id, bundle, config)}
	c.KeepKeyring = o.NoNewKeyring
	if !config.Process.Terminal { // whose streams are none of ours
		c.Pipes = callersPipes()
	}
	if o.stay { // in the foreground, signals are for the command, and until there is one, for us
		err = launch.Hold()
	}
	if err == nil {
		err = c.claim()
	}
	if err != nil {
		set.Drop()
		return nil, err
	}
	return c, nil
}

// understand decodes and checks a configuration. What takes longest, the namespaces of a
// container that is new, is begun as soon as it is known that there are to be any.
func understand(bundle string, text []byte, isNew bool) (config *specs.Spec, set *namespaces.Set, err error) {
	var ahead *namespaces.Ahead
	if isNew {
		done := admit.StartingAtOnce() // there is work for two processors
		ahead = namespaces.Begin(spec.Foresee(text), netdev.RaiseLoopback()...)
		done()
	}
	if config, err = spec.Parse(bundle, text); err == nil {
		set, err = newSet(config)
	}
	if err != nil {
		ahead.Drop()
		return nil, nil, err
	}
	set.Take(ahead)
	return config, set, nil
}

// newRecord is what is known of a container before anything was done.
func newRecord(id, bundle string, s *specs.Spec) record {
	rootfs := s.Root.Path
	if !filepath.IsAbs(rootfs) {
		rootfs = filepath.Join(bundle, rootfs)
	}
	return record{
		State: State{
			OCIVersion: s.Version, ID: id, Status: Creating, Bundle: bundle, Rootfs: rootfs,
			Created: time.Now().UTC(), Annotations: s.Annotations, Owner: userName(os.Geteuid()),
		},
		BootID:    bootID(),
		Join:      namespaces.Flags(s.Linux.Namespaces),
		Chroot:    !hasNewMounts(s.Linux.Namespaces),
		Hooks:     s.Hooks != nil,
		Extras:    hasExtras(s),
		Command:   s.Process.Args[0],
		SharedPid: !ownPid(s.Linux.Namespaces),
	}
}

// ownPid reports whether a container gets a new pid namespace.
func ownPid(list []specs.LinuxNamespace) bool {
	return slices.ContainsFunc(list, func(n specs.LinuxNamespace) bool {
		return n.Type == specs.PIDNamespace && n.Path == ""
	})
}

// claim makes the state directory; that it did not exist is what makes the id ours.
func (c *creation) claim() error {
	err := os.Mkdir(c.dir, 0o700)
	if errors.Is(err, fs.ErrNotExist) {
		if err = os.MkdirAll(c.rt.Root, 0o700); err == nil {
			err = os.Mkdir(c.dir, 0o700)
		}
	}
	if errors.Is(err, fs.ErrExist) {
		return c.taken()
	}
	if err != nil {
		return err
	}
	return c.occupy()
}

// taken are runc's words for an id that somebody else has.
func (c *creation) taken() error {
	return errdefs.New(errdefs.ErrExists, "container with given ID already exists: %s", c.ID)
}

// occupy locks the new state directory and puts the configuration into it, for exec and
// hooks: they must not depend on what becomes of the bundle. Before we have
// the lock, others may delete it, and make it again for a container of theirs: then the
// configuration is there.
func (c *creation) occupy() (err error) {
	c.lock, err = c.rt.lock(c.ID)
	if err == nil {
		err = writeNew(c.path(configFile), c.text)
	}
	switch {
	case err == nil:
		return nil
	case errors.Is(err, errdefs.ErrNotFound): // deleted: nothing of it is ours
	case errors.Is(err, fs.ErrExist):
		err = c.taken()
	default: // nobody could tell it from that of a create that was killed
		err = errors.Join(err, removeState(c.dir))
	}
	c.unlock()
	return err
}

// build does the work of create, in the order in which things come to depend on each
// other. Whatever it leaves behind on failure, abandon removes.
func (c *creation) build(ctx context.Context) error {
	if err := c.prepare(); err != nil {
		return err
	}
	if err := c.makeGroup(); err != nil {
		return err
	}
	if err := c.assemble(); err != nil {
		return err
	}
	if err := c.launch(); err != nil {
		return err
	}
	c.rt.debugf("container %s: process %d carries out %d steps in cgroup %s", c.ID, c.proc.Pid, c.built.Plan.Len(), c.group.Path())
	if err := c.adopt(); err != nil {
		return err
	}
	if err := c.meet(ctx); err != nil {
		return err
	}
	return c.release()
}

// prepare writes down what the container will own before it owns it, so that
// delete finds the cgroup of a create that was killed.
func (c *creation) prepare() error {
	var err error
	o := cgroups.Options{Systemd: c.rt.Systemd, Rootless: c.rt.rootless(), Annotations: c.spec.Annotations, Resources: c.spec.Linux.Resources}
	if c.group, err = cgroups.Resolve(c.spec.Linux.CgroupsPath, c.ID, o); err != nil {
		return err
	}
	// Before the record names it: what the record names is ours to kill.
	pids, err := c.group.Procs()
	if err != nil {
		return err
	}
	if len(pids) > 0 {
		return errdefs.New(errdefs.ErrConflict, "container's cgroup is not empty: %d process(es) found in %s", len(pids), c.group.Path())
	}
	c.Cgroup = c.group.Location()
	if c.wait {
		if err := unix.Mkfifo(c.path(startFifo), 0o600); err != nil {
			return &os.PathError{Op: "mkfifo", Path: c.path(startFifo), Err: err}
		}
	}
	return c.save()
}

// adopt writes down the process and does to it what only a parent can do.
func (c *creation) adopt() error {
	if c.draft.Set.Succeeds() {
		if err := c.expect(plan.MarkBorn); err != nil {
			return err
		}
	}
	c.Pid = c.proc.Pid
	p, err := processStat(c.Pid)
	if err != nil {
		return err
	}
	c.StartTime = p.start
	if rdt := c.spec.Linux.IntelRdt; rdt != nil {
		err = c.joinResctrl(resctrl.Root(), rdt, c.Pid)
	}
	if err := errors.Join(err, c.save()); err != nil { // also what an error has left is to be removed
		return err
	}
	if err := c.setDevices(); err != nil {
		return c.sooner(err)
	}
	return c.rt.tend(c.Pid, withMounts(c.spec.Process, len(c.spec.Mounts)), pinned(c.spec.Linux), nil)
}

// sooner returns why the program has ended, if it has by now, in the place of err: systemd
// takes the group away with its last process, and then nothing can be done to it.
func (c *creation) sooner(err error) error {
	if ended, perr := sys.PollPidfd(c.proc.Pidfd, 0); perr == nil && ended {
		if why := c.expect(plan.MarkReady); why != nil {
			return why
		}
	}
	return err
}

// pinned tells whether a container is kept to certain CPUs.
func pinned(l *specs.Linux) bool {
	return l.Resources != nil && l.Resources.CPU != nil && l.Resources.CPU.Cpus != ""
}

// meet does what is to be done when the namespaces are made and pivot_root has not
// happened: network devices come in, and hooks run. Before that, the program may have
// asked for help with its mounts.
func (c *creation) meet(ctx context.Context) error {
	devices := c.spec.Linux.NetDevices
	if !plan.HasCreateHooks(c.spec.Hooks) && len(devices) == 0 && c.helper == nil {
		return nil
	}
	if err := c.expect(plan.MarkHooks); err != nil {
		return err
	}
	if len(devices) > 0 {
		if err := netdev.Move(c.proc.Pid, c.proc.Pidfd, devices); err != nil {
			return err
		}
	}
	if !plan.HasCreateHooks(c.spec.Hooks) {
		return nil
	}
	return c.createHooks(ctx)
}

// createHooks runs the hooks between the making of the namespaces and pivot_root.
func (c *creation) createHooks(ctx context.Context) error {
	c.hooked = true
	st := c.State
	if err := c.runtimeHooks(ctx, &st); err != nil {
		return err
	}
	return runHooks(ctx, hookCreateContainer, c.spec.Hooks.CreateContainer, &st, c.containerRunner())
}

// runtimeHooks runs the hooks for new namespaces that have their place in ours.
func (c *creation) runtimeHooks(ctx context.Context, st *State) error {
	h, host := c.spec.Hooks, hostRunner(c.Bundle)
	// prestart is deprecated, but dockerd's networking still comes through it.
	if err := runHooks(ctx, hookPrestart, h.Prestart, st, host); err != nil { //nolint:staticcheck // SA1019
		return err
	}
	return runHooks(ctx, hookCreateRuntime, h.CreateRuntime, st, host)
}

// release lets the program go on, and waits until it has come to the end of its
// preparations: until start can only succeed or fail in execve.
func (c *creation) release() error {
	if c.opts.stay {
		if err := c.tty.relay(c.proc.Pidfd); err != nil {
			return err
		}
	}
	if err := permitted(c.permit); err != nil {
		return err
	}
	if plan.Listens(c.FilterFlags) {
		err := newAgent(c.spec.Linux.Seccomp, &c.State, specs.StateCreating).introduce(c.proc, c.permit)
		if err != nil {
			return c.failure(err)
		}
	}
	if err := c.expect(plan.MarkReady); err != nil {
		return err
	}
	return c.announce()
}

// expect waits for a mark of the program, and does what it asks for on the way. That
// the program ends without a word is its death by a signal; the usual reason is its
// memory limit.
func (c *creation) expect(mark string) error {
	for {
		got, err := c.proc.Report()
		if err != nil {
			return c.failure(err)
		}
		if got == mark {
			return nil
		}
		errand := c.draft.Root.Errand(got)
		if errand == nil {
			return fmt.Errorf("launch program of container %s: reached %q before %q", c.ID, got, mark)
		}
		if err := c.serve(errand); err != nil {
			return err
		}
	}
}

// failure puts into words what a report of the program says.
func (c *creation) failure(err error) error {
	if errors.Is(err, io.EOF) {
		return errdefs.New(errdefs.ErrUnavailable, "launch program of container %s was killed%s", c.ID, c.outOfMemory())
	}
	return c.built.Explain(err)
}

// announce tells the caller where the process is.
func (c *creation) announce() error {
	if c.opts.PidfdSocket != "" {
		if err := sendFile(c.opts.PidfdSocket, "pidfd", c.proc.Pidfd); err != nil {
			return err
		}
	}
	return writePidFile(c.opts.PidFile, c.Pid)
}

func writePidFile(path string, pid int) error {
	if path == "" {
		return nil
	}
	return atomicfile.WriteBeside(path, []byte(strconv.Itoa(pid)), 0o644)
}

// abandon removes what a failed create has made, and returns cause, with what could
// not be removed. Nothing is left for this process to do after it, and until then no signal
// ends it.
func (c *creation) abandon(ctx context.Context, cause error) error {
	_ = launch.Hold()
	if c.proc != nil {
		_ = c.proc.Kill()
		_, _ = c.proc.Wait()
	}
	c.closeAll() // a lack of descriptors may be the cause, and removing needs some
	if err := c.rt.remove(ctx, c.container, c.hooked); err != nil {
		return fmt.Errorf("%w; remove what it left: %w", cause, err)
	}
	return cause
}

func (c *creation) close() {
	c.closeAll()
	c.unlock()
}

// closeAll closes what is open, but for the lock; it may be called again.
func (c *creation) closeAll() {
	if c.opts.stay {
		launch.StopRelay()
	}
	if c.proc != nil {
		c.proc.Close()
	}
	for _, f := range []*os.File{c.helper, c.permit} {
		if f != nil {
			f.Close()
		}
	}
	if c.fds != nil { // a failed create may not have come to launch
		c.fds.started()
	}
	c.spaces.Close()
	c.spaces = nil
	if c.group != nil {
		_ = c.group.Close() // a failed create has not come to Launch, and has its own error
	}
	c.set.Drop()
	c.tty.close()
}

func (c *creation) unlock() {
	if c.lock != nil {
		c.lock.Close()
		c.lock = nil
	}
}

// cgroup is the container's control group.
func (c *container) cgroup() (*cgroups.Cgroup, error) {
	group, err := cgroups.Open(c.Cgroup)
	if err != nil {
		return nil, err
	}
	group.Guard(c.dir)
	return group, nil
}

// frozen reports whether the container is paused.
func (c *container) frozen() bool {
	group, err := c.cgroup()
	if err != nil {
		return false
	}
	frozen, err := group.Frozen()
	return err == nil && frozen
}

// makeGroup makes the cgroup with its limits, before there is a process: the program is
// born in it, so nothing it does escapes them.
func (c *creation) makeGroup() error {
	if err := c.group.Create(); err != nil {
		c.Cgroup = cgroups.Location{} // somebody else's after all
		return err
	}
	c.Cgroup = c.group.Location() // a rootless container may have to do without
	resources := c.spec.Linux.Resources
	if resources == nil {
		resources = &specs.LinuxResources{}
	}
	notes, err := c.group.Apply(resources)
	c.rt.tell(notes)
	if err != nil {
		return err
	}
	if uid, ok := cgroupOwner(c.spec); ok {
		return c.group.Delegate(uid)
	}
	return nil
}

// setDevices puts the device rules in force. They bind the command and the hooks; the
// program, which makes the devices, may be at work already.
func (c *creation) setDevices() error {
	// Also without rules in the spec: no rule means no device but the default ones.
	var rules []specs.LinuxDeviceCgroup
	if r := c.spec.Linux.Resources; r != nil {
		rules = r.Devices
	}
	return c.group.SetDevices(rules)
}

// outOfMemory says so when the container's processes were killed for want of memory.
func (c *creation) outOfMemory() string {
	if n, err := c.group.OOMKills(); err == nil && n > 0 {
		return ": its memory limit is too low (out of memory)"
	}
	return ""
}

// hasNewMounts says whether a new mount namespace is among those of a container.
func hasNewMounts(list []specs.LinuxNamespace) bool {
	return slices.ContainsFunc(list, func(ns specs.LinuxNamespace) bool {
		return ns.Type == specs.MountNamespace && ns.Path == ""
	})
}
