package runtime

import (
	"context"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"box/pkg/cgroups"
	"box/pkg/spec"
)

// Update changes the limits of a container that has not stopped. What resources does
// not name stays as it is, and device rules are left alone whatever it says of them, as
// with runc: others add to those behind our back.
func (r *Runtime) Update(_ context.Context, id string, resources *specs.LinuxResources) error {
	if err := spec.ValidateResources(resources); err != nil {
		return err
	}
	return r.change(id, &verbUpdate, func(c *container) error {
		group, err := c.cgroup()
		if err != nil {
			return err
		}
		notes, err := group.Update(resources)
		r.tell(notes)
		return err
	})
}

// tell passes on what is to be said of limits.
func (r *Runtime) tell(notes []cgroups.Note) {
	for _, n := range notes {
		if n.Warning {
			r.warn(n.Text)
		} else {
			r.debugf("%s", n.Text)
		}
	}
}
