package launch

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"

	"box/internal/admit"
)

// Attr is how a program is started.
type Attr struct {
	// Name is the program's argv[0], which ps shows until the container's command
	// is executed. The default is "box-launch".
	Name string
	// Files become the program's descriptors 0, 1, 2 …; nil entries stay closed.
	// The report pipe is put at the plan's ReportFD, which must be free.
	Files []*os.File
	// Env is the environment of the program itself, normally none: the container's
	// is an argument of its execve step.
	Env []string
	// Dir is the program's working directory; empty means the caller's.
	Dir string
	// Sys holds clone flags, id maps, cgroup, ambient capabilities … Start sets PidFD.
	Sys syscall.SysProcAttr
}

// Process is a started program and, after its execve, what became of it.
type Process struct {
	Pid int
	// Pidfd is bound to the process; Close closes it.
	Pidfd *os.File

	plan   *Plan
	report *os.File
	// early is what a successor has written before it was known that there is one, and
	// succeeded says that it is.
	early     []Record
	succeeded bool
}

// Start runs the program. On success the caller owns the Process: it reads reports
// until they end, reaps the child, and closes. The calling thread is the one that
// forks, so what it has entered by setns is what the program inherits. As a side
// effect, all descriptors of this process from 3 up become close-on-exec.
func (p *Program) Start(attr Attr) (*Process, error) {
	report, write, err := reportPipe()
	if err != nil {
		return nil, err
	}
	defer write.Close()
	files, err := p.descriptors(attr.Files, write)
	if err != nil {
		report.Close()
		return nil, err
	}
	if attr.Name == "" {
		attr.Name = memfdName
	}
	// What this process itself has inherited without close-on-exec (from a shell, an
	// engine) must not reach the program (CVE-2024-21626). The files handed over are
	// duplicated in the child and so not affected.
	if err := unix.CloseRange(3, ^uint(0), unix.CLOSE_RANGE_CLOEXEC); err != nil {
		report.Close()
		return nil, fmt.Errorf("mark descriptors close-on-exec: %w", err)
	}
	program, err := p.outOfReach(files)
	if err != nil {
		report.Close()
		return nil, err
	}
	defer unix.Close(program)
	pidfd := -1
	attr.Sys.PidFD = &pidfd
	path := "/proc/self/fd/" + strconv.Itoa(program)
	done := admit.StartingAtOnce()
	pid, err := syscall.ForkExec(path, []string{attr.Name}, &syscall.ProcAttr{
		Dir: attr.Dir, Env: attr.Env, Files: files, Sys: &attr.Sys,
	})
	done()
	runtime.KeepAlive(attr.Files) // by number until here: a finalizer must not close them
	if err != nil {
		report.Close()
		return nil, fmt.Errorf("start launch program: %w", err)
	}
	return &Process{Pid: pid, Pidfd: os.NewFile(uintptr(pidfd), "pidfd of "+strconv.Itoa(pid)), plan: p.plan, report: report}, nil
}

// reportPipe is blocking on both ends: the program writes to it, and Report needs no
// poller for one read.
func reportPipe() (read, write *os.File, err error) {
	var fds [2]int
	if err := unix.Pipe2(fds[:], unix.O_CLOEXEC); err != nil {
		return nil, nil, fmt.Errorf("create report pipe: %w", err)
	}
	return os.NewFile(uintptr(fds[0]), "report pipe"), os.NewFile(uintptr(fds[1]), "report pipe"), nil
}

// outOfReach duplicates the program's descriptor above all those that the child uses
// while it puts its files in their places, which it does before the execve looks the
// program up: first copies of the files, and one of its error pipe, above the highest
// of them.
func (p *Program) outOfReach(files []uintptr) (int, error) {
	highest := uintptr(len(files))
	for _, f := range files {
		if f != closed {
			highest = max(highest, f)
		}
	}
	above := int(highest) + len(files) + 3
	fd, err := unix.FcntlInt(p.file.Fd(), unix.F_DUPFD_CLOEXEC, above)
	if err == unix.EINVAL { // the limit is not above that (fcntl(2))
		err = unix.EMFILE
	}
	if err != nil {
		return -1, fmt.Errorf("start launch program: duplicate its descriptor to %d or above: %w", above, err)
	}
	return fd, nil
}

// closed is how ForkExec wants to be told that a descriptor stays closed.
const closed = ^uintptr(0)

