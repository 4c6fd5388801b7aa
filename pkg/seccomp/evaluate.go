package seccomp

import (
	"encoding/binary"

	"golang.org/x/sys/unix"
)

// Allows reports whether a compiled filter lets the native system call of that name
// through, unhindered and without asking anybody, if it is called with these arguments;
// those that are left out are 0. It is for planning: whether steps can come after the
// filter is loaded. A name that the table lacks, and a filter that Compile cannot have
// made, give false.
func Allows(filter []unix.SockFilter, name string, args ...uint64) bool {
	row, ok := findRow(name)
	if !ok || syscalls[row].nr[native().column] < 0 {
		return false
	}
	var data [64]byte // struct seccomp_data: nr, arch, instruction pointer, six arguments
	binary.NativeEndian.PutUint32(data[0:], uint32(syscalls[row].nr[native().column]))
	binary.NativeEndian.PutUint32(data[4:], native().audit)
	for i, a := range args {
		binary.NativeEndian.PutUint64(data[16+8*i:], a)
	}
	switch evaluate(filter, &data) & unix.SECCOMP_RET_ACTION_FULL {
	case unix.SECCOMP_RET_ALLOW, unix.SECCOMP_RET_LOG:
		return true
	}
	return false
}

// evaluate runs a filter as the kernel would: its answer for one system call. It knows
// the instructions that Compile uses; on any other the answer is to kill.
func evaluate(filter []unix.SockFilter, data *[64]byte) uint32 {
	acc := uint32(0)
	for pc := 0; pc < len(filter); pc++ {
		i := &filter[pc]
		holds := false
		switch i.Code {
		case opLoad:
			if i.K > uint32(len(data)-4) {
				return unix.SECCOMP_RET_KILL_PROCESS
			}
			acc = binary.NativeEndian.Uint32(data[i.K:])
			continue
		case opAnd:
			acc &= i.K
			continue
		case opJump:
			pc += int(i.K)
			continue
		case opRet:
			return i.K
		case opEQ:
			holds = acc == i.K
		case opGT:
			holds = acc > i.K
		case opGE:
			holds = acc >= i.K
		default:
			return unix.SECCOMP_RET_KILL_PROCESS
		}
		if holds {
			pc += int(i.Jt)
		} else {
			pc += int(i.Jf)
		}
	}
	return unix.SECCOMP_RET_KILL_PROCESS
}
