package launch

import "encoding/binary"

// Where a program lies in memory. Code and data begin on file pages of their own, at
// addresses that agree with their file offsets modulo 64 KiB, the largest page size
// of the architectures served, so that the same file loads on every kernel.
const (
	codeAddr   = 0x400000
	dataOffset = 0x1000
	dataAddr   = 0x10000000 + dataOffset // known to interp/*.S
	pageSize   = 0x10000

	elfHeaderSize  = 64
	elfSegmentSize = 56
	elfSegments    = 3
	codeOffset     = elfHeaderSize + elfSegments*elfSegmentSize
)

// Constants of the ELF specification that have no better home.
const (
	elfTypeExec     = 2
	elfMachineAMD64 = 62
	elfMachineARM64 = 183
	elfLoad         = 1
	elfGNUStack     = 0x6474e551
	elfR            = 4
	elfW            = 2
	elfX            = 1
)

// putHeader makes a static executable of a file whose data is there from dataOffset on:
// headers and interpreter; one segment that is read and executed, one that is read and
// written, and a stack that is not executable.
func putHeader(file []byte, arch Arch) {
	code, machine := interpreter(arch), elfMachineAMD64
	if arch == "arm64" {
		machine = elfMachineARM64
	}
	size := len(file) - dataOffset
	b := file[:0:dataOffset]
	b = append(b, "\x7fELF\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00"...) // 64 bits, little-endian, System V
	b = half(b, elfTypeExec, machine)
	b = word(b, 1)
	b = long(b, codeAddr+codeOffset, elfHeaderSize, 0) // entry, segments, no sections
	b = word(b, 0)
	b = half(b, elfHeaderSize, elfSegmentSize, elfSegments, 0, 0, 0)
	b = segment(b, elfLoad, elfR|elfX, 0, codeAddr, codeOffset+len(code))
	b = segment(b, elfLoad, elfR|elfW, dataOffset, dataAddr, size)
	b = segment(b, elfGNUStack, elfR|elfW, 0, 0, 0)
	_ = append(b, code...) // which fits: TestInterpretersAreAssembledFromSource
}

// interpreter is the machine code that carries out the steps.
func interpreter(arch Arch) []byte {
	if arch == "arm64" {
		return interpARM64
	}
	return interpAMD64
}

func segment(b []byte, kind, flags, offset, addr, size int) []byte {
	b = word(b, kind, flags)
	return long(b, offset, addr, addr, size, size, pageSize)
}

func half(b []byte, values ...int) []byte {
	for _, v := range values {
		b = binary.LittleEndian.AppendUint16(b, uint16(v))
	}
	return b
}

func word(b []byte, values ...int) []byte {
	for _, v := range values {
		b = binary.LittleEndian.AppendUint32(b, uint32(v))
	}
	return b
}

func long(b []byte, values ...int) []byte {
	for _, v := range values {
		b = binary.LittleEndian.AppendUint64(b, uint64(v))
	}
	return b
}

// MayBegin reports whether the code of a process that begins at address (field startcode of
// proc_pid_stat(5)) may be that of a launch program. Others have it there, too, and who may
// not trace a process is told 0 or 1 of each.
func MayBegin(address uint64) bool { return address == codeAddr || address <= 1 }
