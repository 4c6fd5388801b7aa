package seccomp

import (
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"

	"box/internal/errdefs"
)

// event is what a filter sees of a system call.
type event struct {
	nr, audit uint32
	args      [6]uint64
}

// machine runs a filter as the kernel would. The virtual machine of x/net/bpf
// checks jumps and loads packets in network order, so the event is laid out that
// way.
type machine struct {
	t    testing.TB
	vm   *bpf.VM
	code []unix.SockFilter
}

func newMachine(t testing.TB, code []unix.SockFilter) *machine {
	t.Helper()
	raw := make([]bpf.RawInstruction, len(code))
	for i, c := range code {
		raw[i] = bpf.RawInstruction{Op: c.Code, Jt: c.Jt, Jf: c.Jf, K: c.K}
	}
	program, ok := bpf.Disassemble(raw)
	if !ok {
		t.Fatal("the filter has instructions that are no BPF")
	}
	vm, err := bpf.NewVM(program)
	if err != nil {
		t.Fatal(err)
	}
	return &machine{t, vm, code}
}

func (m *machine) run(e event) uint32 {
	m.t.Helper()
	data := make([]byte, 64)
	binary.BigEndian.PutUint32(data[0:], e.nr)
	binary.BigEndian.PutUint32(data[4:], e.audit)
	for i, a := range e.args {
		binary.BigEndian.PutUint32(data[16+8*i:], uint32(a))
		binary.BigEndian.PutUint32(data[20+8*i:], uint32(a>>32))
	}
	n, err := m.vm.Run(data)
	if err != nil {
		m.t.Fatal(err)
	}
	if own := evaluate(m.code, e.data()); own != uint32(n) {
		m.t.Errorf("evaluate gives %#x, the virtual machine %#x", own, n)
	}
	return uint32(n)
}

// data is the event as the kernel lays it out.
func (e event) data() *[64]byte {
	var d [64]byte
	binary.NativeEndian.PutUint32(d[0:], e.nr)
	binary.NativeEndian.PutUint32(d[4:], e.audit)
	for i, a := range e.args {
		binary.NativeEndian.PutUint64(d[16+8*i:], a)
	}
	return &d
}

// number returns the number of a row's call.
func (a *arch) number(row int) (uint32, bool) {
	nr := syscalls[row].nr[a.column]
	switch {
	case nr < 0:
		return 0, false
	case nr&privateMark != 0:
		return privateBase + uint32(nr&^privateMark), true
	case a.column == x32:
		return x32Bit + uint32(nr), true
	}
	return uint32(nr), true
}

// oracle answers as the package's documentation says, one rule after the other
// and without any of the compiler's structures.
func oracle(p *specs.LinuxSeccomp, own *arch, e event) uint32 {
	fallback, _ := actionValue(p.DefaultAction, p.DefaultErrnoRet)
	a := oracleArch(p, own, e)
	if a == nil {
		// Another column of the same audit value: x32 without permission.
		if oracleArch(p, own, event{nr: 0, audit: e.audit}) == &archs[amd64] && e.nr >= x32Bit {
			switch {
			case p.DefaultAction != specs.ActAllow && p.DefaultAction != specs.ActLog:
				return unix.SECCOMP_RET_ERRNO | uint32(unix.ENOSYS)
			case e.nr == 1<<32-1:
				return fallback
			}
		}
		return unix.SECCOMP_RET_KILL_THREAD
	}
	conditional, found := fallback, false
	newest, named := uint32(0), false
	for _, s := range p.Syscalls {
		action, _ := actionValue(s.Action, s.ErrnoRet)
		for _, name := range s.Names {
			row, ok := findRow(name)
			if !ok {
				continue
			}
			nr, ok := a.number(row)
			if ok && nr&^x32Bit < privateBase {
				newest, named = max(newest, nr), true
			}
			if !ok || nr != e.nr || action == fallback {
				continue
			}
			if len(s.Args) == 0 {
				return action
			}
			if !found && oracleArgs(s.Args, a.wide, e.args) {
				conditional, found = action, true
			}
		}
	}
	isPrivate := e.nr >= privateBase && e.nr < privateBase+16
	permissive := p.DefaultAction == specs.ActAllow || p.DefaultAction == specs.ActLog
	if named && e.nr > newest && !found && !permissive && !(isPrivate && oracleRuled(p, a, e.nr, fallback)) {
		return unix.SECCOMP_RET_ERRNO | uint32(unix.ENOSYS)
	}
	return conditional
}

