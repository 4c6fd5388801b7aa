package runtime

import (
	"errors"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"box/pkg/resctrl"
)

// checkResctrl checks linux.intelRdt against the host, which is looked at only if it is
// asked for.
func checkResctrl(r *specs.LinuxIntelRdt) error {
	if r == nil {
		return nil
	}
	return resctrl.Check(r, resctrl.Root())
}

// joinResctrl puts a process into the group that r asks for, below root. The record names
// first what is about to be made: no process holds a group, and nobody else would look for
// it. That somebody makes the same group in that moment, and we are killed before the
// record says so, is left to chance.
func (c *container) joinResctrl(root string, r *specs.LinuxIntelRdt, pid int) error {
	named := resctrl.Choose(root, c.ID, r)
	c.Resctrl = named
	if err := c.save(); err != nil {
		return err
	}
	err := c.Resctrl.Join(c.ID, r, pid)
	if c.Resctrl != named {
		err = errors.Join(err, c.save())
	}
	return err
}

// resctrlStats reads the figures of the container's group; a host is not even asked for
// resctrl by a container without one.
func (c *container) resctrlStats() (resctrl.Stats, error) {
	if c.Resctrl.Path == "" {
		return resctrl.Stats{}, nil
	}
	return c.Resctrl.Stats(resctrl.Root())
}
