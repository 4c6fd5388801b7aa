package seccomp

import (
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// The instructions that filters are made of: linux/bpf_common.h.
const (
	opLoad = unix.BPF_LD | unix.BPF_W | unix.BPF_ABS
	opAnd  = unix.BPF_ALU | unix.BPF_AND | unix.BPF_K
	opJump = unix.BPF_JMP | unix.BPF_JA
	opEQ   = unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K
	opGT   = unix.BPF_JMP | unix.BPF_JGT | unix.BPF_K
	opGE   = unix.BPF_JMP | unix.BPF_JGE | unix.BPF_K
	opRet  = unix.BPF_RET | unix.BPF_K
)

// maxBranch is the longest way of a conditional jump, whose offsets are bytes.
const maxBranch = 255

func load(offset uint32) unix.SockFilter { return unix.SockFilter{Code: opLoad, K: offset} }

func answer(value uint32) unix.SockFilter { return unix.SockFilter{Code: opRet, K: value} }

// branch jumps over yes instructions if the comparison holds, over no if not.
func branch(op uint16, k uint32, yes, no int) unix.SockFilter {
	return unix.SockFilter{Code: op, Jt: uint8(yes), Jf: uint8(no), K: k}
}

func jump(over int) unix.SockFilter { return unix.SockFilter{Code: opJump, K: uint32(over)} }

// match returns the code of a rule: it ends the program if all conditions hold,
// and runs on behind itself if not. It is built from its end, because each
// condition jumps over all that follows it. Six conditions of at most six
// instructions keep those jumps below maxBranch.
func match(r rule, wide bool) []unix.SockFilter {
	code := []unix.SockFilter{answer(r.action)}
	for i := len(r.conditions) - 1; i >= 0; i-- {
		code = append(r.conditions[i].code(wide, len(code)), code...)
	}
	return code
}

// code returns the test of one condition: it runs on behind itself if the
// condition holds, and jumps over rest further instructions if not. BPF words
// have 32 bits, so the 64 bits of wide arguments are compared in halves, the
// upper one first.
func (c condition) code(wide bool, rest int) []unix.SockFilter {
	low := offsetArgs + 8*uint32(c.index) // both architectures are little-endian
	if !wide {
		return c.half(low, uint32(c.mask), uint32(c.value), rest)
	}
	upper, lower := uint32(c.value>>32), uint32(c.value)
	test := c.half(low, uint32(c.mask), lower, rest)
	n := len(test)
	switch c.op {
	case specs.OpEqualTo:
		return append([]unix.SockFilter{load(low + 4), branch(opEQ, upper, 0, n+rest)}, test...)
	case specs.OpMaskedEqual:
		return append([]unix.SockFilter{
			load(low + 4),
			{Code: opAnd, K: uint32(c.mask >> 32)},
			branch(opEQ, upper, 0, n+rest),
		}, test...)
	case specs.OpNotEqual:
		return append([]unix.SockFilter{load(low + 4), branch(opEQ, upper, 0, n)}, test...)
	case specs.OpGreaterThan, specs.OpGreaterEqual:
		return append([]unix.SockFilter{
			load(low + 4),
			branch(opGT, upper, n+1, 0),
			branch(opEQ, upper, 0, n+rest),
		}, test...)
	default: // OpLessThan, OpLessEqual
		return append([]unix.SockFilter{
			load(low + 4),
			branch(opGT, upper, n+1+rest, 0),
			branch(opEQ, upper, 0, n),
		}, test...)
	}
}

// half compares the 32 bits at offset.
func (c condition) half(offset, mask, value uint32, rest int) []unix.SockFilter {
	switch c.op {
	case specs.OpEqualTo:
		return []unix.SockFilter{load(offset), branch(opEQ, value, 0, rest)}
	case specs.OpNotEqual:
		return []unix.SockFilter{load(offset), branch(opEQ, value, rest, 0)}
	case specs.OpMaskedEqual:
		return []unix.SockFilter{load(offset), {Code: opAnd, K: mask}, branch(opEQ, value, 0, rest)}
	case specs.OpGreaterThan:
		return []unix.SockFilter{load(offset), branch(opGT, value, 0, rest)}
	case specs.OpGreaterEqual:
		return []unix.SockFilter{load(offset), branch(opGE, value, 0, rest)}
	case specs.OpLessThan:
		return []unix.SockFilter{load(offset), branch(opGE, value, rest, 0)}
	default: // OpLessEqual; newCondition lets no other through
		return []unix.SockFilter{load(offset), branch(opGT, value, rest, 0)}
	}
}