// oracleRuled tells whether any rule of the profile is about a number.
func oracleRuled(p *specs.LinuxSeccomp, a *arch, want, fallback uint32) bool {
	for _, s := range p.Syscalls {
		action, _ := actionValue(s.Action, s.ErrnoRet)
		for _, name := range s.Names {
			row, _ := findRow(name)
			if nr, ok := a.number(row); ok && nr == want && action != fallback {
				return true
			}
		}
	}
	return false
}

func oracleArch(p *specs.LinuxSeccomp, own *arch, e event) *arch {
	for i := range archs {
		a := &archs[i]
		listed := a == own
		for _, name := range p.Architectures {
			listed = listed || name == a.name
		}
		if !listed || a.audit != e.audit {
			continue
		}
		if a.audit == unix.AUDIT_ARCH_X86_64 && (a.column == x32) != (e.nr >= x32Bit) {
			continue
		}
		return a
	}
	return nil
}

func oracleArgs(args []specs.LinuxSeccompArg, wide bool, have [6]uint64) bool {
	uses := map[uint]int{}
	for _, a := range args {
		uses[a.Index]++
	}
	alternatives := false
	for _, n := range uses {
		alternatives = alternatives || n > 1
	}
	for _, a := range args {
		holds := oracleArg(a, wide, have[a.Index])
		if alternatives && holds {
			return true
		}
		if !alternatives && !holds {
			return false
		}
	}
	return !alternatives
}

func oracleArg(a specs.LinuxSeccompArg, wide bool, have uint64) bool {
	one, two := a.Value, a.ValueTwo
	if !wide {
		one, two, have = uint64(uint32(one)), uint64(uint32(two)), uint64(uint32(have))
	}
	switch a.Op {
	case specs.OpEqualTo:
		return have == one
	case specs.OpNotEqual:
		return have != one
	case specs.OpGreaterThan:
		return have > one
	case specs.OpGreaterEqual:
		return have >= one
	case specs.OpLessThan:
		return have < one
	case specs.OpLessEqual:
		return have <= one
	default:
		return have&one == two
	}
}

// interesting are argument values around the places where halves matter.
var interesting = []uint64{
	0, 1, 2, 38, 39, 40, 1<<31 - 1, 1 << 31, 1<<32 - 1, 1 << 32, 1<<32 + 1, 1<<32 + 38,
	1<<63 - 1, 1 << 63, 1<<64 - 1,
}

func randomValue(r *rand.Rand) uint64 {
	if r.IntN(4) == 0 {
		return r.Uint64()
	}
	return interesting[r.IntN(len(interesting))]
}

var (
	someActions = []specs.LinuxSeccompAction{
		specs.ActAllow, specs.ActErrno, specs.ActKill, specs.ActKillProcess, specs.ActKillThread,
		specs.ActTrap, specs.ActTrace, specs.ActLog,
	}
	someOps = []specs.LinuxSeccompOperator{
		specs.OpEqualTo, specs.OpNotEqual, specs.OpGreaterThan, specs.OpGreaterEqual,
		specs.OpLessThan, specs.OpLessEqual, specs.OpMaskedEqual,
	}
)

