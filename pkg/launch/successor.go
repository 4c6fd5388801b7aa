package launch

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// Successor adds the steps by which the program goes on as another process: a copy of
// it, which is born into the pid namespace that an earlier step has joined (setns(2):
// the caller itself never moves). The copy takes over everything but the pid, the session
// and the locks; it is the child of the program's parent (CLONE_PARENT), which finds it
// in Process.Pid and Process.Pidfd as soon as it has read a later report, or the end of
// them. The process before it ends.
//
// Signals are blocked meanwhile: one that killed the first process between the fork and
// the report would leave a successor that nobody knows of.
func (p *Plan) Successor(name, why string) {
	const how, size = 2, 8 // SIG_SETMASK, sizeof(kernel sigset_t)
	all := Bytes([]byte{255, 255, 255, 255, 255, 255, 255, 255}, func() string { return "[all]" })
	before, pid := Buffer("signals blocked before", size), p.Slot("successor")
	old, child := p.Label(), p.Label()
	p.Add(
		Step{
			Name: name, Why: "no signal may come between the fork and the report of it",
			Call: RtSigprocmask, Args: Args{Int(how), all, before, Int(size)},
		},
		Step{
			Name: name, Why: why, Call: Clone, Into: pid,
			Args: Args{Int(unix.CLONE_PARENT | int(unix.SIGCHLD)), Nil, Nil, Nil, Nil},
		},
		Step{
			Name: name, Why: "clone returns twice, 0 in the new process", Call: Expect,
			Args: Args{pid, Int(-1), Int(0), Int(unix.ECHILD)}, Allow: []Allow{{Errno: unix.ECHILD, To: old}}, Then: child,
		},
	)
	p.Place(old)
	p.MarkValue(name, "the parent must know whom to wait for", pid)
	p.successor = p.Len() - 1
	p.Add(Step{
		Name: name, Why: "the work goes on in the new process", Call: ExitGroup, Args: Args{Int(0)},
	})
	p.Place(child)
	p.Add(Step{
		Name: name, Why: "as it was", Call: RtSigprocmask, Args: Args{Int(how), before, Nil, Int(size)},
	})
}

// nextRecord reads the next record of the program, in the order of its steps: what a
// successor writes may come before the first process's report of it.
func (p *Process) nextRecord() (Record, error) {
	for {
		if p.succeeded && len(p.early) > 0 {
			r := p.early[0]
			p.early = p.early[1:]
			return r, nil
		}
		r, err := ReadRecord(p.report)
		switch mark := p.plan.successor; {
		case err != nil, mark == 0, p.succeeded, r.Step < mark, r.Step == mark && r.Errno != 0:
			return r, err
		case r.Step > mark:
			p.early = append(p.early, r)
		default:
			if err := p.succeed(int(r.Value)); err != nil {
				return r, err
			}
		}
	}
}

// succeed puts the successor with that pid in the place of the process. Its pidfd takes
// the number of the first one's: who sends signals there (Relay) need not be told.
func (p *Process) succeed(pid int) error {
	if _, err := p.Wait(); err != nil {
		return fmt.Errorf("wait for launch program: %w", err)
	}
	p.succeeded = true
	p.Pid = pid // a child of ours that was not waited for: the number cannot pass on
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		_ = unix.Kill(pid, unix.SIGKILL) // Kill could not reach it: it goes by the pidfd
		return os.NewSyscallError("pidfd_open", err)
	}
	return errors.Join(
		os.NewSyscallError("dup3", unix.Dup3(fd, int(p.Pidfd.Fd()), unix.O_CLOEXEC)),
		unix.Close(fd),
	)
}
