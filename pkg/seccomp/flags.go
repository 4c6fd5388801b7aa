package seccomp

import (
	"slices"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"box/internal/errdefs"
)

// flagValues are the flags of seccomp(2) that a profile may name. TSYNC asks for
// nothing: it spreads a filter to the other threads of a process that has one, and
// would exclude a listener.
var flagValues = []struct {
	name  specs.LinuxSeccompFlag
	value uintptr
}{
	{specs.LinuxSeccompFlagLog, unix.SECCOMP_FILTER_FLAG_LOG},
	{specs.LinuxSeccompFlagSpecAllow, unix.SECCOMP_FILTER_FLAG_SPEC_ALLOW},
	{"SECCOMP_FILTER_FLAG_TSYNC", 0},
	{specs.LinuxSeccompFlagWaitKillableRecv, unix.SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV},
}

// Flags returns the flags for seccomp(SECCOMP_SET_MODE_FILTER). A profile that does
// not speak of flags gets SPEC_ALLOW, as with runc: without it, kernels before 5.16
// slow the whole container down by a mitigation of speculative store bypass. One with
// an empty list gets none. A profile that notifies an agent asks for a listener.
func Flags(p *specs.LinuxSeccomp) (uintptr, error) {
	var flags uintptr
	if p.Flags == nil {
		flags = unix.SECCOMP_FILTER_FLAG_SPEC_ALLOW
	}
	for i, name := range p.Flags {
		at := -1
		for n := range flagValues {
			if flagValues[n].name == name {
				at = n
			}
		}
		if at < 0 {
			return 0, errdefs.New(errdefs.ErrInvalid, "linux.seccomp.flags[%d]: unknown flag %q", i, name)
		}
		flags |= flagValues[at].value
	}
	if notifies(p) {
		return flags | unix.SECCOMP_FILTER_FLAG_NEW_LISTENER, nil
	}
	if flags&unix.SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV != 0 {
		return 0, errdefs.New(errdefs.ErrInvalid, "linux.seccomp.flags: %s is for profiles with %s", specs.LinuxSeccompFlagWaitKillableRecv, specs.ActNotify)
	}
	return flags, nil
}

// KnownFlags lists the flags that a profile may name, and Supported those that this
// kernel takes. The kernel looks at the flags before it looks for the filter, which is
// missing here (seccomp(2): EINVAL for the first, EFAULT for the second).
func KnownFlags() (known, supported []string) {
	for _, f := range flagValues {
		known = append(known, string(f.name))
		flags := f.value
		if flags == unix.SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV {
			flags |= unix.SECCOMP_FILTER_FLAG_NEW_LISTENER
		}
		_, _, errno := unix.RawSyscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, flags, 0)
		if errno == unix.EFAULT {
			supported = append(supported, string(f.name))
		}
	}
	return known, supported
}

// notifies tells whether the profile leaves the answer to some calls to an agent.
func notifies(p *specs.LinuxSeccomp) bool {
	return slices.ContainsFunc(p.Syscalls, func(s specs.LinuxSyscall) bool { return s.Action == specs.ActNotify })
}

// checkListener checks what notifications need. Without any, a listener is no matter
// (config-linux.md, seccomp). The words are runc's.
func checkListener(p *specs.LinuxSeccomp) error {
	if p.DefaultAction == specs.ActNotify {
		// Every call of the launch program would wait for an agent, even the one
		// that tells the parent where the listener is.
		return errdefs.New(errdefs.ErrInvalid, "linux.seccomp.defaultAction: %s cannot be used as default action", specs.ActNotify)
	}
	if p.ListenerMetadata != "" && p.ListenerPath == "" {
		return errdefs.New(errdefs.ErrInvalid, "linux.seccomp.listenerMetadata: set without listenerPath")
	}
	if !notifies(p) {
		return nil
	}
	if p.ListenerPath == "" {
		return errdefs.New(errdefs.ErrInvalid, "linux.seccomp.listenerPath: missing with %s: seccomp listenerPath is not set", specs.ActNotify)
	}
	for i, s := range p.Syscalls {
		// The program tells the parent the listener's number by a write under the
		// filter, before an agent can answer.
		if s.Action == specs.ActNotify && slices.Contains(s.Names, "write") {
			return errdefs.New(errdefs.ErrInvalid, "linux.seccomp.syscalls[%d]: %s cannot be used for the write syscall", i, specs.ActNotify)
		}
	}
	return nil
}