// randomProfile makes a profile over few names, so that rules meet each other.
func randomProfile(r *rand.Rand) *specs.LinuxSeccomp {
	p := &specs.LinuxSeccomp{DefaultAction: someActions[r.IntN(len(someActions))]}
	for i := range archs {
		if r.IntN(2) == 0 {
			p.Architectures = append(p.Architectures, archs[i].name)
		}
	}
	for range r.IntN(12) {
		s := specs.LinuxSyscall{Action: someActions[r.IntN(len(someActions))]}
		if s.Action == specs.ActErrno && r.IntN(2) == 0 {
			n := uint(r.IntN(100))
			s.ErrnoRet = &n
		}
		for range 1 + r.IntN(4) {
			s.Names = append(s.Names, randomName(r))
		}
		for range r.IntN(4) {
			s.Args = append(s.Args, specs.LinuxSeccompArg{
				Index: uint(r.IntN(6)), Value: randomValue(r), ValueTwo: randomValue(r), Op: someOps[r.IntN(len(someOps))],
			})
		}
		p.Syscalls = append(p.Syscalls, s)
	}
	return p
}

func randomName(r *rand.Rand) string {
	few := []string{"read", "write", "openat", "clone", "getpid", "breakpoint", "set_tls", "mseal", "no_such_call"}
	if r.IntN(2) == 0 {
		return few[r.IntN(len(few))]
	}
	for {
		// What is multiplexed has a test of its own.
		if name := syscalls[r.IntN(len(syscalls))].name; !multiplexed(name) && !strings.HasPrefix(name, "arm_sync") && !strings.HasPrefix(name, "sync_file_range2") {
			return name
		}
	}
}

func multiplexed(name string) bool {
	for _, m := range multiplexers {
		for _, n := range append(m.names, m.via) {
			if n == name {
				return true
			}
		}
	}
	return false
}

func randomEvent(r *rand.Rand, p *specs.LinuxSeccomp) event {
	a := &archs[r.IntN(len(archs))]
	e := event{audit: a.audit}
	row := r.IntN(len(syscalls))
	if len(p.Syscalls) > 0 && r.IntN(4) > 0 {
		s := p.Syscalls[r.IntN(len(p.Syscalls))]
		if found, ok := findRow(s.Names[r.IntN(len(s.Names))]); ok {
			row = found
		}
	}
	e.nr, _ = a.number(row)
	switch r.IntN(8) {
	case 0:
		e.nr++
	case 1:
		e.nr = []uint32{1<<32 - 1, x32Bit, x32Bit + 1000, 600, 4000, privateBase + 7}[r.IntN(6)]
	case 2:
		e.audit ^= 1
	}
	for i := range e.args {
		e.args[i] = randomValue(r)
	}
	return e
}

// TestRandomProfiles holds compiled filters against the oracle.
func TestRandomProfiles(t *testing.T) {
	for seed := range uint64(400) {
		checkSeed(t, seed, 200)
	}
}

// FuzzProfiles does the same with seeds found by the fuzzer.
func FuzzProfiles(f *testing.F) {
	f.Add(uint64(1))
	f.Fuzz(func(t *testing.T, seed uint64) { checkSeed(t, seed, 50) })
}

func checkSeed(t *testing.T, seed uint64, events int) {
	t.Helper()
	r := rand.New(rand.NewPCG(seed, 2))
	p := randomProfile(r)
	own := &archs[amd64]
	if r.IntN(3) == 0 {
		own = &archs[arm64]
	}
	pol, err := newPolicy(p, own)
	if err != nil {
		t.Fatalf("seed %d: %v", seed, err)
	}
	code := pol.program()
	if len(code) > maxProgram {
		t.Fatalf("seed %d: %d instructions", seed, len(code))
	}
	m := newMachine(t, code)
	for range events {
		e := randomEvent(r, p)
		if have, want := m.run(e), oracle(p, own, e); have != want {
			t.Fatalf("seed %d: %+v on %s: filter says %#x, profile %#x\n%+v", seed, e, own.name, have, want, p)
		}
	}
}

