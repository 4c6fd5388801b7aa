package runtime

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"slices"
	"strconv"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"box/internal/errdefs"
	"box/pkg/cgroups"
	"box/pkg/launch"
	"box/pkg/plan"
	"box/pkg/sched"
	"box/pkg/spec"
)

// ExecOptions describe a further process in a container: by a file in the form of
// the spec's process, or by what differs from the container's own process.
type ExecOptions struct {
	ProcessFile string // process.json; Args and the fields below it are then left alone

	Args            []string
	Cwd             string
	Env             []string // added to the container's
	User            string   // UID[:GID]
	AdditionalGids  []string
	Caps            []string // added to the bounding, effective and permitted sets
	NoNewPrivileges bool
	Terminal        bool

	Detach        bool
	PidFile       string
	ConsoleSocket string
	PidfdSocket   string
	PreserveFDs   int
	IgnorePaused  bool
	Cgroups       []string // [CONTROLLER[,CONTROLLER]:]PATH below the container's group
	AppArmor      string   // profile, instead of the container's
	ProcessLabel  string   // SELinux label, instead of the container's
}

func (o *ExecOptions) check() error {
	if o.PreserveFDs < 0 {
		return errdefs.New(errdefs.ErrInvalid, "--preserve-fds: %d is negative", o.PreserveFDs)
	}
	return nil
}

// joining is one exec under way.
type joining struct {
	*container
	opts   *ExecOptions
	spec   *specs.Process
	facts  plan.Facts
	init   *os.File // pidfd of the container's init
	fds    *descriptors
	permit *os.File
	built  *plan.Assembly
	proc   *launch.Process
	tty    *console

	affinity sched.Affinity // CPUs of our thread and of the process
	pinned   bool           // the container is kept to certain CPUs
	rt       *Runtime
}

// Exec runs a further process in a container. In the foreground it waits for it and
// returns its exit code.
func (r *Runtime) Exec(ctx context.Context, id string, o ExecOptions) (int, error) {
	if err := o.check(); err != nil {
		return 0, err
	}
	allowed := &verbExec
	if o.IgnorePaused {
		allowed = &verbWatch
	}
	c, err := r.ready(id, allowed)
	if err != nil {
		return 0, err
	}
	j := &joining{container: c, opts: &o, facts: gatherFacts(), rt: r}
	j.facts.Stay = !o.Detach
	defer j.close()
	if err := j.begin(); err != nil {
		if c.status() == Stopped { // which explains most of what can fail
			err = fmt.Errorf("%w; %w", verbExec.refusal(id, Stopped), err)
		}
		return 0, err
	}
	if o.Detach {
		return 0, nil
	}
	return j.foreground()
}

// begin starts the process and waits until its command is executed.
func (j *joining) begin() error {
	var err error
	if j.spec, err = j.process(); err != nil {
		return err
	}
	if j.init, err = j.pidfd(); err != nil {
		return err
	}
	if err := j.assemble(); err != nil {
		return err
	}
	if err := j.launch(); err != nil {
		return err
	}
	j.rt.debugf("container %s: process %d carries out %d steps", j.ID, j.proc.Pid, j.built.Plan.Len())
	if err := j.release(); err != nil {
		_ = j.proc.Kill()
		_, _ = j.proc.Wait()
		return err
	}
	return nil
}

// process returns the process to run: the file's, or the container's own with what
// the options change.
func (j *joining) process() (*specs.Process, error) {
	if j.opts.ProcessFile != "" {
		p, err := spec.LoadProcess(j.opts.ProcessFile)
		if err != nil {
			return nil, err
		}
		p.Terminal = p.Terminal || j.opts.Terminal
		return p, j.complete(p)
	}
	if len(j.opts.Args) == 0 {
		return nil, errdefs.New(errdefs.ErrInvalid, "process args cannot be empty")
	}
	config, err := j.config()
	if err != nil {
		return nil, err
	}
	p := config.Process
	if err := j.opts.apply(p); err != nil {
		return nil, err
	}
	return p, spec.ValidateProcess(p)
}

