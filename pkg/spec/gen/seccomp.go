package gen

import (
	"fmt"
	"slices"

	"github.com/moby/profiles/seccomp"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// seccompProfile returns Docker's default filter for this kernel, this
// architecture and a container with the given bounding capabilities.
//
// Two holes of the published profile are closed. Both concern address families
// that expose kernel code to the container: AF_ALG (CVE-2026-31431) and
// AF_VSOCK, which reaches the hypervisor.
//
//   - The profile allows socket(2) for families "greater than AF_VSOCK". Filters
//     compare 64 bits, the kernel keeps 32: family 1<<32 + 38 passes the filter
//     and is AF_ALG. See socketRules.
//   - 32-bit x86 programs may use socketcall(2), which passes the family in
//     memory, where no filter can look. The call is allowed, except for making
//     sockets, unless socketcall is set.
func seccompProfile(bounding []string, socketcall bool) (*specs.LinuxSeccomp, error) {
	subject := &specs.Spec{Process: &specs.Process{Capabilities: &specs.LinuxCapabilities{Bounding: bounding}}}
	p, err := seccomp.GetDefaultProfile(subject)
	if err != nil {
		return nil, fmt.Errorf("generate seccomp profile: %w", err)
	}
	p.Syscalls = append(without(p.Syscalls, "socket"), socketRules()...)
	if !socketcall {
		p.Syscalls = append(without(p.Syscalls, "socketcall"), socketcallRule())
	}
	return p, nil
}

// without removes every mention of one system call from a list of rules.
func without(rules []specs.LinuxSyscall, name string) []specs.LinuxSyscall {
	var kept []specs.LinuxSyscall
	for _, r := range rules {
		r.Names = slices.DeleteFunc(slices.Clone(r.Names), func(n string) bool { return n == name })
		if len(r.Names) > 0 {
			kept = append(kept, r)
		}
	}
	return kept
}

// socketRules allow every address family of Linux 6.18 but AF_ALG (38) and
// AF_VSOCK (40). Those above are named one by one: a comparison for "greater"
// would let numbers pass that only look large. A mask over the upper half would
// say the same in fewer rules, but crun reads no number above 2^53.
func socketRules() []specs.LinuxSyscall {
	rules := []specs.LinuxSyscall{socketRule(specs.OpLessThan, unix.AF_ALG)}
	for family := unix.AF_ALG + 1; family < unix.AF_MAX; family++ {
		if family != unix.AF_VSOCK {
			rules = append(rules, socketRule(specs.OpEqualTo, family))
		}
	}
	return rules
}

// socketRule allows socket(2) where the address family compares as given.
func socketRule(op specs.LinuxSeccompOperator, family int) specs.LinuxSyscall {
	return specs.LinuxSyscall{
		Names:  []string{"socket"},
		Action: specs.ActAllow,
		Args:   []specs.LinuxSeccompArg{{Index: 0, Op: op, Value: uint64(family)}},
	}
}

// socketcallRule allows every sub-call of socketcall(2) but SYS_SOCKET, 1 in
// linux/net.h.
func socketcallRule() specs.LinuxSyscall {
	return specs.LinuxSyscall{
		Names:  []string{"socketcall"},
		Action: specs.ActAllow,
		Args:   []specs.LinuxSeccompArg{{Index: 0, Op: specs.OpNotEqual, Value: 1}},
	}
}
