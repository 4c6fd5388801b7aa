package cgroups

import (
	"context"
	"errors"
	"fmt"
	"path"
	"time"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"box/pkg/cgroups/limits"
	"box/pkg/cgroups/systemd"
)

// unit is what systemd knows of a group.
type unit struct {
	name string
	user bool // of the user's manager, not the system's

	// Below is what only the maker of the unit has.
	slice      string
	container  string // its id
	properties []systemd.Property
	together   bool // who is out of memory takes all others with him: memory.oom.group
	devices    []deviceRule
	manager    *systemd.Manager
	version    int // of the manager; 0 is not asked yet
	holder     *systemd.Holder
}

// jobLimit bounds the wait for systemd's jobs.
const jobLimit = 30 * time.Second

func jobContext() (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.Background(), jobLimit)
}

// resolveUnit returns the group of a scope that systemd is to make.
func resolveUnit(cgroupsPath, id string, o Options) (*Cgroup, error) {
	names, err := systemd.ParsePath(cgroupsPath, id, o.Rootless)
	if err != nil {
		return nil, err
	}
	u := &unit{name: names.Unit, user: o.Rootless, slice: names.Slice, container: id}
	if err := u.describe(o); err != nil {
		return nil, err
	}
	base, err := u.base()
	if err != nil {
		return nil, err
	}
	slice, err := systemd.ExpandSlice(names.Slice)
	if err != nil {
		return nil, err
	}
	c := &Cgroup{root: unifiedRoot(), path: path.Join("/", base, slice, names.Unit), unit: u, rootless: o.Rootless}
	return c, c.findLegacy(c.path)
}

// describe reads what systemd is told of the container.
func (u *unit) describe(o Options) (err error) {
	r := o.Resources
	if r == nil {
		r = &specs.LinuxResources{}
	}
	u.together = r.Unified["memory.oom.group"] == "1"
	if u.devices, err = parseRules(r.Devices); err != nil {
		return err
	}
	u.properties, err = systemd.FromAnnotations(o.Annotations)
	return err
}

// base is the group below which the manager has its slices: a user's manager is in
// a group of its own.
func (u *unit) base() (string, error) {
	if !u.user {
		return "/", nil
	}
	ctx, cancel := jobContext()
	defer cancel()
	m, err := u.dial()
	if err != nil {
		return "", err
	}
	return m.ControlGroup(ctx)
}

// dial returns the connection to the manager, which stays open until release.
func (u *unit) dial() (*systemd.Manager, error) {
	if u.manager != nil {
		return u.manager, nil
	}
	var err error
	u.manager, err = systemd.Dial(u.user)
	return u.manager, err
}

// start has systemd make the scope, with a holder in it.
func (u *unit) start(legacy bool) error {
	m, err := u.dial()
	if err != nil {
		return err
	}
	if u.holder, err = systemd.NewHolder(); err != nil {
		return err
	}
	ctx, cancel := jobContext()
	defer cancel()
	if err = u.askVersion(ctx, m); err == nil {
		err = m.Start(ctx, u.name, u.described(legacy))
	}
	if err != nil {
		return errors.Join(err, u.release())
	}
	return nil
}

// described is all that systemd is told when it makes the scope. A user's manager cannot
// carry device rules out, and would only show what is not in force. What annotations say
// comes last, and wins.
func (u *unit) described(legacy bool) []systemd.Property {
	list := systemd.Scope("box container "+u.container, u.slice, uint32(u.holder.Pid), legacy)
	if u.together {
		list = append(list, systemd.KilledTogether(u.version)...)
	}
	if !u.user {
		list = append(list, unitDevices(u.devices, u.version)...)
	}
	return append(list, u.properties...)
}

// askVersion asks for systemd's release, once.
func (u *unit) askVersion(ctx context.Context, m *systemd.Manager) (err error) {
	if u.version == 0 {
		u.version, err = m.Version(ctx)
	}
	return err
}

// release lets go of what the maker of the unit has.
func (u *unit) release() error {
	if u == nil {
		return nil
	}
	var err error
	if u.holder != nil {
		err = u.holder.Release()
		u.holder = nil
	}
	if u.manager != nil {
		u.manager.Close()
		u.manager = nil
	}
	return err
}

// apply tells systemd of the limits, which would put back its own when it next
// writes the group's files.
func (u *unit) apply(list []limits.Limit) error {
	return u.set(func(version int) ([]systemd.Property, error) { return systemd.FromLimits(list, version) })
}

// set changes properties of the unit, which depend on systemd's release.
func (u *unit) set(properties func(version int) ([]systemd.Property, error)) error {
	m, err := u.dial()
	if err != nil {
		return err
	}
	ctx, cancel := jobContext()
	defer cancel()
	if err := u.askVersion(ctx, m); err != nil {
		return err
	}
	list, err := properties(u.version)
	if err != nil || len(list) == 0 {
		return err
	}
	return m.Set(ctx, u.name, list)
}

// attach moves a process into the scope through systemd, which may do so where its
// user may not.
func (u *unit) attach(pid int) error {
	m, err := u.dial()
	if err != nil {
		return err
	}
	ctx, cancel := jobContext()
	defer cancel()
	return m.Attach(ctx, u.name, uint32(pid))
}

// stop has systemd stop and forget the unit, whose processes are dead by then.
func (u *unit) stop() error {
	defer func() { _ = u.release() }()
	m, err := u.dial()
	if err != nil {
		return err
	}
	ctx, cancel := jobContext()
	defer cancel()
	if err := m.Stop(ctx, u.name); err != nil {
		return fmt.Errorf("remove unit %s: %w", u.name, err)
	}
	return m.ResetFailed(ctx, u.name)
}

// Close lets go of what Create has kept for Launch, if that has not come.
func (c *Cgroup) Close() error { return c.unit.release() }

// refusedToUs tells whether moving a process failed for want of permission on the
// groups in between.
func refusedToUs(err error) bool {
	return errors.Is(err, unix.EACCES) || errors.Is(err, unix.EPERM)
}
