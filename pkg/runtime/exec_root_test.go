package runtime

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"box/pkg/plan"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// A command that joins comes into the pid namespace in the place of another process;
// nothing of that one may be felt: not in the limit of processes of its user, not in its
// session, nor by the caller who gets its pid and its exit code.
func TestExecIsOneProcess(t *testing.T) {
	b := newBench(t, "sleep", "1000")
	b.save()
	b.do("run", "-d", b.id)
	defer b.do("delete", "--force", b.id)
	r := b.execLimited(1, "sh", "-c", `read pid x x x group session x < /proc/$$/stat
		while read a b soft x; do [ "$b" = processes ] && limit=$soft; done < /proc/$$/limits
		echo $pid $group $session $limit; kill -9 $$`)
	if w := strings.Fields(r.out); r.code != 137 || len(w) != 4 || w[0] != w[1] || w[0] != w[2] || w[3] != "1" {
		t.Errorf("%+v; want pid, process group and session to be one, a limit of 1, and exit code 137", r)
	}
}

// execLimited executes a command for a user who may have that many processes.
func (b *bench) execLimited(limit uint64, args ...string) result {
	b.t.Helper()
	data, err := json.Marshal(specs.Process{
		Args: args, Cwd: "/", Env: []string{"PATH=/bin"},
		// The limit counts all processes of a user on the host: nobody else has this one.
		User:    specs.User{UID: 40000000 + uint32(os.Getpid()), GID: 1},
		Rlimits: []specs.POSIXRlimit{{Type: plan.LimitProcesses, Soft: limit, Hard: limit}},
	})
	if err != nil {
		b.t.Fatal(err)
	}
	file := filepath.Join(b.t.TempDir(), "process.json")
	if err := os.WriteFile(file, data, 0o600); err != nil {
		b.t.Fatal(err)
	}
	return b.try("exec", "--process", file, b.id)
}

// A filter need not allow what box-runtime calls while it sets a process up, neither for
// create nor for exec, which has to fork on the way. The list is what `true` calls itself
// and the last steps do.
func TestFilterNeedNotAllowTheSetUp(t *testing.T) {
	for _, noNew := range []bool{false, true} {
		t.Run(fmt.Sprint("no_new_privs ", noNew), func(t *testing.T) {
			b := newBench(t, "sleep", "1000")
			b.spec.Process.NoNewPrivileges = noNew
			b.spec.Linux.Seccomp = &specs.LinuxSeccomp{DefaultAction: specs.ActErrno, Syscalls: []specs.LinuxSyscall{{
				Names: []string{
					"read", "write", "execve", "capset", "exit", "exit_group", "nanosleep", "clock_nanosleep", "brk",
					"arch_prctl", "set_tid_address", "set_robust_list", "rseq", "prlimit64", "readlinkat", "readlink",
					"getrandom", "mprotect", "mmap", "getuid", "prctl", "uname", "time", "rt_sigaction",
				}, Action: specs.ActAllow,
			}}}
			b.save()
			b.do("run", "-d", b.id)
			defer b.do("delete", "--force", b.id)
			b.do("exec", b.id, "true")
		})
	}
}
