package main

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// socket uses socketcall(2), behind which filters do not see the family.
func socket(family, kind int) (int, unix.Errno) {
	args := [3]uintptr{uintptr(family), uintptr(kind), 0}
	const sysSocket = 1
	fd, _, errno := unix.RawSyscall(unix.SYS_SOCKETCALL, sysSocket, uintptr(unsafe.Pointer(&args)), 0)
	return int(fd), errno
}