// TestMultiplexed checks that a rule covers both ways into a call on 32-bit x86.
func TestMultiplexed(t *testing.T) {
	deny := uint(77)
	p := &specs.LinuxSeccomp{
		DefaultAction: specs.ActAllow,
		Architectures: []specs.Arch{specs.ArchX86},
		Syscalls:      []specs.LinuxSyscall{{Names: []string{"socket", "shmat"}, Action: specs.ActErrno, ErrnoRet: &deny}},
	}
	m := newMachine(t, compileFor(t, p, amd64))
	for _, c := range []struct {
		what   string
		nr     uint32
		arg    uint64
		denied bool
	}{
		{"socket(2)", 359, 2, true},
		{"socketcall(SYS_SOCKET)", 102, 1, true},
		{"socketcall(SYS_BIND)", 102, 2, false},
		{"ipc(SHMAT)", 117, 21, true},
		{"ipc(SHMAT) in version 1", 117, 1<<16 | 21, true},
		{"ipc(SHMDT)", 117, 22, false},
	} {
		want := uint32(unix.SECCOMP_RET_ALLOW)
		if c.denied {
			want = unix.SECCOMP_RET_ERRNO | uint32(deny)
		}
		e := event{nr: c.nr, audit: unix.AUDIT_ARCH_I386, args: [6]uint64{c.arg}}
		if have := m.run(e); have != want {
			t.Errorf("%s: filter says %#x, want %#x", c.what, have, want)
		}
	}
}

func compileFor(t testing.TB, p *specs.LinuxSeccomp, own int) []unix.SockFilter {
	t.Helper()
	pol, err := newPolicy(p, &archs[own])
	if err != nil {
		t.Fatal(err)
	}
	return pol.program()
}

// TestLongBranches checks jumps over more instructions than a conditional one
// reaches.
func TestLongBranches(t *testing.T) {
	p := &specs.LinuxSeccomp{DefaultAction: specs.ActErrno}
	for i, row := range syscalls {
		errno := uint(i)
		s := specs.LinuxSyscall{Names: []string{row.name}, Action: specs.ActErrno, ErrnoRet: &errno}
		if i%3 == 0 {
			s.Args = []specs.LinuxSeccompArg{{Index: 1, Op: specs.OpLessThan, Value: 1 << 40}}
		}
		p.Syscalls = append(p.Syscalls, s)
	}
	own := &archs[amd64]
	code := compileFor(t, p, amd64)
	m := newMachine(t, code)
	for row := range syscalls {
		nr, ok := own.number(row)
		if !ok {
			continue
		}
		for _, arg := range []uint64{0, 1 << 40} {
			e := event{nr: nr, audit: own.audit, args: [6]uint64{1: arg}}
			if have, want := m.run(e), oracle(p, own, e); have != want {
				t.Errorf("%s with %#x: filter says %#x, profile %#x", syscalls[row].name, arg, have, want)
			}
		}
	}
	if len(code) < 2*maxBranch {
		t.Errorf("only %d instructions: the test no longer needs long branches", len(code))
	}
}

