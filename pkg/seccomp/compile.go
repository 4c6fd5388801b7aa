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
	code := make([]unix.SockFilter, 0, 1024)
	code = append(code, load(offsetArch))
	for i, a := range p.archs {
		if slices.ContainsFunc(p.archs[:i], func(b *arch) bool { return b.audit == a.audit }) {
			continue // x32, which is part of the section of amd64 or the other way round
		}
		start := len(code)
		code = append(code, answer(0), load(offsetNumber))
		code = tree(code, p.segments(a.audit))
		code = setBranch(code, start, opEQ, a.audit, false)
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

// segments are ranges in ascending order, the first of which begins at 0.
type segments []segment

// add appends a range. One with the same answer as its neighbour continues it.
func (s *segments) add(first uint32, action uint32) {
	if n := len(*s); n > 0 && (*s)[n-1].code == nil && (*s)[n-1].action == action {
		return
	}
	*s = append(*s, segment{first: first, action: action})
}

// segments returns the answers for all numbers of the architectures that share
// one audit value.
func (p *policy) segments(audit uint32) segments {
	list := make(segments, 0, 256)
	var has [archCount]bool
	for _, a := range p.archs {
		has[a.column] = has[a.column] || a.audit == audit
	}
	if has[x32] && !has[amd64] {
		list.add(0, unix.SECCOMP_RET_KILL_THREAD)
	}
	for i := range archs {
		if has[i] {
			p.addArch(&list, &archs[i])
		}
	}
	if has[amd64] && !has[x32] {
		p.closeX32(&list)
	}
	return list
}

// closeX32 answers calls of x32 where the profile does not list it. They carry
// amd64's audit value: a default that allows must not let them past the rules.
func (p *policy) closeX32(list *segments) {
	action := p.unknown
	if action == p.fallback {
		action = unix.SECCOMP_RET_KILL_THREAD
	}
	list.add(x32Bit, action)
	// -1 is no call of x32 but what a tracer writes to skip a call.
	list.add(1<<32-1, p.unknown)
}

// addArch adds the segments of one architecture: its calls, and in the gaps
// between them the default, or beyond the newest call that the profile names what
// newer ones get.
func (p *policy) addArch(list *segments, a *arch) {
	newest, named := p.newest(a)
	next := uint32(0)
	if a.column == x32 {
		next = x32Bit
	}
	if !named {
		newest = 1<<32 - 1 // nothing tells how old the profile is; private calls may have rules all the same
	}
	fill := func(end uint32) {
		if next < end && next <= newest {
			list.add(next, p.fallback)
		}
		if next < end && newest < end {
			list.add(max(next, newest+1), p.unknown)
		}
	}
	for place, c := range p.places(a) {
		if c == nil {
			continue
		}
		nr := a.numberOf(place)
		fill(nr)
		if c.decided {
			list.add(nr, c.action)
		} else {
			*list = append(*list, segment{first: nr, code: p.conditional(c, a)})
		}
		next = nr + 1
	}
	fill(1<<32 - 1)
}

// newest returns the largest number among the calls that the profile names. The
// private calls of ARM do not count: they say nothing about age.
func (p *policy) newest(a *arch) (newest uint32, named bool) {
	for row := range p.calls {
		nr := syscalls[row].nr[a.column]
		if nr >= 0 && nr < privateMark && p.calls[row].named {
			newest, named = max(newest, a.numberOf(int(nr))), true
		}
	}
	return newest, named
}

// placeCount is more than the largest number of a call in the table, and
// privatePlace where the private calls of ARM follow.
const (
	privatePlace = 640
	placeCount   = privatePlace + 8
)

// places returns the calls that have rules, in the order of their numbers: a place
// for each number is cheaper than sorting. Of two names for one number the first
// of the table counts.
func (p *policy) places(a *arch) *[placeCount]*call {
	var places [placeCount]*call
	for row := range p.calls {
		nr := int(syscalls[row].nr[a.column])
		if nr < 0 || !p.calls[row].ruled() {
			continue
		}
		if nr >= privateMark {
			nr += privatePlace - privateMark
		}
		if places[nr] == nil {
			places[nr] = &p.calls[row]
		}
	}
	return &places
}

// numberOf turns a place into the number that a program puts into the register.
func (a *arch) numberOf(place int) uint32 {
	switch {
	case place >= privatePlace:
		return privateBase + uint32(place-privatePlace)
	case a.column == x32:
		return x32Bit + uint32(place)
	}
	return uint32(place)
}

// conditional is the code for a call whose answer depends on its arguments.
func (p *policy) conditional(c *call, a *arch) []unix.SockFilter {
	var code []unix.SockFilter
	for _, r := range c.rules {
		code = append(code, match(r, a.wide)...)
	}
	return append(code, answer(p.fallback))
}

// tree appends a binary search for the segment of the number in A. Each part only
// jumps forward within itself, so that it does not matter where it stands.
func tree(code []unix.SockFilter, list []segment) []unix.SockFilter {
	if len(list) == 1 {
		if list[0].code != nil {
			return append(code, list[0].code...)
		}
		return append(code, answer(list[0].action))
	}
	half := len(list) / 2
	start := len(code)
	code = append(code, answer(0)) // the place of the branch
	code = tree(code, list[:half])
	code = setBranch(code, start, opGE, list[half].first, true)
	return tree(code, list[half:])
}

// setBranch replaces the instruction at start by one that jumps over all that
// follows it if the comparison of A with k has the given outcome. If that is too
// far for a conditional jump, it becomes two instructions.
func setBranch(code []unix.SockFilter, start int, op uint16, k uint32, outcome bool) []unix.SockFilter {
	n := len(code) - start - 1
	switch {
	case n <= maxBranch && outcome:
		code[start] = branch(op, k, n, 0)
	case n <= maxBranch:
		code[start] = branch(op, k, 0, n)
	case outcome:
		code[start] = branch(op, k, 0, 1)
		code = slices.Insert(code, start+1, jump(n))
	default:
		code[start] = branch(op, k, 1, 0)
		code = slices.Insert(code, start+1, jump(n))
	}
	return code
}
