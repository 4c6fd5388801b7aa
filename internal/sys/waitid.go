package sys

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// siginfoChild is siginfo_t as waitid(2) fills it on 64-bit Linux: x/sys leaves the
// union opaque.
type siginfoChild struct {
	Signo, Errno, Code int32
	_                  int32
	Pid                int32
	Uid                uint32
	Status             int32
	_                  [128 - 7*4]byte
}

// The values of si_code for a dead child, from include/uapi/asm-generic/siginfo.h.
const (
	cldExited = 1
	cldDumped = 3
)

// waitStatus builds the status word that wait4(2) would have given.
func (s *siginfoChild) waitStatus() unix.WaitStatus {
	switch s.Code {
	case cldExited:
		return unix.WaitStatus(s.Status&0xff) << 8
	case cldDumped:
		return unix.WaitStatus(s.Status&0x7f | 0x80)
	default:
		return unix.WaitStatus(s.Status & 0x7f)
	}
}

func waitid(idType, id int, info *siginfoChild, options int) error {
	_, _, errno := unix.Syscall6(unix.SYS_WAITID, uintptr(idType), uintptr(id), uintptr(unsafe.Pointer(info)), uintptr(options), 0, 0)
	if errno != 0 {
		return errno
	}
	return nil
}