// TestRefused lists what is not compiled, with the words that say so.
func TestRefused(t *testing.T) {
	number := func(n uint) *uint { return &n }
	call := func(s specs.LinuxSyscall) *specs.LinuxSeccomp {
		return &specs.LinuxSeccomp{DefaultAction: specs.ActAllow, Syscalls: []specs.LinuxSyscall{s}}
	}
	read := []string{"read"}
	for _, c := range []struct {
		name    string
		profile *specs.LinuxSeccomp
		class   error
		text    string
	}{
		{"default action", &specs.LinuxSeccomp{DefaultAction: "ALLOW"}, errdefs.ErrInvalid, `linux.seccomp.defaultAction: unknown action "ALLOW"`},
		{"no default action", &specs.LinuxSeccomp{}, errdefs.ErrInvalid, `linux.seccomp.defaultAction: unknown action ""`},
		{"default errno", &specs.LinuxSeccomp{DefaultAction: specs.ActAllow, DefaultErrnoRet: number(1)}, errdefs.ErrInvalid, "linux.seccomp.defaultAction: action SCMP_ACT_ALLOW takes no errno"},
		{"architecture", &specs.LinuxSeccomp{DefaultAction: specs.ActAllow, Architectures: []specs.Arch{"amd64"}}, errdefs.ErrInvalid, `linux.seccomp.architectures[0]: unknown architecture "amd64"`},
		{"flag", &specs.LinuxSeccomp{DefaultAction: specs.ActAllow, Flags: []specs.LinuxSeccompFlag{"X"}}, errdefs.ErrInvalid, `linux.seccomp.flags[0]: unknown flag "X"`},
		{"metadata alone", &specs.LinuxSeccomp{DefaultAction: specs.ActAllow, ListenerMetadata: "x"}, errdefs.ErrInvalid, "linux.seccomp.listenerMetadata: set without listenerPath"},
		{"no listener", call(specs.LinuxSyscall{Names: read, Action: specs.ActNotify}), errdefs.ErrInvalid, "linux.seccomp.listenerPath: missing with SCMP_ACT_NOTIFY: seccomp listenerPath is not set"},
		{"notify write", &specs.LinuxSeccomp{DefaultAction: specs.ActAllow, ListenerPath: "/x", Syscalls: []specs.LinuxSyscall{{Names: []string{"read", "write"}, Action: specs.ActNotify}}}, errdefs.ErrInvalid, "linux.seccomp.syscalls[0]: SCMP_ACT_NOTIFY cannot be used for the write syscall"},
		{"notify all", &specs.LinuxSeccomp{DefaultAction: specs.ActNotify, ListenerPath: "/x"}, errdefs.ErrInvalid, "linux.seccomp.defaultAction: SCMP_ACT_NOTIFY cannot be used as default action"},
		{"killable without listener", &specs.LinuxSeccomp{DefaultAction: specs.ActAllow, Flags: []specs.LinuxSeccompFlag{specs.LinuxSeccompFlagWaitKillableRecv}}, errdefs.ErrInvalid, "linux.seccomp.flags: SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV is for profiles with SCMP_ACT_NOTIFY"},
		{"notify with errno", &specs.LinuxSeccomp{DefaultAction: specs.ActAllow, ListenerPath: "/x", Syscalls: []specs.LinuxSyscall{{Names: read, Action: specs.ActNotify, ErrnoRet: number(1)}}}, errdefs.ErrInvalid, "linux.seccomp.syscalls[0]: action SCMP_ACT_NOTIFY takes no errno"},
		{"no names", call(specs.LinuxSyscall{Action: specs.ActErrno}), errdefs.ErrInvalid, "linux.seccomp.syscalls[0]: names is empty"},
		{"errno", call(specs.LinuxSyscall{Names: read, Action: specs.ActErrno, ErrnoRet: number(4096)}), errdefs.ErrInvalid, "linux.seccomp.syscalls[0]: errno 4096 is larger than 4095"},
		{"index", call(specs.LinuxSyscall{Names: read, Action: specs.ActErrno, Args: []specs.LinuxSeccompArg{{Index: 6, Op: specs.OpEqualTo}}}), errdefs.ErrInvalid, "linux.seccomp.syscalls[0]: args[0]: index 6 is larger than 5"},
		{"operator", call(specs.LinuxSyscall{Names: read, Action: specs.ActErrno, Args: []specs.LinuxSeccompArg{{Op: "EQ"}}}), errdefs.ErrInvalid, `linux.seccomp.syscalls[0]: args[0]: unknown operator "EQ"`},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := Compile(c.profile)
			if !errors.Is(err, c.class) || err.Error() != c.text {
				t.Errorf("have %v (class %v: %v), want %s", err, c.class, errors.Is(err, c.class), c.text)
			}
		})
	}
}

