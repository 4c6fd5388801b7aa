package seccomp

import (
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"box/internal/errdefs"
)

// maxErrno is the largest error number that a system call can return.
const maxErrno = 4095

// policy is a profile with every name resolved and every value checked.
type policy struct {
	archs    []*arch
	fallback uint32 // the default action, as a filter returns it
	unknown  uint32 // what calls newer than the profile get
	calls    []call // one for each row of the table
}

// call is what the profile says about one system call.
type call struct {
	named   bool // by any rule
	decided bool // by a rule without arguments
	action  uint32
	rules   []rule
}

// ruled tells whether the call gets another answer than the default, at least for
// some arguments.
func (c *call) ruled() bool { return c.decided || len(c.rules) > 0 }

// rule answers a call whose arguments meet all conditions.
type rule struct {
	conditions []condition
	action     uint32
}

// condition compares one argument. The mask is applied for OpMaskedEqual only.
type condition struct {
	index       uint
	op          specs.LinuxSeccompOperator
	mask, value uint64
}

// newPolicy resolves a profile for a program of architecture own.
func newPolicy(p *specs.LinuxSeccomp, own *arch) (*policy, error) {
	if err := checkListener(p); err != nil {
		return nil, err
	}
	if _, err := Flags(p); err != nil {
		return nil, err
	}
	list, err := findArchs(p.Architectures, own)
	if err != nil {
		return nil, err
	}
	fallback, err := actionValue(p.DefaultAction, p.DefaultErrnoRet)
	if err != nil {
		return nil, errdefs.New(errdefs.ErrInvalid, "linux.seccomp.defaultAction: %w", err)
	}
	pol := &policy{archs: list, fallback: fallback, unknown: fallback, calls: make([]call, len(syscalls))}
	if !permissive(p.DefaultAction) {
		pol.unknown = unix.SECCOMP_RET_ERRNO | uint32(unix.ENOSYS)
	}
	for i := range p.Syscalls {
		if err := pol.add(&p.Syscalls[i]); err != nil {
			return nil, errdefs.New(errdefs.ErrInvalid, "linux.seccomp.syscalls[%d]: %w", i, err)
		}
	}
	pol.multiplex()
	return pol, nil
}

// permissive tells whether a default action lets calls through.
func permissive(a specs.LinuxSeccompAction) bool {
	return a == specs.ActAllow || a == specs.ActLog
}

// add enters one entry of the profile.
func (p *policy) add(s *specs.LinuxSyscall) error {
	if len(s.Names) == 0 {
		return errdefs.New(errdefs.ErrInvalid, "names is empty")
	}
	action, err := actionValue(s.Action, s.ErrnoRet)
	if err != nil {
		return err
	}
	rules, err := newRules(s.Args, action)
	if err != nil {
		return err
	}
	row := 0
	for _, name := range s.Names {
		found, ok := findBehind(row, name)
		if !ok {
			continue
		}
		row = found
		p.calls[row].named = true
		if action != p.fallback {
			p.calls[row].add(rules, action)
		}
	}
	return nil
}

// add enters rules for a call; none means an action without conditions.
func (c *call) add(rules []rule, action uint32) {
	if len(rules) > 0 {
		c.rules = append(c.rules, rules...)
	} else if !c.decided {
		c.decided, c.action = true, action
	}
}

// findRow looks a name up in the table.
func findRow(name string) (int, bool) {
	low, high := 0, len(syscalls)
	for low < high {
		middle := (low + high) / 2
		if syscalls[middle].name < name {
			low = middle + 1
		} else {
			high = middle
		}
	}
	return low, low < len(syscalls) && syscalls[low].name == name
}

// findBehind looks a name up, first in the rows behind one: profiles list names in
// alphabetical order, as the table does.
func findBehind(row int, name string) (int, bool) {
	for i := row; i < min(row+4, len(syscalls)); i++ {
		if syscalls[i].name == name {
			return i, true
		}
	}
	return findRow(name)
}

// newRules turns the arguments of an entry into rules: one that demands them all,
// or, if two of them look at the same argument, one for each. The latter is what
// runc and crun do, and profiles use it as "or".
func newRules(args []specs.LinuxSeccompArg, action uint32) ([]rule, error) {
	if len(args) == 0 {
		return nil, nil
	}
	var conditions []condition
	var used [6]bool
	repeated := false
	for i := range args {
		c, err := newCondition(&args[i])
		if err != nil {
			return nil, errdefs.New(errdefs.ErrInvalid, "args[%d]: %w", i, err)
		}
		conditions = append(conditions, c)
		repeated = repeated || used[c.index]
		used[c.index] = true
	}
	if !repeated {
		return []rule{{conditions, action}}, nil
	}
	var rules []rule
	for i := range conditions {
		rules = append(rules, rule{conditions[i : i+1], action})
	}
	return rules, nil
}

