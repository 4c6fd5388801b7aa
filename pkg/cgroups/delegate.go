package cgroups

import (
	"os"
	"path/filepath"
	"strings"

	"box/pkg/cgroups/kernfs"
)

// delegated lists the files that a new owner of a group gets with it
// (cgroup-v2.rst, "Model of Delegation"), for kernels that do not list them
// themselves (before Linux 4.15).
const delegated = "cgroup.procs\ncgroup.subtree_control\ncgroup.threads\n"

// Delegate makes the group uid's in the unified hierarchy: uid, the host's number
// of a container's root, may then make groups below it and distribute what this one
// has. The limits of the group itself stay ours. cgroup v1 is not safe to delegate,
// and stays as it is.
func (c *Cgroup) Delegate(uid int) error {
	if c.none || c.root == "" {
		return nil
	}
	files, err := kernfs.Read("/sys/kernel/cgroup/delegate")
	if err != nil {
		files = delegated
	}
	if err := os.Chown(c.Dir(), uid, -1); err != nil {
		return err
	}
	for file := range strings.FieldsSeq(files) {
		// The list is of all that the kernel knows; a group has those of its controllers.
		if err := os.Chown(filepath.Join(c.Dir(), file), uid, -1); err != nil && !kernfs.Gone(err) {
			return err
		}
	}
	return nil
}
