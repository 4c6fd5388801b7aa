package plan

import (
	"encoding/binary"
	"fmt"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"box/pkg/launch"
	"box/pkg/seccomp"
)

// This file has the steps that load the seccomp filter.

// CompileFilter compiles the seccomp profile of a spec, and returns the filter with the
// flags of seccomp(2) that load it; no filter without a profile.
func CompileFilter(p *specs.LinuxSeccomp) ([]unix.SockFilter, uint, error) {
	if p == nil {
		return nil, 0, nil
	}
	filter, err := seccomp.Compile(p)
	if err != nil {
		return nil, 0, err
	}
	flags, err := seccomp.Flags(p)
	return filter, uint(flags), err
}

// entersFiltered reports whether the filter, should there be one, lets the steps of
// enterPid through. Only then can they come after the last capability is gone: the one
// that loads the filter.
func (p *Process) entersFiltered() bool {
	allows := func(name string, args ...uint64) bool { return seccomp.Allows(p.Filter, name, args...) }
	if len(p.Filter) == 0 {
		return true
	}
	if p.spec.Terminal && !allows("ioctl", 0, unix.TIOCSCTTY) {
		return false
	}
	return allows("clone", unix.CLONE_PARENT|uint64(unix.SIGCHLD)) && allows("rt_sigprocmask", 2) &&
		allows("write") && allows("exit_group") && allows("setsid") && allows("prlimit64", 0, unix.RLIMIT_NPROC)
}

func (b *Assembly) loadFilter(p *Process, why string) {
	if len(p.Filter) == 0 {
		return
	}
	n := len(p.Filter)
	filter := launch.Bytes(seccomp.Bytes(p.Filter), func() string { return fmt.Sprintf("[%d instructions]", n) })
	header := make([]byte, 16) // struct sock_fprog
	binary.NativeEndian.PutUint16(header, uint16(n))
	program := launch.Bytes(header, func() string { return fmt.Sprintf("{len=%d, filter=%v}", n, filter) })
	program.Point(8, filter)
	load := launch.Step{
		Name: "load the seccomp filter", Call: launch.Seccomp,
		Args: launch.Args{launch.Int(unix.SECCOMP_SET_MODE_FILTER), launch.Int(p.Flags), program},
		Why:  why,
	}
	if !Listens(p.Flags) {
		b.add(load)
		return
	}
	load.Into = b.Plan.Slot("listener")
	b.add(load)
	b.tellListener(p, load.Into)
}

// MarkListener is the report that carries the listener's number in the program.
const MarkListener = "load the seccomp filter and tell its listener"

// Listens tells whether loading the filter makes a listener.
func Listens(flags uint) bool { return flags&unix.SECCOMP_FILTER_FLAG_NEW_LISTENER != 0 }

// tellListener adds the program's half, after the step that has loaded the filter.
func (b *Assembly) tellListener(p *Process, listener launch.Slot) {
	b.Plan.MarkValue(MarkListener, "the parent takes it to the agent; write(2) is never left to the agent", listener)
	b.Plan.Await(launch.Int(p.layout.Permit), "wait for the seccomp agent to be told", "the next call may be one of those it answers")
	b.add(launch.Step{
		Name: "close the listener", Call: launch.Close, Args: launch.Args{listener},
		Why:   "calls must fail when the agent is gone; with ours open they would wait",
		Allow: []launch.Allow{{Errno: launch.AnyErrno}}, // as the agent likes
	})
}
