package seccomp

import (
	"math/rand/v2"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"unsafe"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"box/pkg/spec/gen"
)

// TestMain is also the program that tests run under a filter.
func TestMain(m *testing.M) {
	switch os.Getenv("SECCOMP_TEST_CHILD") {
	case "attempt":
		underFilter()
	case "verify":
		verifyFilters()
	default:
		os.Exit(m.Run())
	}
}

// defaultProfile is what a container gets that asks for nothing.
func defaultProfile(t testing.TB, o gen.Options) *specs.LinuxSeccomp {
	t.Helper()
	o.Args = []string{"true"}
	s, err := gen.Spec(o)
	if err != nil {
		t.Fatal(err)
	}
	return s.Linux.Seccomp
}

// attempts are system calls with the outcome that the default filter gives them.
var attempts = []struct {
	name string
	nr   uintptr
	args [3]uintptr
	want unix.Errno
}{
	{"getppid", unix.SYS_GETPPID, [3]uintptr{}, 0},
	{"socket(AF_ALG)", unix.SYS_SOCKET, [3]uintptr{unix.AF_ALG, unix.SOCK_SEQPACKET, 0}, unix.EPERM},
	{"socket(AF_VSOCK)", unix.SYS_SOCKET, [3]uintptr{unix.AF_VSOCK, unix.SOCK_STREAM, 0}, unix.EPERM},
	// The kernel looks at the lower half of the family only.
	{"socket(1<<32 + AF_ALG)", unix.SYS_SOCKET, [3]uintptr{1<<32 | unix.AF_ALG, unix.SOCK_SEQPACKET, 0}, unix.EPERM},
	{"socket(1<<32 + AF_VSOCK)", unix.SYS_SOCKET, [3]uintptr{1<<32 | unix.AF_VSOCK, unix.SOCK_STREAM, 0}, unix.EPERM},
	{"socket(AF_UNIX)", unix.SYS_SOCKET, [3]uintptr{unix.AF_UNIX, unix.SOCK_STREAM, 0}, 0},
	{"unshare(CLONE_NEWUSER)", unix.SYS_UNSHARE, [3]uintptr{unix.CLONE_NEWUSER}, unix.EPERM},
	{"fsopen", unix.SYS_FSOPEN, [3]uintptr{}, unix.EPERM},
	{"clone3", unix.SYS_CLONE3, [3]uintptr{}, unix.ENOSYS},
	{"personality(PER_LINUX32)", unix.SYS_PERSONALITY, [3]uintptr{8}, 0},
	{"personality(ADDR_NO_RANDOMIZE)", unix.SYS_PERSONALITY, [3]uintptr{0x40000}, unix.EPERM},
	{"bpf", unix.SYS_BPF, [3]uintptr{}, unix.EPERM},
	{"a call of the future", 1000, [3]uintptr{}, unix.ENOSYS},
}

// underFilter loads the default filter and prints the outcome of each attempt.
func underFilter() {
	runtime.LockOSThread()
	s, err := gen.Spec(gen.Options{Args: []string{"true"}})
	if err != nil {
		panic(err)
	}
	code, err := Compile(s.Linux.Seccomp)
	if err != nil {
		panic(err)
	}
	if _, errno := loadFilter(code, 0); errno != 0 {
		panic(errno)
	}
	for _, a := range attempts {
		_, _, errno := unix.RawSyscall(a.nr, a.args[0], a.args[1], a.args[2])
		os.Stdout.WriteString(strconv.Itoa(int(errno)) + "\n")
	}
	// The other threads have no filter, but leave with exit_group in a moment.
	os.Exit(0)
}

// loadFilter gives a filter to the kernel, for the calling thread.
func loadFilter(code []unix.SockFilter, flags uintptr) (uintptr, unix.Errno) {
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		panic(err)
	}
	prog := unix.SockFprog{Len: uint16(len(code)), Filter: &code[0]}
	r, _, errno := unix.RawSyscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, flags, uintptr(unsafe.Pointer(&prog)))
	return r, errno
}

// verifyFilters has the kernel check many filters without being bound by any: a
// filter for all threads (TSYNC) is checked first, and then not installed if one
// thread has another, whose id is the result.
func verifyFilters() {
	installed := make(chan unix.Errno)
	go func() {
		runtime.LockOSThread()
		_, errno := loadFilter([]unix.SockFilter{answer(unix.SECCOMP_RET_ALLOW)}, 0)
		installed <- errno
		select {}
	}()
	if errno := <-installed; errno != 0 {
		panic(errno)
	}
	runtime.LockOSThread()
	for seed := range uint64(300) {
		code, err := Compile(randomProfile(rand.New(rand.NewPCG(seed, 2))))
		if err != nil {
			panic(err)
		}
		if r, errno := loadFilter(code, unix.SECCOMP_FILTER_FLAG_TSYNC); errno != 0 || r == 0 {
			os.Stdout.WriteString("seed " + strconv.FormatUint(seed, 10) + ": result " + strconv.Itoa(int(r)) + ", " + errno.Error() + "\n")
			os.Exit(1)
		}
	}
	os.Exit(0)
}

// TestKernelTakesFilters: what Compile accepts, the kernel accepts.
func TestKernelTakesFilters(t *testing.T) {
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = []string{"SECCOMP_TEST_CHILD=verify"}
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
}

