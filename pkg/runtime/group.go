package runtime

import (
	specs "github.com/opencontainers/runtime-spec/specs-go"

	"box/pkg/cgroups"
)

// cgroup is the container's control group.
func (c *container) cgroup() (*cgroups.Cgroup, error) { return cgroups.Open(c.Cgroup) }

// frozen reports whether the container is paused.
func (c *container) frozen() bool {
	group, err := c.cgroup()
	if err != nil {
		return false
	}
	frozen, err := group.Frozen()
	return err == nil && frozen
}

// makeGroup makes the cgroup with its limits and device rules, before there is a
// process: the program is born in it, so nothing it does escapes them.
func (c *creation) makeGroup() error {
	if err := c.group.Create(); err != nil {
		return err
	}
	resources := c.spec.Linux.Resources
	if resources == nil {
		resources = &specs.LinuxResources{}
	}
	notes, err := c.group.Apply(resources)
	for _, n := range notes {
		c.rt.debugf("%s", n)
	}
	if err != nil {
		return err
	}
	// Also without rules in the spec: no rule means no device but the default ones.
	return c.group.SetDevices(resources.Devices)
}

// outOfMemory says so when the container's processes were killed for want of memory.
func (c *creation) outOfMemory() string {
	if n, err := c.group.OOMKills(); err == nil && n > 0 {
		return ": its memory limit is too low (out of memory)"
	}
	return ""
}
