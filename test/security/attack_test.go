package security

import (
	"crypto/sha256"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"box/internal/testkit"
	"box/pkg/spec/gen"
)

// self is what the probe says of itself.
type self struct {
	FDs         map[string]string
	Cwd         string
	UID, GID    int
	Groups      []int
	Status      map[string]string
	Leader, TTY bool
	Env         []string
}

// TestCommandHasNothingOfOurs: descriptors (CVE-2024-21626), groups, environment
// (CVE-2021-3602) and terminal of the caller stay with the caller, whatever he has left
// open; in run and in exec.
func TestCommandHasNothingOfOurs(t *testing.T) {
	b := newBox(t, "wait")
	b.spec.Process.User = specs.User{UID: 0, GID: 7, AdditionalGids: []uint32{8, 9}}
	b.background()
	b2 := newBox(t, "self")
	b2.id += "-run"
	b2.spec.Process.User = b.spec.Process.User
	b2.save()
	for name, cmd := range map[string]*exec.Cmd{
		"run": b2.command("run", b2.id), "exec": b.command("exec", b.id, "/bin/probe", "self"),
	} {
		host, err := os.Open("/")
		if err != nil {
			t.Fatal(err)
		}
		defer host.Close()
		for range 20 {
			cmd.ExtraFiles = append(cmd.ExtraFiles, host)
		}
		cmd.Env = append(os.Environ(), "LD_PRELOAD=/evil.so", "SECRET=x")
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Groups: []uint32{4, 27, 999}}}
		r := finish(t, cmd)
		if r.code != 0 {
			t.Fatalf("%s: %+v", name, r)
		}
		s := decode[self](t, r.out)
		if len(s.FDs) != 3 || s.Cwd != "/" || s.GID != 7 || !slices.Equal(s.Groups, []int{8, 9}) || !s.Leader || s.TTY {
			t.Errorf("%s: %+v", name, s)
		}
		if got := strings.Join(s.Env, " "); got != "PATH=/bin HOME=/" {
			t.Errorf("%s: environment %q", name, got)
		}
	}
}

