package main

import (
	"fmt"
	"unsafe"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"box/pkg/seccomp"
)

// pretendMemlock has all whom we start told that they have changed RLIMIT_MEMLOCK, when
// nothing was done. crun raises it to load its device rules and gives up where it may not,
// as a root without CAP_SYS_RESOURCE, though the kernel does not ask for it any more
// (since 5.11). Without its cgroup it would have less to do than the others. The filter
// that does it costs every system call of every contender the same.
func pretendMemlock() error {
	done := uint(0)
	filter, err := seccomp.Compile(&specs.LinuxSeccomp{
		DefaultAction: specs.ActAllow,
		Syscalls: []specs.LinuxSyscall{
			{Names: []string{"prlimit64"}, Action: specs.ActErrno, ErrnoRet: &done, Args: []specs.LinuxSeccompArg{
				{Index: 1, Value: unix.RLIMIT_MEMLOCK, Op: specs.OpEqualTo}, {Index: 2, Op: specs.OpNotEqual},
			}},
			{Names: []string{"setrlimit"}, Action: specs.ActErrno, ErrnoRet: &done, Args: []specs.LinuxSeccompArg{
				{Index: 0, Value: unix.RLIMIT_MEMLOCK, Op: specs.OpEqualTo},
			}},
		},
	})
	if err != nil {
		return err
	}
	program := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	_, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, unix.SECCOMP_FILTER_FLAG_TSYNC, uintptr(unsafe.Pointer(&program)))
	if errno != 0 {
		return fmt.Errorf("set seccomp filter: %w", errno)
	}
	return nil
}
