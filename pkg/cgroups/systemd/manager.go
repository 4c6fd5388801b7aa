package systemd

import (
	"context"
	"fmt"
	"os"
	"strings"

	"box/internal/errdefs"
)

// Manager is a connection to systemd: the system's, or a user's.
type Manager struct{ bus *bus }

// Dial connects to a manager.
func Dial(user bool) (*Manager, error) {
	path, err := socketPath(user, os.Getenv)
	if err != nil {
		return nil, err
	}
	b, err := dial(path)
	if err != nil {
		return nil, errdefs.WithHint(fmt.Errorf("reach systemd: %w", err),
			"Without systemd as the init of the host, choose the cgroupfs driver.")
	}
	return &Manager{b}, nil
}

// Close ends the connection.
func (m *Manager) Close() { m.bus.close() }

const (
	service          = "org.freedesktop.systemd1"
	object           = "/org/freedesktop/systemd1"
	managerInterface = service + ".Manager"
)

// manage calls a method of the manager, whose answer is of the given types.
func (m *Manager) manage(ctx context.Context, member, signature string, body func(*encoder), answer string) (*message, error) {
	return m.bus.call(ctx, &call{service, object, managerInterface, member, signature, body, answer})
}

// property reads a string property of the manager.
func (m *Manager) property(ctx context.Context, name string) (string, error) {
	reply, err := m.bus.call(ctx, &call{service, object, "org.freedesktop.DBus.Properties", "Get", "ss", func(e *encoder) {
		e.string(managerInterface)
		e.string(name)
	}, "v"})
	if err != nil {
		return "", err
	}
	kind, value := reply.body.signature(), reply.body.string()
	if kind != "s" || reply.body.bad {
		return "", errdefs.New(errdefs.ErrCorrupt, "systemd: property %s is no string", name)
	}
	return value, nil
}

// Version is systemd's release, 0 if it has none that can be read.
func (m *Manager) Version(ctx context.Context) (int, error) {
	v, err := m.property(ctx, "Version")
	return number(v), err
}

// ControlGroup is the path of the manager's own group, "" for the root: where its
// slices are.
func (m *Manager) ControlGroup(ctx context.Context) (string, error) {
	return m.property(ctx, "ControlGroup")
}

// listen asks for the signals about jobs. It has to come before the job, whose end
// could be missed otherwise.
func (m *Manager) listen(ctx context.Context) error {
	_, err := m.bus.call(ctx, &call{
		"org.freedesktop.DBus", "/org/freedesktop/DBus", "org.freedesktop.DBus", "AddMatch", "s",
		func(e *encoder) {
			e.string("type='signal',sender='" + service + "',interface='" + managerInterface + "',member='JobRemoved',path='" + object + "'")
		}, "",
	})
	if err != nil {
		return err
	}
	_, err = m.manage(ctx, "Subscribe", "", nil, "")
	if is(err, "AlreadySubscribed") {
		return nil
	}
	return err
}

// job calls a method that starts a job, and waits for the job's end.
func (m *Manager) job(ctx context.Context, what, unit, signature string, body func(*encoder)) error {
	if err := m.listen(ctx); err != nil {
		return err
	}
	reply, err := m.manage(ctx, what, signature, body, "o")
	if err != nil {
		return err
	}
	job := reply.body.string()
	if reply.body.bad {
		return errdefs.New(errdefs.ErrCorrupt, "systemd: %s of %s: the answer names no job", what, unit)
	}
	for {
		s, err := m.bus.jobEnd(ctx)
		if err != nil {
			return fmt.Errorf("systemd: wait for the job of %s: %w", unit, err)
		}
		name, result := s.ended()
		if name != job || !s.from(reply.sender) {
			continue
		}
		if result != "done" {
			return errdefs.New(errdefs.ErrUnavailable, "systemd: %s of %s: job ended as %q", what, unit, result)
		}
		return nil
	}
}

// ended reads the signal JobRemoved: number, path, unit and result of the job.
func (m *message) ended() (job, result string) {
	_, job, _ = m.body.uint32(), m.body.string(), m.body.string()
	return job, m.body.string()
}

// Start makes and starts a transient unit. A unit of that name that has failed
// before is forgotten first; one that is there otherwise is a conflict.
func (m *Manager) Start(ctx context.Context, unit string, properties []Property) error {
	start := func() error {
		return m.job(ctx, "StartTransientUnit", unit, "ssa(sv)a(sa(sv))", func(e *encoder) {
			e.string(unit)
			e.string("replace")
			e.properties(properties)
			e.array(8, func() {})
		})
	}
	err := start()
	if is(err, "UnitExists") && m.ResetFailed(ctx, unit) == nil {
		err = start()
	}
	if is(err, "UnitExists") {
		return errdefs.New(errdefs.ErrConflict, "systemd: unit %s already exists", unit)
	}
	return err
}

