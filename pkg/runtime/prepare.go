package runtime

import (
	"encoding/binary"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"box/internal/errdefs"
	"box/pkg/cgroups"
	"box/pkg/label"
	"box/pkg/launch"
	"box/pkg/namespaces"
	"box/pkg/resctrl"
	"box/pkg/rootfs"
	"box/pkg/seccomp"
	"box/pkg/spec"
)

// assemble turns the spec into the container's plan.
func (c *creation) assemble() error {
	bp, err := c.blueprint()
	if err != nil {
		return err
	}
	c.built, err = bp.plan()
	return err
}

// blueprint gathers what the plan depends on, and opens what the program is given.
func (c *creation) blueprint() (*blueprint, error) {
	bp, err := newBlueprint(c.rt, c.ID, c.Bundle, c.spec, &c.facts, c.group, c.opts.NoPivot)
	if err != nil {
		return nil, err
	}
	if bp.fds, err = c.rt.newDescriptors(c.opts.PreserveFDs + c.facts.listen); err != nil {
		return nil, err
	}
	c.fds, bp.wait = bp.fds, c.wait
	c.late = c.group.Late()
	bp.late = c.late
	if n := c.facts.listen; n > 0 { // sd_listen_fds(3): the command is pid 1 of its namespace
		bp.env = append(bp.env, "LISTEN_FDS="+strconv.Itoa(n), "LISTEN_PID=1")
	}
	if c.permit, err = c.fds.openPermit(); err != nil {
		return nil, err
	}
	if c.wait {
		if err := c.fds.openStart(c.container); err != nil {
			return nil, err
		}
	}
	if c.spaces, err = bp.set.Open(); err != nil {
		return nil, err
	}
	for _, f := range c.spaces.Files {
		bp.joins = append(bp.joins, c.fds.give(f))
	}
	c.set = bp.set
	if c.tty, err = openConsole(c.spec.Process, c.opts.ConsoleSocket, c.stay, c.fds); err != nil {
		return nil, err
	}
	bp.tty, c.root = c.tty, bp.root
	if err := c.openHelper(bp); err != nil {
		return nil, err
	}
	c.dress(bp.proc)
	return bp, c.keepFilter(bp.proc)
}

// dress adds to the process what the options decide.
func (c *creation) dress(p *process) {
	p.firstFree, p.firstIdle, p.permit = c.fds.free, c.fds.idle(), c.fds.permit
	if c.opts.NoNewKeyring {
		p.keyring = ""
	}
	// A thread that has joined namespaces ends after the fork, and the signal would
	// come at once.
	if c.child && len(c.set.ParentJoins) == 0 {
		p.child = int(unix.SIGKILL)
	}
}

// newBlueprint is the part of a blueprint that needs nothing but the bundle and a
// look at the host.
func newBlueprint(r *Runtime, id, bundle string, s *specs.Spec, f *facts, group *cgroups.Cgroup, noPivot bool) (*blueprint, error) {
	set, err := namespaces.From(s.Linux)
	if err != nil {
		return nil, err
	}
	if uid := os.Geteuid(); uid != 0 {
		set.Unprivileged(uid, os.Getegid())
	}
	if err := checkResctrl(s.Linux.IntelRdt); err != nil {
		return nil, err
	}
	f.lookFor(s.Process, s.Linux.MountLabel)
	if err := label.CheckMount(s.Linux.MountLabel, f.modules); err != nil {
		return nil, err
	}
	look, err := rootfs.Look(bundle, s)
	if err != nil {
		return nil, err
	}
	for _, place := range group.Legacy() {
		look.Hierarchies = append(look.Hierarchies, rootfs.Hierarchy{Name: place.Hierarchy, Dir: place.Dir})
	}
	if noPivot {
		if err := look.LookNoPivot(); err != nil {
			return nil, err
		}
	}
	return design(r, id, s, set, look, f, withHome(s.Process, look.Root))
}

// design is the pure part: nothing of the host is looked at any more.
func design(r *Runtime, id string, s *specs.Spec, set *namespaces.Set, look rootfs.Facts, f *facts, env []string) (*blueprint, error) {
	root, err := rootfs.New(s, set, look)
	if err != nil {
		return nil, err
	}
	for _, note := range root.Notes() {
		r.warn(note)
	}
	if err := checkNetDevices(s.Linux, set); err != nil {
		return nil, err
	}
	proc, err := newProcess(r, s.Process, f, id, !set.Shares(specs.UserNamespace))
	if err != nil {
		return nil, err
	}
	proc.first = true
	proc.addExtras(s.Linux)
	if proc.filter, proc.flags, err = compileFilter(s.Linux.Seccomp); err != nil {
		return nil, err
	}
	if proc.filter != nil {
		r.debugf("seccomp filter flags: %d", proc.flags)
	}
	return &blueprint{
		spec: s, set: set, root: root, proc: proc, env: env,
		hooks: hasCreateHooks(s.Hooks) || len(s.Linux.NetDevices) > 0 || len(root.Errands()) > 0,
	}, nil
}