// TestFlags pins the numbers that the kernel is given.
func TestFlags(t *testing.T) {
	notify := specs.LinuxSeccomp{ListenerPath: "/x", Syscalls: []specs.LinuxSyscall{{Names: []string{"mkdir"}, Action: specs.ActNotify}}}
	for name, c := range map[string]struct {
		profile specs.LinuxSeccomp
		flags   []specs.LinuxSeccompFlag
		want    uintptr
	}{
		"not set":                    {specs.LinuxSeccomp{}, nil, 4},
		"empty":                      {specs.LinuxSeccomp{}, []specs.LinuxSeccompFlag{}, 0},
		"tsync":                      {specs.LinuxSeccomp{}, []specs.LinuxSeccompFlag{"SECCOMP_FILTER_FLAG_TSYNC"}, 0},
		"both":                       {specs.LinuxSeccomp{}, []specs.LinuxSeccompFlag{specs.LinuxSeccompFlagLog, specs.LinuxSeccompFlagSpecAllow}, 6},
		"listener":                   {notify, []specs.LinuxSeccompFlag{specs.LinuxSeccompFlagWaitKillableRecv}, 40},
		"tsync excludes no listener": {notify, []specs.LinuxSeccompFlag{"SECCOMP_FILTER_FLAG_TSYNC"}, 8},
	} {
		c.profile.Flags = c.flags
		if have, err := Flags(&c.profile); err != nil || have != c.want {
			t.Errorf("%s: have %d, %v, want %d", name, have, err, c.want)
		}
	}
}

// TestKnownFlags asks the kernel, and asks it for a flag that no kernel has.
func TestKnownFlags(t *testing.T) {
	known, supported := KnownFlags()
	for _, f := range []string{"SECCOMP_FILTER_FLAG_LOG", "SECCOMP_FILTER_FLAG_SPEC_ALLOW", "SECCOMP_FILTER_FLAG_TSYNC"} {
		if !slices.Contains(known, f) || !slices.Contains(supported, f) {
			t.Errorf("%s is not among %v, %v", f, known, supported)
		}
	}
	if _, _, errno := unix.RawSyscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, 1<<30, 0); errno != unix.EINVAL {
		t.Errorf("an unknown flag gives %v, want EINVAL", errno)
	}
}

// TestTooLong checks that a profile beyond the kernel's limit is an error here
// and not EINVAL there.
func TestTooLong(t *testing.T) {
	p := &specs.LinuxSeccomp{DefaultAction: specs.ActErrno}
	for i := range 2000 {
		p.Syscalls = append(p.Syscalls, specs.LinuxSyscall{
			Names: []string{"read"}, Action: specs.ActAllow,
			Args: []specs.LinuxSeccompArg{{Op: specs.OpEqualTo, Value: uint64(i)}},
		})
	}
	if _, err := Compile(p); !errors.Is(err, errdefs.ErrInvalid) || !strings.Contains(err.Error(), "the kernel takes 4096") {
		t.Errorf("have %v", err)
	}
}

// TestTable checks what the compiler takes for granted of its table.
func TestTable(t *testing.T) {
	for i := 1; i < len(syscalls); i++ {
		if syscalls[i-1].name >= syscalls[i].name {
			t.Errorf("%s stands before %s", syscalls[i-1].name, syscalls[i].name)
		}
	}
	for _, row := range syscalls {
		for _, nr := range row.nr {
			if nr < -1 || nr >= privatePlace && (nr < privateMark || nr >= privateMark+placeCount-privatePlace) {
				t.Errorf("no place for %s, number %d", row.name, nr)
			}
		}
	}
	for name, want := range map[string][archCount]int16{
		"read":       {unix.SYS_READ, 3, 0, 63, 3},
		"execve":     {unix.SYS_EXECVE, 11, 520, 221, 11},
		"openat":     {257, 295, 257, 56, 322},
		"openat2":    {437, 437, 437, 437, 437},
		"newfstatat": {262, -1, 262, 79, -1},
	} {
		row, ok := findRow(name)
		if !ok || syscalls[row].nr != want {
			t.Errorf("%s: have %v, want %v", name, syscalls[row].nr, want)
		}
	}
}