// apply changes the container's own process into the one that the flags ask for.
func (o *ExecOptions) apply(p *specs.Process) error {
	p.Args, p.Terminal = o.Args, o.Terminal
	p.Env = append(p.Env, o.Env...)
	p.NoNewPrivileges = p.NoNewPrivileges || o.NoNewPrivileges
	if o.Cwd != "" {
		p.Cwd = o.Cwd
	}
	if o.User != "" {
		if err := setUser(&p.User, o.User); err != nil {
			return err
		}
	}
	for _, g := range o.AdditionalGids {
		gid, err := parseID("--additional-gids", g)
		if err != nil {
			return err
		}
		p.User.AdditionalGids = append(p.User.AdditionalGids, gid)
	}
	if o.AppArmor != "" {
		p.ApparmorProfile = o.AppArmor
	}
	if o.ProcessLabel != "" {
		p.SelinuxLabel = o.ProcessLabel
	}
	addCaps(p, o.Caps)
	return nil
}

// addCaps adds to the sets that a command started by root ends up with, and to the
// ambient set what the container's inheritable set has already. That one stays as it
// is: a file with inheritable capabilities must not gain from it (CVE-2022-29162).
func addCaps(p *specs.Process, caps []string) {
	if len(caps) == 0 {
		return
	}
	if p.Capabilities == nil {
		p.Capabilities = &specs.LinuxCapabilities{}
	}
	for _, set := range []*[]string{&p.Capabilities.Bounding, &p.Capabilities.Effective, &p.Capabilities.Permitted} {
		*set = append(*set, caps...)
	}
	for _, c := range caps {
		if slices.Contains(p.Capabilities.Inheritable, c) {
			p.Capabilities.Ambient = append(p.Capabilities.Ambient, c)
		}
	}
}

// setUser reads UID[:GID]. Both are numbers, never names: a name would have to be
// looked up in files of the container (CVE-2026-30892 was a parser too kind here).
func setUser(u *specs.User, s string) error {
	uid, gid, both := strings.Cut(s, ":")
	var err error
	if u.UID, err = parseID("--user", uid); err != nil {
		return err
	}
	if both {
		u.GID, err = parseID("--user", gid)
	}
	return err
}

// parseID reads a user or group id: plain decimal, at most 2^31-1, as everywhere.
func parseID(flag, s string) (uint32, error) {
	n, err := strconv.ParseUint(s, 10, 32)
	if err != nil || n > math.MaxInt32 || s[0] == '+' {
		return 0, errdefs.New(errdefs.ErrInvalid, "%s: %q is not an id between 0 and %d", flag, s, math.MaxInt32)
	}
	return uint32(n), nil
}

// assemble makes the plan: into the namespaces, then the same last third as create.
func (j *joining) assemble() error {
	var err error
	if j.fds, err = j.rt.newDescriptors(j.opts.PreserveFDs); err != nil {
		return err
	}
	if j.permit, err = j.fds.openPermit(); err != nil {
		return err
	}
	if j.tty, err = openConsole(j.spec, j.opts.ConsoleSocket, !j.opts.Detach, j.fds); err != nil {
		return err
	}
	e, err := j.draft()
	if err != nil {
		return err
	}
	e.Pidfd = j.fds.give(j.init)
	if e.Root, err = j.openRoot(j.fds); err != nil {
		return err
	}
	e.Layout, e.Terminal = j.fds.Layout, j.tty.options()
	j.built, err = e.Assemble()
	return err
}

// draft is what the plan depends on but for descriptors.
func (j *joining) draft() (*plan.Exec, error) {
	lookForModules(&j.facts, j.spec, "")
	p, err := plan.NewProcess(j.ID, j.spec, &j.facts, j.Join&unix.CLONE_NEWUSER != 0)
	if err != nil {
		return nil, err
	}
	for _, note := range p.Notes {
		j.rt.warn(note)
	}
	if p.Filter, err = j.filter(); err != nil {
		return nil, err
	}
	p.Flags = j.FilterFlags
	p.Visible = j.hides(p.Flags)
	if j.KeepKeyring {
		p.Keyring = ""
	}
	if j.Extras {
		config, err := j.config()
		if err != nil {
			return nil, err
		}
		p.AddExtras(config.Linux)
		j.pinned = pinned(config.Linux)
	}
	j.affinity = p.Affinity
	return &plan.Exec{Process: p, Env: environment(j.spec, j.rootLink()), Join: j.Join, OOMScore: j.ownScore(j.spec)}, nil
}

// rootLink leads to the root directory of the container's first process.
func (c *container) rootLink() string { return "/proc/" + strconv.Itoa(c.Pid) + "/root" }