// Stop stops a unit, and returns when it has. One that is not there has stopped.
func (m *Manager) Stop(ctx context.Context, unit string) error {
	err := m.job(ctx, "StopUnit", unit, "ss", func(e *encoder) {
		e.string(unit)
		e.string("replace")
	})
	if is(err, "NoSuchUnit") {
		return nil
	}
	return err
}

// ResetFailed forgets that a unit has failed, which keeps its name in use.
func (m *Manager) ResetFailed(ctx context.Context, unit string) error {
	_, err := m.manage(ctx, "ResetFailedUnit", "s", func(e *encoder) { e.string(unit) }, "")
	if is(err, "NoSuchUnit") {
		return nil
	}
	return err
}

// Set changes properties of a unit, until it stops. systemd answers first and writes the
// group's files then, but before it hears the next question: who writes them himself
// when Set returns has the last word.
func (m *Manager) Set(ctx context.Context, unit string, properties []Property) error {
	_, err := m.manage(ctx, "SetUnitProperties", "sba(sv)", func(e *encoder) {
		e.string(unit)
		e.bool(true)
		e.properties(properties)
	}, "")
	if err == nil {
		_, err = m.Version(ctx)
	}
	return err
}

// Attach moves processes into the unit's group, for whoever may not do so himself.
func (m *Manager) Attach(ctx context.Context, unit string, pids ...uint32) error {
	_, err := m.manage(ctx, "AttachProcessesToUnit", "ssau", func(e *encoder) {
		e.string(unit)
		e.string("")
		e.array(4, func() {
			for _, p := range pids {
				e.uint32(p)
			}
		})
	}, "")
	return err
}

// Names are what linux.cgroupsPath says of a unit.
type Names struct {
	Slice string // such as machine.slice
	Unit  string // such as libpod-abc.scope
}

// ParsePath reads a linux.cgroupsPath of the form slice:prefix:name; an empty one
// is named after the container. The words are runc's.
func ParsePath(cgroupsPath, id string, user bool) (Names, error) {
	if cgroupsPath == "" {
		cgroupsPath = ":box:" + id
	}
	parts := strings.Split(cgroupsPath, ":")
	if len(parts) != 3 {
		return Names{}, errdefs.New(errdefs.ErrInvalid,
			"linux.cgroupsPath: expected cgroupsPath to be of format \"slice:prefix:name\" for systemd cgroups, got %q instead", cgroupsPath)
	}
	n := Names{Slice: parts[0], Unit: parts[2] + ".scope"}
	if parts[1] != "" {
		n.Unit = parts[1] + "-" + n.Unit
	}
	if n.Slice == "" {
		n.Slice = "system.slice"
		if user {
			n.Slice = "user.slice"
		}
	}
	if strings.HasSuffix(parts[2], ".slice") {
		return Names{}, errdefs.New(errdefs.ErrUnsupported, "linux.cgroupsPath: %q: a container in a slice of its own, not in a scope, is not supported", cgroupsPath)
	}
	if parts[2] == "" || len(n.Unit) > 255 || strings.Trim(n.Unit, unitCharacters) != "" {
		return Names{}, errdefs.New(errdefs.ErrInvalid, "linux.cgroupsPath: %q: %q is not the name of a unit", cgroupsPath, n.Unit)
	}
	_, err := ExpandSlice(n.Slice)
	return n, err
}

// unitCharacters are those of names (systemd.unit(5)).
const unitCharacters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789:-_.\\@"

// ExpandSlice returns the path of a slice: a dash is a level (systemd.slice(5)),
// so a-b.slice is at /a.slice/a-b.slice.
func ExpandSlice(slice string) (string, error) {
	name, ok := strings.CutSuffix(slice, ".slice")
	if !ok || name == "" || len(slice) > 255 || strings.Trim(slice, unitCharacters) != "" {
		return "", errdefs.New(errdefs.ErrInvalid, "linux.cgroupsPath: invalid slice name: %q", slice)
	}
	if name == "-" {
		return "/", nil
	}
	path, prefix := "", ""
	for part := range strings.SplitSeq(name, "-") {
		if part == "" {
			return "", errdefs.New(errdefs.ErrInvalid, "linux.cgroupsPath: invalid slice name: %q", slice)
		}
		path += "/" + prefix + part + ".slice"
		prefix += part + "-"
	}
	return path, nil
}
