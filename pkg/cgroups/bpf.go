package cgroups

import "slices"

// The registers of a device program. The context, its argument, is struct
// bpf_cgroup_dev_ctx of linux/bpf.h: access and type in one word, major, minor.
const (
	regResult = iota
	regContext
	regType
	regAccess // what was asked for and is not yet allowed
	regMajor
	regMinor
	regScratch
)

// Opcodes of eBPF, in 32 bits throughout (linux/bpf.h, linux/bpf_common.h).
const (
	opLoadWord = 0x61 // BPF_LDX | BPF_MEM | BPF_W
	opMove     = 0xbc // BPF_ALU | BPF_MOV | BPF_X
	opMoveImm  = 0xb4 // BPF_ALU | BPF_MOV | BPF_K
	opAndImm   = 0x54 // BPF_ALU | BPF_AND | BPF_K
	opShiftImm = 0x74 // BPF_ALU | BPF_RSH | BPF_K
	opJumpEQ   = 0x16 // BPF_JMP32 | BPF_JEQ | BPF_K
	opJumpNE   = 0x56 // BPF_JMP32 | BPF_JNE | BPF_K
	opExit     = 0x95 // BPF_JMP | BPF_EXIT
)

// instruction packs one instruction as struct bpf_insn lies in memory on
// little-endian machines.
func instruction(op, dst, src int, offset int16, imm int32) uint64 {
	return uint64(op) | uint64(dst)<<8 | uint64(src)<<12 | uint64(uint16(offset))<<16 | uint64(uint32(imm))<<32
}

// deviceProgram compiles rules. It asks them from the last to the first, because
// the last one that matches decides. An access may be for several things at once
// (reading and writing): a rule that allows takes its part away from what is
// still asked for, and the access is granted when nothing is left; a rule that
// denies any part of what is left denies it all.
func deviceProgram(rules []deviceRule) []uint64 {
	code := []uint64{
		instruction(opLoadWord, regType, regContext, 0, 0),
		instruction(opMove, regAccess, regType, 0, 0),
		instruction(opAndImm, regType, 0, 0, 0xffff),
		instruction(opShiftImm, regAccess, 0, 0, 16),
		instruction(opLoadWord, regMajor, regContext, 4, 0),
		instruction(opLoadWord, regMinor, regContext, 8, 0),
	}
	for _, r := range slices.Backward(rules) {
		code = append(code, ruleCode(r)...)
		if r.unlimited() {
			return code // what follows cannot be reached, which the kernel refuses
		}
	}
	return append(code, verdict(false)...)
}

// verdict ends the program.
func verdict(allow bool) []uint64 {
	result := int32(0)
	if allow {
		result = 1
	}
	return []uint64{instruction(opMoveImm, regResult, 0, 0, result), instruction(opExit, 0, 0, 0, 0)}
}

// ruleCode is the code of one rule. It runs on behind itself if the rule does not
// decide.
func ruleCode(r deviceRule) []uint64 {
	code := decision(r)
	for _, test := range []struct {
		reg    int
		value  int64
		always bool
	}{
		{regMinor, r.minor, r.minor == anyNumber},
		{regMajor, r.major, r.major == anyNumber},
		{regType, int64(r.kind), r.kind == anyType},
	} {
		if !test.always {
			skip := instruction(opJumpNE, test.reg, 0, int16(len(code)), int32(uint32(test.value)))
			code = append([]uint64{skip}, code...)
		}
	}
	return code
}

// decision is what a rule does with an access to a device it is about.
func decision(r deviceRule) []uint64 {
	end := verdict(r.allow)
	switch {
	case r.access == accessAll:
		return end
	case r.allow:
		return append([]uint64{
			instruction(opAndImm, regAccess, 0, 0, ^r.access),
			instruction(opJumpNE, regAccess, 0, int16(len(end)), 0),
		}, end...)
	default:
		return append([]uint64{
			instruction(opMove, regScratch, regAccess, 0, 0),
			instruction(opAndImm, regScratch, 0, 0, r.access),
			instruction(opJumpEQ, regScratch, 0, int16(len(end)), 0),
		}, end...)
	}
}