// openRoot opens the container's root directory for a program that joins, where its mount
// namespace has another root: when it is shared with others. 0 where it has not.
func (c *container) openRoot(fds *descriptors) (int, error) {
	if !c.Chroot {
		return 0, nil
	}
	path := c.rootLink()
	fd, err := unix.Open(path, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return 0, &os.PathError{Op: "open", Path: path, Err: err}
	}
	return fds.hand(os.NewFile(uintptr(fd), path)), nil
}

// launch starts the program, in the container's cgroup.
func (j *joining) launch() error {
	program, err := launch.NewProgram(j.built.Plan)
	if err != nil {
		return err
	}
	defer program.Close()
	group, init, err := j.group()
	if err != nil {
		return err
	}
	attr := launch.Attr{Files: j.fds.files, Dir: "/"}
	start := func() error {
		if err := j.initialCPUs(); err != nil {
			return err
		}
		return group.Launch(&attr.Sys, init, starter(program, &attr, &j.proc))
	}
	err = j.onThread(start)
	j.fds.started()
	return err
}

// group is the process's control group: the container's or, if flags say so, one
// below it. If the container's takes no processes any more that of its init does, whose
// pid is returned for that; who names a group means that one.
func (j *joining) group() (*cgroups.Cgroup, int, error) {
	group, err := j.cgroup()
	if err != nil || len(j.opts.Cgroups) == 0 {
		return group, j.Pid, err
	}
	group, err = group.Sub(j.opts.Cgroups)
	return group, 0, err
}

// release lets the program go on and waits for its execve.
func (j *joining) release() error {
	wanted := j.spec
	if j.Join&unix.CLONE_NEWPID != 0 {
		wanted = withSuccessor(wanted)
	}
	wanted = j.withoutScore(wanted)
	if err := errors.Join(j.rt.tend(j.proc.Pid, wanted, j.pinned, j.affinity.Final), j.Resctrl.Add(j.proc.Pid)); err != nil {
		return err
	}
	if !j.opts.Detach {
		if err := j.tty.relay(j.proc.Pidfd); err != nil {
			return err
		}
	}
	if err := permitted(j.permit); err != nil {
		return err
	}
	if plan.Listens(j.FilterFlags) {
		if err := j.introduce(); err != nil {
			return j.built.Explain(err)
		}
	}
	if wanted.Scheduler != j.spec.Scheduler {
		if err := j.schedule(); err != nil {
			return err
		}
	}
	switch mark, err := j.proc.Report(); {
	case errors.Is(err, io.EOF): // executed, or killed: its exit code will tell
	case err != nil:
		return j.built.Explain(err)
	default:
		return fmt.Errorf("launch program in container %s: unexpected mark %q", j.ID, mark)
	}
	if j.opts.PidfdSocket != "" {
		if err := sendFile(j.opts.PidfdSocket, "pidfd", j.proc.Pidfd); err != nil {
			return err
		}
	}
	return writePidFile(j.opts.PidFile, j.proc.Pid)
}

// schedule gives the process that has entered the pid namespace its scheduler: its
// predecessor could not have handed a deadline on.
func (j *joining) schedule() error {
	switch mark, err := j.proc.Report(); {
	case err != nil:
		return j.built.Explain(err)
	case mark != plan.MarkEntered:
		return fmt.Errorf("launch program in container %s: reached %q before %q", j.ID, mark, plan.MarkEntered)
	}
	if err := sched.Scheduler(j.proc.Pid, j.spec.Scheduler, j.pinned); err != nil {
		return err
	}
	return permitted(j.permit)
}

// introduce brings the listener of the process's own filter to the agent.
func (j *joining) introduce() error {
	config, err := j.config()
	if err != nil {
		return err
	}
	return newAgent(config.Linux.Seccomp, &j.State, specs.StateRunning).introduce(j.proc, j.permit)
}

func (j *joining) foreground() (int, error) {
	return j.tty.await(j.proc.Pid)
}

func (j *joining) close() {
	if !j.opts.Detach {
		launch.StopRelay()
	}
	for _, f := range []*os.File{j.init, j.permit} {
		if f != nil {
			f.Close()
		}
	}
	if j.fds != nil { // a failed exec may not have come to the fork
		j.fds.started()
	}
	j.tty.close()
	if j.proc != nil {
		j.proc.Close()
	}
}
