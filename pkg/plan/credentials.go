package plan

import (
	"encoding/binary"
	"fmt"

	"golang.org/x/sys/unix"

	"box/pkg/label"
	"box/pkg/launch"
)

// This file has the steps that change who the program is: its confinement by security
// modules, its session keyring, its bounding set, its ids, its capabilities. But for the
// first, their order is becomeUser's.

// confine adds the very first steps of a program: see package label.
func (b *Assembly) confine(p *Process) {
	from := b.Plan.Len()
	p.keys = label.Add(b.Plan, p.wish, p.modules)
	for i, step := range b.Plan.Steps()[from:] {
		b.words[from+i] = func(e unix.Errno) string { return label.Failure(step.Name, e) }
	}
}

// keyPermissions is what a session keyring has when it is made (KEY_POS_ALL, and for its
// user view, read and link: security/keys/process_keys.c), and search for its user.
const keyPermissions = 0x3f1b0000

// joinKeyring adds the steps by which the program leaves the caller's session keyring.
// The container's first process makes one with the container's name; the others join it
// by that name, which needs the right to search it.
func (b *Assembly) joinKeyring(p *Process) {
	if p.Keyring == "" {
		return
	}
	label.LabelKeys(b.Plan, p.keys, p.wish.SELinux)
	key, missing := b.Plan.Slot("keyring"), b.Plan.Label()
	b.add(launch.Step{
		Name: "join session keyring " + p.Keyring, Call: launch.Keyctl, Into: key,
		Args: launch.Args{launch.Int(unix.KEYCTL_JOIN_SESSION_KEYRING), launch.Text(p.Keyring)},
		Why:  "the caller's keys are none of the container's business",
		// Kernels without keys have none to hide.
		Allow: []launch.Allow{{Errno: unix.ENOSYS, To: missing}},
	})
	if p.first {
		b.add(launch.Step{
			Name: "let others join session keyring " + p.Keyring, Call: launch.Keyctl,
			Args: launch.Args{launch.Int(unix.KEYCTL_SETPERM), key, launch.Int(keyPermissions)},
			Why:  "processes that are executed in the container later find it by its name",
		})
	}
	b.Plan.Place(missing)
	label.LabelKeys(b.Plan, p.keys, "")
}

// defaultUmask is runc's, when the spec says nothing.
const defaultUmask = 0o022

func (b *Assembly) dropBounding(p *Process) {
	for n := range p.lastCap + 1 {
		if p.caps.bounding&(1<<n) != 0 {
			continue
		}
		b.add(launch.Step{
			Name: "drop " + capabilityName(n) + " from the bounding set", Call: launch.Prctl,
			Args: launch.Args{launch.Int(unix.PR_CAPBSET_DROP), launch.Int(n)},
			Why:  "while CAP_SETPCAP is still held; no execve can bring it back",
		})
	}
}

func (b *Assembly) setIDs(p *Process) {
	u := &p.spec.User
	b.add(launch.Step{
		Name: "keep capabilities", Call: launch.Prctl,
		Args: launch.Args{launch.Int(unix.PR_SET_KEEPCAPS), launch.Int(1)},
		Why:  "over the change of ids; what remains of them is decided below, and execve clears the flag",
	})
	b.setGroups(p)
	b.add(
		launch.Step{
			Name: fmt.Sprintf("become group %d", u.GID), Call: launch.Setresgid,
			Args: launch.Args{launch.Int(u.GID), launch.Int(u.GID), launch.Int(u.GID)},
			Why:  "before the user, who may not change groups",
		},
		launch.Step{
			Name: fmt.Sprintf("become user %d", u.UID), Call: launch.Setresuid,
			Args: launch.Args{launch.Int(u.UID), launch.Int(u.UID), launch.Int(u.UID)},
			Why:  "real, effective and saved: there is no way back",
		},
	)
}