// TestDefaultFilterForReal loads the default filter into this kernel.
func TestDefaultFilterForReal(t *testing.T) {
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = []string{"SECCOMP_TEST_CHILD=attempt"}
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	lines := strings.Fields(string(out))
	if len(lines) != len(attempts) {
		t.Fatalf("%d outcomes for %d attempts: %s", len(lines), len(attempts), out)
	}
	for i, a := range attempts {
		if lines[i] != strconv.Itoa(int(a.want)) {
			t.Errorf("%s: errno %s, want %d (%v)", a.name, lines[i], a.want, a.want)
		}
	}
}

// TestDefaultFilter asks the compiled default filter about every system call of
// every architecture, and holds the answers against the profile.
func TestDefaultFilter(t *testing.T) {
	for _, caps := range [][]string{nil, {}, {"CAP_SYS_ADMIN", "CAP_BPF"}} {
		p := defaultProfile(t, gen.Options{Capabilities: caps, Socketcall: true})
		m := newMachine(t, compileFor(t, p, amd64))
		for i := range archs {
			for row := range syscalls {
				checkCall(t, m, p, &archs[i], row)
			}
		}
	}
}

func checkCall(t *testing.T, m *machine, p *specs.LinuxSeccomp, a *arch, row int) {
	t.Helper()
	nr, ok := a.number(row)
	if !ok || strings.HasPrefix(syscalls[row].name, "socket") {
		return
	}
	for _, arg := range interesting {
		e := event{nr: nr, audit: a.audit, args: [6]uint64{arg, arg}}
		if have, want := m.run(e), oracle(p, &archs[amd64], e); have != want {
			t.Errorf("%s of %s with %#x: filter says %#x, profile %#x", syscalls[row].name, a.name, arg, have, want)
		}
	}
}

// TestSocketsOf32Bit: socketcall(2) hides the address family from the filter, so
// by default it makes no sockets (CVE-2026-31431).
func TestSocketsOf32Bit(t *testing.T) {
	denied, allowed := unix.SECCOMP_RET_ERRNO|uint32(unix.EPERM), uint32(unix.SECCOMP_RET_ALLOW)
	for _, c := range []struct {
		name   string
		option bool
		nr     uint32
		arg    uint64
		want   uint32
	}{
		{"socketcall(SYS_SOCKET)", false, 102, 1, denied},
		{"socketcall(SYS_CONNECT)", false, 102, 3, allowed},
		{"socket(AF_INET)", false, 359, unix.AF_INET, allowed},
		{"socket(AF_ALG)", false, 359, unix.AF_ALG, denied},
		{"socket(AF_XDP)", false, 359, unix.AF_XDP, allowed},
		{"socketcall(SYS_SOCKET) on request", true, 102, 1, allowed},
	} {
		p := defaultProfile(t, gen.Options{Socketcall: c.option})
		if !strings.HasPrefix(string(p.Architectures[0]), "SCMP_ARCH_X86") {
			t.Skip("the profile of this architecture has no 32-bit x86")
		}
		m := newMachine(t, compileFor(t, p, amd64))
		if have := m.run(event{nr: c.nr, audit: unix.AUDIT_ARCH_I386, args: [6]uint64{c.arg}}); have != c.want {
			t.Errorf("%s: filter says %#x, want %#x", c.name, have, c.want)
		}
	}
}

// TestAllowedCallsAreCheap checks that an unconditional answer is reached by
// instructions that the kernel evaluates ahead of time, in few steps.
func TestAllowedCallsAreCheap(t *testing.T) {
	code := compileFor(t, defaultProfile(t, gen.Options{}), amd64)
	steps := 0
	for pc := 0; ; steps++ {
		c := code[pc]
		switch c.Code {
		case opLoad:
			if c.K != offsetNumber && c.K != offsetArch {
				t.Fatal("read(2) is decided by its arguments")
			}
		case opRet:
			if c.K != unix.SECCOMP_RET_ALLOW || steps > 16 {
				t.Errorf("read(2) gets %#x after %d steps", c.K, steps)
			}
			return
		case opJump:
			pc += int(c.K)
		case opEQ, opGE:
			value := uint32(unix.AUDIT_ARCH_X86_64) // number 0 and the architecture
			if c.Code == opGE {
				value = 0
			}
			if c.Code == opEQ && value == c.K || c.Code == opGE && value >= c.K {
				pc += int(c.Jt)
			} else {
				pc += int(c.Jf)
			}
		default:
			t.Fatalf("opcode %#x before the answer", c.Code)
		}
		pc++
	}
}

// TestProfileNamesAreKnown lists the names in the default profile that no table
// has. Each must be a call of another architecture, or one that is no more.
func TestProfileNamesAreKnown(t *testing.T) {
	gone := []string{"riscv_hwprobe", "get_mempolicy_home_node"}
	for _, s := range defaultProfile(t, gen.Options{}).Syscalls {
		for _, name := range s.Names {
			if _, ok := findRow(name); !ok && !strings.Contains(strings.Join(gone, " "), name) {
				t.Errorf("no number for %s", name)
			}
		}
	}
}

func BenchmarkCompileDefault(b *testing.B) {
	p := defaultProfile(b, gen.Options{})
	for b.Loop() {
		if _, err := Compile(p); err != nil {
			b.Fatal(err)
		}
	}
}
