package seccomp

import (
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

func TestAllows(t *testing.T) {
	enosys := uint(unix.ENOSYS)
	p := &specs.LinuxSeccomp{
		DefaultAction: specs.ActErrno, ListenerPath: "/agent",
		Syscalls: []specs.LinuxSyscall{
			{Names: []string{"write", "setsid"}, Action: specs.ActAllow},
			{Names: []string{"read"}, Action: specs.ActLog},
			{Names: []string{"close"}, Action: specs.ActNotify},
			{Names: []string{"ioctl"}, Action: specs.ActErrno, ErrnoRet: &enosys},
			{Names: []string{"clone"}, Action: specs.ActAllow, Args: []specs.LinuxSeccompArg{
				{Index: 0, Value: unix.CLONE_NEWUSER, Op: specs.OpMaskedEqual},
			}},
		},
	}
	code := compileFor(t, p, native().column)
	for _, c := range []struct {
		name string
		args []uint64
		want bool
	}{
		{"write", nil, true},
		{"read", nil, true},
		{"close", nil, false},
		{"ioctl", nil, false},
		{"mount", nil, false},
		{"clone", []uint64{unix.CLONE_PARENT | uint64(unix.SIGCHLD)}, true},
		{"clone", []uint64{unix.CLONE_NEWUSER}, false},
		{"no such call", nil, false},
	} {
		if got := Allows(code, c.name, c.args...); got != c.want {
			t.Errorf("%s%v: %v, want %v", c.name, c.args, got, c.want)
		}
	}
	if Allows(nil, "write") || Allows([]unix.SockFilter{{Code: unix.BPF_MISC}, answer(unix.SECCOMP_RET_ALLOW)}, "write") ||
		Allows([]unix.SockFilter{load(64)}, "write") {
		t.Error("what is no filter allows something")
	}
}