func (b *Assembly) setGroups(p *Process) {
	gids := p.spec.User.AdditionalGids
	list := make([]byte, 0, 4*len(gids))
	for _, g := range gids {
		list = binary.NativeEndian.AppendUint32(list, g)
	}
	step := launch.Step{
		Name: "set supplementary groups", Call: launch.Setgroups,
		Args: launch.Args{launch.Int(len(gids)), launch.Bytes(list, func() string { return fmt.Sprint(gids) })},
		Why:  "the spec's list and no other: one left over from the caller, or one missing, both open doors (CVE-2023-25173)",
	}
	if (p.userns || p.confined) && len(gids) == 0 {
		// A user namespace made without privileges may not call setgroups at all;
		// then there are none to drop that would count.
		step.Allow = []launch.Allow{{Errno: unix.EPERM}}
	}
	b.add(step)
}

// linuxCapabilityVersion3 says that the sets have 64 bits (capget(2)).
const linuxCapabilityVersion3 = 0x20080522

// loader is what has to be kept to load the filter: without no_new_privs the kernel
// wants CAP_SYS_ADMIN for it (seccomp(2)).
func (p *Process) loader() uint64 {
	if len(p.Filter) == 0 || p.spec.NoNewPrivileges {
		return 0
	}
	return 1 << unix.CAP_SYS_ADMIN & p.held
}

// setCapabilities adds the step that sets permitted, effective and inheritable
// capabilities, and keeps others a little longer.
func (b *Assembly) setCapabilities(p *Process, kept uint64) {
	c := p.caps // all empty when the spec has none: that means none, as with runc
	c.effective |= kept
	c.permitted |= kept
	header := make([]byte, 8)
	binary.NativeEndian.PutUint32(header, linuxCapabilityVersion3)
	sets := make([]byte, 0, 24)
	for _, shift := range []int{0, 32} {
		for _, set := range []uint64{c.effective, c.permitted, c.inheritable} {
			sets = binary.NativeEndian.AppendUint32(sets, uint32(set>>shift))
		}
	}
	b.add(launch.Step{
		Name: "set capabilities", Call: launch.Capset,
		Args: launch.Args{
			launch.Bytes(header, func() string { return "{version 3, self}" }),
			launch.Bytes(sets, func() string {
				return fmt.Sprintf("{effective=%#x, permitted=%#x, inheritable=%#x}", c.effective, c.permitted, c.inheritable)
			}),
		},
		Why: "after the change of ids, which clears the effective set",
	})
}

func (b *Assembly) raiseAmbient(p *Process) {
	b.add(launch.Step{
		Name: "clear ambient capabilities", Call: launch.Prctl,
		Args: launch.Args{launch.Int(unix.PR_CAP_AMBIENT), launch.Int(unix.PR_CAP_AMBIENT_CLEAR_ALL)},
		Why:  "only those that the spec names are raised",
	})
	for n := range p.lastCap + 1 {
		if p.caps.ambient&(1<<n) != 0 {
			b.add(launch.Step{
				Name: "can't raise ambient capability " + capabilityName(n), Call: launch.Prctl,
				Args: launch.Args{launch.Int(unix.PR_CAP_AMBIENT), launch.Int(unix.PR_CAP_AMBIENT_RAISE), launch.Int(n)},
				Why:  "the command's user is not root and keeps it over execve",
			})
		}
	}
}

func (b *Assembly) dieWithParent(sig unix.Signal) {
	b.add(launch.Step{
		Name: "ask for the parent-death signal", Call: launch.Prctl,
		Args: launch.Args{launch.Int(unix.PR_SET_PDEATHSIG), launch.Int(int(sig))},
		Why:  "nobody would wait for the command when box-runtime is killed; after the ids, whose change clears it",
	})
}

func (b *Assembly) umask(p *Process) {
	mask := uint32(defaultUmask)
	if p.spec.User.Umask != nil {
		mask = *p.spec.User.Umask
	}
	b.add(launch.Step{
		Name: "set the umask", Call: launch.Umask, Args: launch.Args{launch.Int(mask)},
		Why: "after the last file was made",
	})
}