// descriptors lays the files out as the child will have them, closed ones included.
func (p *Program) descriptors(files []*os.File, report *os.File) ([]uintptr, error) {
	fds := make([]uintptr, max(len(files), p.plan.ReportFD+1))
	for i := range fds {
		fds[i] = closed
		if i < len(files) && files[i] != nil {
			fds[i] = files[i].Fd()
		}
	}
	if fds[p.plan.ReportFD] != closed {
		return nil, fmt.Errorf("start launch program: descriptor %d is given away, and needed for reports", p.plan.ReportFD)
	}
	fds[p.plan.ReportFD] = report.Fd()
	return fds, nil
}

// StepError is the failure of one step.
type StepError struct {
	// Index is the step's number in its plan.
	Index int
	// Step is the failed step.
	Step Step
	// Errno is what its system call returned.
	Errno unix.Errno
}

// Error is the step's name and the errno in words.
func (e *StepError) Error() string {
	if e.Errno == unix.ENOSYS {
		return e.Step.Name + ": the kernel is too old, it has no " + e.Step.Call.String()
	}
	return e.Step.Name + ": " + e.Errno.Error()
}

// Unwrap gives the errno, which matches the usual errors such as fs.ErrNotExist.
func (e *StepError) Unwrap() error { return e.Errno }

// Record is one report as it travels: RecordSize bytes.
type Record struct {
	// Step is the number of the step that failed or, if Errno is zero, that has
	// been reached (Plan.Mark).
	Step  int
	Errno unix.Errno
	// Value is what a mark carries (Plan.MarkValue); 0 for all others.
	Value uint32
}

// hasValue is the bit of a record's step that tells a mark with a value, which stands
// in the place of the errno. Steps are numbered far below it.
const hasValue = 1 << 31

// RecordSize is the length of a report in bytes: less than PIPE_BUF, so that reports
// are never torn.
const RecordSize = 8

// ReadRecord reads one report. It returns io.EOF when no writer is left: the program
// has executed its command, or is dead.
func ReadRecord(r io.Reader) (Record, error) {
	var b [RecordSize]byte
	if _, err := io.ReadFull(r, b[:]); err != nil {
		if errors.Is(err, io.EOF) {
			return Record{}, io.EOF
		}
		return Record{}, fmt.Errorf("read report of launch program: %w", err)
	}
	step, second := binary.LittleEndian.Uint32(b[:]), binary.LittleEndian.Uint32(b[4:])
	if step&hasValue != 0 {
		return Record{Step: int(step &^ hasValue), Value: second}, nil
	}
	return Record{Step: int(step), Errno: unix.Errno(second)}, nil
}

// Report waits for the program's next report: the name of the mark it has reached,
// a *StepError, or io.EOF, after which there are no more.
func (p *Process) Report() (mark string, err error) {
	mark, _, err = p.ReportValue()
	return mark, err
}

// ReportValue is Report for marks that carry a value (Plan.MarkValue); it is 0 with all
// others.
func (p *Process) ReportValue() (mark string, value uint32, err error) {
	r, err := p.nextRecord()
	if err != nil {
		return "", 0, err
	}
	mark, err = p.plan.Resolve(r)
	return mark, r.Value, err
}

// Resolve turns a record into the name of the mark or the *StepError it stands for.
func (p *Plan) Resolve(r Record) (mark string, err error) {
	if r.Step >= len(p.steps) {
		return "", fmt.Errorf("read report of launch program: step %d of %d", r.Step, len(p.steps))
	}
	step := p.steps[r.Step]
	if r.Errno != 0 {
		return "", &StepError{r.Step, step, r.Errno}
	}
	return step.Name, nil
}

// Wait waits for the program (or the command it has become) to end and reaps it.
func (p *Process) Wait() (unix.WaitStatus, error) {
	var ws unix.WaitStatus
	for {
		_, err := unix.Wait4(p.Pid, &ws, 0, nil)
		if !errors.Is(err, unix.EINTR) {
			return ws, err
		}
	}
}

// Kill sends SIGKILL through the pidfd: never to a stranger with a recycled number.
func (p *Process) Kill() error {
	if err := unix.PidfdSendSignal(int(p.Pidfd.Fd()), unix.SIGKILL, nil, 0); err != nil {
		return fmt.Errorf("kill process %d: %w", p.Pid, err)
	}
	return nil
}

// Close gives the descriptors back; the process itself goes on. A program that
// reports after this is killed by SIGPIPE.
func (p *Process) Close() error {
	return errors.Join(p.report.Close(), p.Pidfd.Close())
}