// TestRuntimeCannotBeReplaced: CVE-2019-5736 by its three ways in: the command is
// /proc/self/exe, a script whose interpreter it is, or a program that executes it.
func TestRuntimeCannotBeReplaced(t *testing.T) {
	b := newBox(t, "wait")
	if err := os.WriteFile(b.root+"/bin/script", []byte("#!/proc/self/exe\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	before := sha256.Sum256([]byte(testkit.Text(t, programs.runtime)))
	b.background()
	for _, command := range [][]string{{"/proc/self/exe"}, {"/proc/self/exe", "true"}, {"/bin/script"}, {"/bin/probe", "reexec"}, {"/proc/1/exe", "true"}} {
		r := b.try(append([]string{"exec", b.id}, command...)...)
		t.Logf("exec %v: exit %d, %s", command, r.code, strings.TrimSpace(r.err))
		if strings.Contains(r.out, "box-runtime") || strings.Contains(r.out, "USAGE") {
			t.Errorf("exec %v executed the runtime in the container: %s", command, r.out)
		}
	}
	if after := sha256.Sum256([]byte(testkit.Text(t, programs.runtime))); after != before {
		t.Error("the runtime's binary has changed")
	}
}

// TestUsersAreNumbers: CVE-2026-30892, CVE-2016-3697, CVE-2024-40635. What is no plain
// number is refused, whatever the image's passwd makes of it; never does it mean root.
func TestUsersAreNumbers(t *testing.T) {
	b := newBox(t, "wait")
	passwd := "root:x:0:0::/:/bin/sh\n1000:x:0:0::/:/bin/sh\n-1:x:0:0::/:/bin/sh\nuser:x:0:0::/:/bin/sh\n4294967296:x:0:0::/:/bin/sh\n"
	if err := os.WriteFile(b.root+"/etc/passwd", []byte(passwd), 0o644); err != nil {
		t.Fatal(err)
	}
	b.background()
	for user, want := range map[string]string{
		"1000": "1000:0", "1000:1001": "1000:1001", "0:5": "0:5", "2147483647:2147483647": "2147483647:2147483647",
		"": "0:0", ":": "", "1000:": "", ":1000": "", "user": "", "root": "", "-1": "", "+0": "", "0x0": "", "00000000000000000000000000": "0:0",
		"2147483648": "", "4294967295": "", "4294967296": "", "18446744073709551616": "", "1000:4294967296": "", "1000:-1": "",
		" 1000": "", "1000 ": "", "1_000": "", "1e3": "", "1000:1001:1002": "", "１": "", "1000\x0a": "",
	} {
		r := b.try("exec", "--user", user, b.id, "/bin/probe", "self")
		got := ""
		if r.code == 0 {
			s := decode[self](t, r.out)
			got = fmt.Sprintf("%d:%d", s.UID, s.GID)
		}
		if got != want {
			t.Errorf("exec --user %q gives %q (%s), want %q", user, got, r.err, want)
		}
	}
}

// forgetPeak makes the memory that a child seems to have used its own: until its execve
// it shares ours, and the kernel counts the most that we have ever had.
func forgetPeak(t *testing.T) {
	t.Helper()
	debug.FreeOSMemory()
	if err := os.WriteFile("/proc/self/clear_refs", []byte("5"), 0); err != nil { // proc(5): resets VmHWM
		t.Fatal(err)
	}
}

// TestHostileAccountFiles: CVE-2026-47262, CVE-2024-9676, CVE-2025-4437. Looking up the
// home directory ends soon and takes little memory, whatever /etc/passwd is.
func TestHostileAccountFiles(t *testing.T) {
	for name, shape := range map[string]func(string) error{
		"fifo":        func(p string) error { return unix.Mkfifo(p, 0o666) },
		"device":      func(p string) error { return unix.Mknod(p, unix.S_IFCHR|0o666, int(unix.Mkdev(1, 5))) },
		"directory":   func(p string) error { return os.Mkdir(p, 0o755) },
		"loop":        func(p string) error { return os.Symlink("passwd", p) },
		"host's":      func(p string) error { return os.Symlink(strings.Repeat("../", 20)+"etc/shadow", p) },
		"magic":       func(p string) error { return os.Symlink("/proc/self/fd/0", p) },
		"huge":        func(p string) error { return os.WriteFile(p, nil, 0o644) },
		"endless":     func(p string) error { return os.WriteFile(p, []byte(strings.Repeat("x", 1<<20)), 0o644) },
		"no newlines": func(p string) error { return os.WriteFile(p, []byte(strings.Repeat("a:b:", 1<<18)), 0o644) },
	} {
		t.Run(name, func(t *testing.T) {
			b := newBox(t, "self")
			put(t, b.root+"/etc/passwd", shape)
			if name == "huge" {
				if err := os.Truncate(b.root+"/etc/passwd", 1<<40); err != nil {
					t.Fatal(err)
				}
			}
			b.spec.Process.Env = []string{"PATH=/bin"} // without HOME
			b.save()
			forgetPeak(t)
			cmd := b.command("run", b.id)
			timer := time.AfterFunc(20*time.Second, func() { _ = cmd.Process.Kill() })
			defer timer.Stop()
			r := finish(t, cmd)
			usage, ok := cmd.ProcessState.SysUsage().(*syscall.Rusage)
			if !ok || usage.Maxrss > 128<<10 || r.code < 0 {
				t.Errorf("exit %d, %d KiB of memory, %s", r.code, usage.Maxrss, r.err)
			}
			if r.code == 0 && !slices.Contains(decode[self](t, r.out).Env, "HOME=/") {
				t.Errorf("home directory of nobody knows where: %s", r.out)
			}
			if r.code != 0 {
				b.try("delete", "--force", b.id)
			}
		})
	}
}

// TestEveryDeviceIsDenied: GHSA-g54h-m393-cpwq. With all rights of root but the rule,
// nothing opens but what every container has.
func TestEveryDeviceIsDenied(t *testing.T) {
	b := newBox(t, "devices")
	b.allow("CAP_MKNOD", "CAP_DAC_OVERRIDE", "CAP_SYS_RAWIO", "CAP_SYS_ADMIN", "CAP_SYS_TTY_CONFIG")
	found := report[struct {
		Made int
		Open []string
	}](b)
	if found.Made < 2*512 {
		t.Errorf("only %d nodes could be made: the test shows nothing", found.Made)
	}
	// 0:0 is no device: overlays mark with it what is deleted.
	allowed := []string{"20000 0:0", "20000 1:3", "20000 1:7", "20000 1:8", "20000 1:9", "20000 5:0", "20000 5:2"}
	more := slices.DeleteFunc(found.Open, func(node string) bool {
		return slices.Contains(allowed, node) || strings.HasPrefix(node, "20000 136:")
	})
	if len(more) > 0 {
		t.Errorf("%d others can be opened, %v among them", len(more), more[:min(5, len(more))])
	}
}

// TestSocketsOfTheDefaultProfile: CVE-2026-31431. What box gives its containers makes
// neither AF_ALG nor AF_VSOCK, nor anything rare, not even through the one call that
// 32-bit programs have for all.
func TestSocketsOfTheDefaultProfile(t *testing.T) {
	ordinary := []int{unix.AF_UNIX, unix.AF_INET, unix.AF_INET6, unix.AF_NETLINK, unix.AF_PACKET}
	for name, program := range map[string]string{"64 bit": programs.probe, "32 bit": programs.probe32} {
		t.Run(name, func(t *testing.T) {
			b := newBox(t, "sockets")
			put(t, b.root+"/bin/probe", func(p string) error { return os.Link(program, p) })
			profile, err := gen.Spec(gen.Options{Args: []string{"x"}})
			if err != nil {
				t.Fatal(err)
			}
			b.spec.Linux.Seccomp = profile.Linux.Seccomp
			r := b.run()
			if r.code != 0 && name == "32 bit" && strings.Contains(r.err, "exec format error") {
				t.Skip("this kernel has no 32-bit programs")
			}
			for _, family := range decode[[]int](t, r.out) {
				if family == unix.AF_ALG || family == unix.AF_VSOCK {
					t.Errorf("a socket of family %d can be made", family)
				}
				if name == "32 bit" && slices.Contains(ordinary, family) {
					t.Errorf("socketcall makes a socket of family %d", family)
				}
			}
			t.Logf("families: %s", r.out)
		})
	}
}

// TestCapabilitiesOfOthers: CVE-2018-10856, CVE-2022-29162 and its kin: no user but root
// has capabilities, and nobody has inheritable ones, whatever the engine asks for.
func TestCapabilitiesOfOthers(t *testing.T) {
	for _, uid := range []uint32{0, 1000} {
		b := newBox(t, "self")
		b.spec.Process.User.UID = uid
		b.allow("CAP_CHOWN", "CAP_SETPCAP")
		s := report[self](b)
		none := strings.Repeat("0", 16)
		if s.Status["CapInh"] != none || s.Status["CapAmb"] != none || s.Status["NoNewPrivs"] != "1" {
			t.Errorf("user %d: %v", uid, s.Status)
		}
		if has := s.Status["CapEff"] != none; has != (uid == 0) {
			t.Errorf("user %d: effective %s", uid, s.Status["CapEff"])
		}
	}
}

// TestHugeStrings: CVE-2021-43784. A configuration with strings beyond all lengths is
// refused or carried out, never cut: the namespaces are as asked for.
func TestHugeStrings(t *testing.T) {
	for _, size := range []int{4 << 10, 64 << 10, 1<<20 + 1, 16 << 20} {
		b := newBox(t, "self")
		huge := strings.Repeat("x", size)
		b.spec.Mounts = append(b.spec.Mounts, specs.Mount{Destination: "/tmp/" + huge, Type: "tmpfs", Source: huge, Options: []string{"size=" + huge}})
		if r := b.run(); r.code == 0 || len(r.err) > 4*size+4096 {
			t.Errorf("%d bytes: exit %d, %d bytes of error", size, r.code, len(r.err))
		}
		if _, err := os.Stat(filepath.Join(b.state, b.id)); !os.IsNotExist(err) {
			t.Errorf("%d bytes: the refused container is still there (%v)", size, err)
		}
	}
}

// TestMasksOfTheDefault: CVE-2020-8694 and its kin. Of what box masks nothing can be
// read, of what it makes read-only nothing written, by a root who may do everything else
// with files. The list must have every path that has ever been found missing.
func TestMasksOfTheDefault(t *testing.T) {
	profile, err := gen.Spec(gen.Options{Args: []string{"x"}})
	if err != nil {
		t.Fatal(err)
	}
	masked, readonly := profile.Linux.MaskedPaths, profile.Linux.ReadonlyPaths
	for _, must := range []string{
		"/proc/acpi", "/proc/asound", "/proc/interrupts", "/proc/kcore", "/proc/keys", "/proc/latency_stats", "/proc/timer_list",
		"/proc/timer_stats", "/proc/sched_debug", "/proc/scsi", "/sys/firmware", "/sys/devices/virtual/powercap",
	} {
		if !slices.Contains(masked, must) {
			t.Errorf("%s is not masked", must)
		}
	}
	for _, must := range []string{"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"} {
		if !slices.Contains(readonly, must) {
			t.Errorf("%s is not read-only", must)
		}
	}
	writes := []string{"/proc/sys/kernel/core_pattern", "/proc/sys/kernel/shmmax", "/sys/kernel/uevent_helper", "/sys/fs/cgroup", "/sys/fs/cgroup/release_agent"}
	b := newBox(t, append(append(append([]string{"reach"}, masked...), readonly...), writes...)...)
	b.allow("CAP_DAC_OVERRIDE", "CAP_DAC_READ_SEARCH", "CAP_SYS_RAWIO", "CAP_SYSLOG", "CAP_FOWNER")
	b.spec.Linux.MaskedPaths, b.spec.Linux.ReadonlyPaths = masked, readonly
	found := report[map[string]struct {
		Exists       bool
		Bytes, Names int
		Write        bool
	}](b)
	for path, f := range found {
		if slices.Contains(masked, path) && (f.Bytes > 0 || f.Names > 0) {
			t.Errorf("%s can be read: %+v", path, f)
		}
		if !slices.Contains(masked, path) && f.Write {
			t.Errorf("%s can be written", path)
		}
	}
	if !found["/proc/sys"].Exists || found["/proc/sys"].Names == 0 {
		t.Error("there is no /proc/sys: the test shows nothing")
	}
}
