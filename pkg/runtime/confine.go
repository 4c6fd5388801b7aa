package runtime

import (
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"box/pkg/label"
	"box/pkg/launch"
)

// This file has the steps by which the program is confined by security modules, and gets
// a session keyring of its own.

// lookFor adds to the facts what a wish for confinement depends on; without one, the
// look is saved. mounts is the label of mounts.
func (f *facts) lookFor(p *specs.Process, mounts string) {
	if p.ApparmorProfile+p.SelinuxLabel+mounts != "" {
		f.modules = label.Look()
	}
}

// confine adds the very first steps of a program: see package label.
func (b *assembly) confine(p *process) {
	from := b.plan.Len()
	p.keys = label.Add(b.plan, p.wish, p.modules)
	for i, step := range b.plan.Steps()[from:] {
		b.words[from+i] = func(e unix.Errno) string { return label.Failure(step.Name, e) }
	}
}

// keyPermissions is what a session keyring has when it is made (KEY_POS_ALL, and for its
// user view, read and link: security/keys/process_keys.c), and search for its user.
const keyPermissions = 0x3f1b0000

// joinKeyring adds the steps by which the program leaves the caller's session keyring.
// The container's first process makes one with the container's name; the others join it
// by that name, which needs the right to search it.
func (b *assembly) joinKeyring(p *process) {
	if p.keyring == "" {
		return
	}
	label.LabelKeys(b.plan, p.keys, p.wish.SELinux)
	key, missing := b.plan.Slot("keyring"), b.plan.Label()
	b.add(launch.Step{
		Name: "join session keyring " + p.keyring, Call: launch.Keyctl, Into: key,
		Args: []launch.Arg{launch.Int(unix.KEYCTL_JOIN_SESSION_KEYRING), launch.Text(p.keyring)},
		Why:  "the caller's keys are none of the container's business",
		// Kernels without keys have none to hide.
		Allow: []launch.Allow{{Errno: unix.ENOSYS, To: missing}},
	})
	if p.first {
		b.add(launch.Step{
			Name: "let others join session keyring " + p.keyring, Call: launch.Keyctl,
			Args: []launch.Arg{launch.Int(unix.KEYCTL_SETPERM), key, launch.Int(keyPermissions)},
			Why:  "processes that are executed in the container later find it by its name",
		})
	}
	b.plan.Place(missing)
	label.LabelKeys(b.plan, p.keys, "")
}
