package seccomp

import (
	"slices"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"box/internal/errdefs"
)

// maxProgram is the kernel's BPF_MAXINSNS.
const maxProgram = 4096

// Compile turns a profile into a filter for processes of this program's
// architecture.
func Compile(p *specs.LinuxSeccomp) ([]unix.SockFilter, error) {
	pol, err := newPolicy(p, native())
	if err != nil {
		return nil, err
	}
	code := pol.program()
	if len(code) > maxProgram {
		return nil, errdefs.New(errdefs.ErrInvalid, "linux.seccomp: compiled to %d instructions, the kernel takes %d", len(code), maxProgram)
	}
	return code, nil
}

// Offsets in struct seccomp_data, linux/seccomp.h.
const (
	offsetNumber = 0
	offsetArch   = 4
	offsetArgs   = 16
)

// program is the whole filter: a section for each value of seccomp_data.arch.
func (p *policy) program() []unix.SockFilter {
	code := []unix.SockFilter{load(offsetArch)}
	for i, a := range p.archs {
		if slices.ContainsFunc(p.archs[:i], func(b *arch) bool { return b.audit == a.audit }) {
			continue // x32, which is part of the section of amd64 or the other way round
		}
		section := append([]unix.SockFilter{load(offsetNumber)}, tree(p.segments(a.audit))...)
		code = append(code, skipUnlessEqual(a.audit, len(section))...)
		code = append(code, section...)
	}
	return append(code, answer(unix.SECCOMP_RET_KILL_THREAD))
}

// segment is a range of system call numbers with one answer; it ends where the
// next one begins.
type segment struct {
	first  uint32
	code   []unix.SockFilter
	action uint32 // the answer if code is nil
}

// segments returns the answers for all numbers of the architectures that share
// one audit value.
func (p *policy) segments(audit uint32) []segment {
	var list []segment
	var has [archCount]bool
	for _, a := range p.archs {
		has[a.column] = has[a.column] || a.audit == audit
	}
	for i := range archs {
		if has[i] {
			list = p.appendArch(list, &archs[i])
		}
	}
	if has[amd64] && !has[x32] {
		list = append(list, p.closeX32()...)
	}
	if has[x32] && !has[amd64] {
		list = append([]segment{{first: 0, action: unix.SECCOMP_RET_KILL_THREAD}}, list...)
	}
	return merge(list)
}

// closeX32 answers calls of x32 where the profile does not list it. They carry
// amd64's audit value: a default that allows must not let them past the rules.
func (p *policy) closeX32() []segment {
	action := p.unknown
	if action == p.fallback {
		action = unix.SECCOMP_RET_KILL_THREAD
	}
	// -1 is no call of x32 but what a tracer writes to skip a call.
	return []segment{{first: x32Bit, action: action}, {first: 1<<32 - 1, action: p.unknown}}
}

// appendArch adds the segments of one architecture: its calls, and in the gaps
// between them the default, or beyond the newest call that the profile names what
// newer ones get.
func (p *policy) appendArch(list []segment, a *arch) []segment {
	numbers, calls := p.numbered(a)
	newest, named := p.newest(a)
	next := uint32(0)
	if a.column == x32 {
		next = x32Bit
	}
	if !named {
		return append(list, segment{first: next, action: p.fallback})
	}
	for _, nr := range append(numbers, 1<<32-1) {
		if next < nr && next <= newest {
			list = append(list, segment{first: next, action: p.fallback})
		}
		if next < nr && newest < nr {
			list = append(list, segment{first: max(next, newest+1), action: p.unknown})
		}
		if c := calls[nr]; c != nil {
			list = append(list, p.callSegment(nr, c, a))
			next = nr + 1
		}
	}
	return list
}

// newest returns the largest number among the calls that the profile names. The
// private calls of ARM do not count: they say nothing about age.
func (p *policy) newest(a *arch) (newest uint32, named bool) {
	for row := range p.calls {
		nr, ok := a.number(row)
		if ok && p.calls[row].named && (nr < privateBase || nr >= x32Bit) {
			newest, named = max(newest, nr), true
		}
	}
	return newest, named
}

// numbered returns the calls that have rules, by number.
func (p *policy) numbered(a *arch) ([]uint32, map[uint32]*call) {
	numbers := make([]uint32, 0, len(syscalls))
	calls := make(map[uint32]*call, len(syscalls))
	for row := range p.calls {
		nr, ok := a.number(row)
		if !ok || !p.calls[row].ruled() || calls[nr] != nil {
			continue
		}
		numbers = append(numbers, nr)
		calls[nr] = &p.calls[row]
	}
	slices.Sort(numbers)
	return numbers, calls
}

// callSegment is the answer for one call.
func (p *policy) callSegment(nr uint32, c *call, a *arch) segment {
	if c.decided {
		return segment{first: nr, action: c.action}
	}
	var code []unix.SockFilter
	for _, r := range c.rules {
		code = append(code, match(r, a.wide)...)
	}
	return segment{first: nr, code: append(code, answer(p.fallback))}
}

// merge joins neighbours with the same answer.
func merge(list []segment) []segment {
	return slices.CompactFunc(list, func(a, b segment) bool {
		return a.code == nil && b.code == nil && a.action == b.action
	})
}

// tree returns a binary search for the segment of the number in A. Each part only
// jumps forward within itself, so that parts can be put together by length.
func tree(list []segment) []unix.SockFilter {
	if len(list) == 1 {
		if list[0].code != nil {
			return list[0].code
		}
		return []unix.SockFilter{answer(list[0].action)}
	}
	half := len(list) / 2
	low, high := tree(list[:half]), tree(list[half:])
	code := append(skipIfAtLeast(list[half].first, len(low)), low...)
	return append(code, high...)
}
