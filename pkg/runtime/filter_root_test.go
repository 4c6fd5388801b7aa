package runtime

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// Profiles in use are older than some calls that the launch program makes: what
// it does before the command needs none of them allowed.
func TestFilterMayForbidOurOwnCalls(t *testing.T) {
	errno := uint(unix.ENOSYS)
	old := &specs.LinuxSeccomp{DefaultAction: specs.ActAllow, Syscalls: []specs.LinuxSyscall{{
		Names: []string{
			"openat2", "faccessat2", "statx", "close_range", "prlimit64", "setresuid", "setresgid", "setgroups",
			"umask", "dup3", "keyctl", "chdir", "fchdir", "setsid",
		},
		Action: specs.ActErrno, ErrnoRet: &errno,
	}}}
	b := newBench(t, "sh", "-c", "busybox grep CapEff /proc/self/status; busybox id -u; test -x /bin/sh")
	b.spec.Linux.Seccomp = old
	b.spec.Process.User = specs.User{UID: 7, GID: 8, AdditionalGids: []uint32{9}}
	b.spec.Process.Capabilities = &specs.LinuxCapabilities{}
	for _, noNewPrivileges := range []bool{false, true} {
		b.spec.Process.NoNewPrivileges = noNewPrivileges
		r := b.run()
		if want := "CapEff:\t0000000000000000\n7\n"; r.code != 0 || r.out != want {
			t.Errorf("no_new_privs %v: %+v, want %q", noNewPrivileges, r, want)
		}
	}
	b.spec.Process.NoNewPrivileges = false
	b.spec.Process.Args = []string{"nosuch"}
	if r := b.run(); !strings.Contains(r.err, "executable file not found in $PATH") {
		t.Errorf("a command that is missing: %+v", r)
	}
}

// While the command is looked for, the program still holds CAP_SYS_ADMIN for the
// filter; that must not open a file that the command could not open.
func TestCommandIsLookedForWithItsOwnRights(t *testing.T) {
	b := newBench(t, "/private/sh")
	b.spec.Linux.Seccomp = &specs.LinuxSeccomp{DefaultAction: specs.ActAllow, Syscalls: []specs.LinuxSyscall{{Names: []string{"ptrace"}, Action: specs.ActErrno}}}
	private := filepath.Join(b.bundle, "rootfs", "private")
	if err := os.Mkdir(private, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Link(filepath.Join(b.bundle, "rootfs", "bin", "busybox"), filepath.Join(private, "sh")); err != nil {
		t.Fatal(err)
	}
	b.spec.Process.User = specs.User{UID: 7, GID: 8}
	b.spec.Process.Capabilities = &specs.LinuxCapabilities{Permitted: []string{"CAP_SYS_ADMIN"}, Effective: []string{"CAP_SYS_ADMIN"}, Bounding: []string{"CAP_SYS_ADMIN"}}
	if r := b.run(); r.code != 1 || !strings.Contains(r.err, `exec: "/private/sh": permission denied`) {
		t.Errorf("a command out of reach: %+v", r)
	}
}

func TestCommandWithoutPATH(t *testing.T) {
	b := newBench(t, "sh", "-c", "exit 3")
	b.spec.Process.Env = nil
	if r := b.run(); r.code != 1 || !strings.Contains(r.err, `exec: "sh": executable file not found in $PATH`) {
		t.Errorf("a name without PATH: %+v", r)
	}
	b.spec.Process.Args[0] = "/bin/sh"
	if r := b.run(); r.code != 3 {
		t.Errorf("a path without PATH: %+v", r)
	}
}
