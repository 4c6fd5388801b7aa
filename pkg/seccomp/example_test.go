package seccomp_test

import (
	"fmt"

	"github.com/opencontainers/runtime-spec/specs-go"

	"box/pkg/seccomp"
)

// A filter that only keeps programs from changing the clock.
func ExampleCompile() {
	filter, err := seccomp.Compile(&specs.LinuxSeccomp{
		DefaultAction: specs.ActAllow,
		Syscalls: []specs.LinuxSyscall{{
			Names:  []string{"clock_settime", "settimeofday", "a_call_nobody_has"},
			Action: specs.ActErrno,
		}},
	})
	fmt.Println(len(filter) > 0, err)

	_, err = seccomp.Compile(&specs.LinuxSeccomp{DefaultAction: "SCMP_ACT_FORBID"})
	fmt.Println(err)
	// Output:
	// true <nil>
	// linux.seccomp.defaultAction: unknown action "SCMP_ACT_FORBID"
}