// newCondition checks one argument of an entry.
func newCondition(a *specs.LinuxSeccompArg) (condition, error) {
	if a.Index > 5 {
		return condition{}, errdefs.New(errdefs.ErrInvalid, "index %d is larger than 5", a.Index)
	}
	c := condition{index: a.Index, op: a.Op, value: a.Value}
	switch a.Op {
	case specs.OpNotEqual, specs.OpLessThan, specs.OpLessEqual, specs.OpEqualTo, specs.OpGreaterEqual, specs.OpGreaterThan:
	case specs.OpMaskedEqual:
		c.mask, c.value = a.Value, a.ValueTwo
	default:
		return condition{}, errdefs.New(errdefs.ErrInvalid, "unknown operator %q", a.Op)
	}
	return c, nil
}

// actionValue returns what a filter returns for an action: linux/seccomp.h.
func actionValue(a specs.LinuxSeccompAction, errno *uint) (uint32, error) {
	number := uint32(unix.EPERM)
	if errno != nil {
		if *errno > maxErrno {
			return 0, errdefs.New(errdefs.ErrInvalid, "errno %d is larger than %d", *errno, maxErrno)
		}
		number = uint32(*errno)
	}
	switch a {
	case specs.ActErrno:
		return unix.SECCOMP_RET_ERRNO | number, nil
	case specs.ActTrace:
		return unix.SECCOMP_RET_TRACE | number, nil
	}
	value, ok := plainAction(a)
	if !ok {
		return 0, errdefs.New(errdefs.ErrInvalid, "unknown action %q", a)
	}
	if errno != nil {
		return 0, errdefs.New(errdefs.ErrInvalid, "action %s takes no errno", a)
	}
	return value, nil
}

// plainAction returns the value of an action without parameter.
func plainAction(a specs.LinuxSeccompAction) (value uint32, known bool) {
	switch a {
	case specs.ActAllow:
		return unix.SECCOMP_RET_ALLOW, true
	case specs.ActLog:
		return unix.SECCOMP_RET_LOG, true
	case specs.ActTrap:
		return unix.SECCOMP_RET_TRAP, true
	case specs.ActKill, specs.ActKillThread:
		return unix.SECCOMP_RET_KILL_THREAD, true
	case specs.ActKillProcess:
		return unix.SECCOMP_RET_KILL_PROCESS, true
	case specs.ActNotify:
		return unix.SECCOMP_RET_USER_NOTIF, true
	}
	return 0, false
}

// multiplexers are the calls through which 32-bit x86 reaches others, by the
// number in the first argument. Names are in the order of those numbers:
// linux/net.h and linux/ipc.h. No other architecture here has them.
var multiplexers = []struct {
	via   string
	mask  uint64 // of the number: ipc(2) has a version above it
	first uint64
	names []string
}{
	{"socketcall", 1<<32 - 1, 1, []string{
		"socket", "bind", "connect", "listen", "accept", "getsockname", "getpeername",
		"socketpair", "send", "recv", "sendto", "recvfrom", "shutdown", "setsockopt",
		"getsockopt", "sendmsg", "recvmsg", "accept4", "recvmmsg", "sendmmsg",
	}},
	{"ipc", 0xffff, 1, []string{"semop", "semget", "semctl", "semtimedop"}},
	{"ipc", 0xffff, 11, []string{"msgsnd", "msgrcv", "msgget", "msgctl"}},
	{"ipc", 0xffff, 21, []string{"shmat", "shmdt", "shmget", "shmctl"}},
}

// multiplex copies actions without conditions to the other way of making a call.
// Those with conditions cannot be copied: the arguments are in memory there.
func (p *policy) multiplex() {
	for _, m := range multiplexers {
		row, _ := findRow(m.via)
		via := &p.calls[row]
		for i, name := range m.names {
			row, ok := findRow(name)
			if !ok || !p.calls[row].decided || via.decided {
				continue
			}
			number := condition{op: specs.OpMaskedEqual, mask: m.mask, value: m.first + uint64(i)}
			via.rules = append(via.rules, rule{[]condition{number}, p.calls[row].action})
		}
	}
}