// checkResctrl checks linux.intelRdt against the host, which is looked at only if it is
// asked for.
func checkResctrl(r *specs.LinuxIntelRdt) error {
	if r == nil {
		return nil
	}
	return resctrl.Check(r, resctrl.Root())
}

// compileFilter compiles the seccomp profile of a spec, if it has one.
func compileFilter(p *specs.LinuxSeccomp) ([]unix.SockFilter, uint, error) {
	if p == nil {
		return nil, 0, nil
	}
	filter, err := seccomp.Compile(p)
	if err != nil {
		return nil, 0, err
	}
	flags, err := seccomp.Flags(p)
	return filter, uint(flags), err
}

// launch starts the program in its namespaces and its cgroup.
func (c *creation) launch() error {
	program, err := launch.NewProgram(c.built.plan)
	if err != nil {
		return err
	}
	defer program.Close()
	attr := launch.Attr{Files: c.fds.files, Dir: "/"}
	c.set.Configure(&attr.Sys)
	err = c.spaces.Enter(func() error {
		return c.group.Launch(&attr.Sys, 0, starter(program, &attr, &c.proc))
	})
	c.fds.started()
	c.spaces.Close()
	if err == nil && c.late {
		_, err = c.permit.WriteString(word)
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
	f := gatherFacts()
	group, err := cgroups.Resolve(s.Linux.CgroupsPath, "ID", cgroups.Options{})
	if err != nil {
		return nil, err
	}
	bp, err := newBlueprint(&Runtime{}, "ID", bundle, s, &f, group, false)
	if err != nil {
		return nil, err
	}
	bp.lay()
	b, err := bp.plan()
	if err != nil {
		return nil, err
	}
	return b.plan, nil
}

// lay gives out descriptors to a plan that will only be printed.
func (bp *blueprint) lay() {
	bp.fds = &descriptors{files: make([]*os.File, firstPreserved+1), free: firstPreserved, report: firstPreserved}
	bp.fds.permit, bp.fds.start = bp.fds.give(nil), bp.fds.give(nil)
	for range bp.set.Joins {
		bp.joins = append(bp.joins, bp.fds.give(nil))
	}
	if len(bp.root.Errands()) > 0 {
		bp.root.UseHelper(bp.fds.give(nil))
	}
	bp.proc.firstFree, bp.proc.firstIdle, bp.proc.permit = bp.fds.free, bp.fds.idle(), bp.fds.permit
	bp.wait = true
}

// keepConfig keeps the configuration as it is now: exec and hooks must not depend on
// what becomes of the bundle.
func (c *creation) keepConfig() error {
	data, err := readFile(filepath.Join(c.Bundle, spec.ConfigFile))
	if err != nil {
		return err
	}
	return writeNew(c.path(configFile), data)
}

// keepFilter keeps the compiled seccomp filter for exec.
func (c *creation) keepFilter(p *process) error {
	if len(p.filter) == 0 {
		return nil
	}
	c.FilterFlags = p.flags
	return writeNew(c.path(filterFile), filterBytes(p.filter))
}

// filter reads the container's seccomp filter back; nil if it has none.
func (c *container) filter() ([]unix.SockFilter, error) {
	data, err := readFile(c.path(filterFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if len(data)%instructionSize != 0 {
		return nil, errdefs.New(errdefs.ErrCorrupt, "read %s: %d bytes are no filter", c.path(filterFile), len(data))
	}
	filter := make([]unix.SockFilter, 0, len(data)/instructionSize)
	for ; len(data) > 0; data = data[instructionSize:] {
		filter = append(filter, unix.SockFilter{
			Code: binary.NativeEndian.Uint16(data), Jt: data[2], Jf: data[3], K: binary.NativeEndian.Uint32(data[4:]),
		})
	}
	return filter, nil
}

// instructionSize is that of struct sock_filter.
const instructionSize = 8

func filterBytes(filter []unix.SockFilter) []byte {
	code := make([]byte, 0, instructionSize*len(filter))
	for _, f := range filter {
		code = binary.NativeEndian.AppendUint16(code, f.Code)
		code = append(code, f.Jt, f.Jf)
		code = binary.NativeEndian.AppendUint32(code, f.K)
	}
	return code
}
