package launch

import (
	"encoding/binary"
	"errors"
	"io"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// start compiles and starts the plan with stdin, stdout and stderr of the test, and
// the report pipe at 3.
func start(t *testing.T, p *Plan, attr Attr) *Process {
	t.Helper()
	p.ReportFD = 3
	prog, err := NewProgram(p)
	if err != nil {
		t.Fatal(err)
	}
	defer prog.Close()
	proc, err := prog.Start(attr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { proc.Close() })
	return proc
}

// finish reads all reports and reaps the process.
func finish(t *testing.T, proc *Process) (marks []string, status int, failure error) {
	t.Helper()
	for {
		mark, err := proc.Report()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			failure = err
			continue
		}
		marks = append(marks, mark)
	}
	ws, err := proc.Wait()
	if err != nil {
		t.Fatal(err)
	}
	return marks, ws.ExitStatus(), failure
}

func write(text string) Step {
	return Step{Name: "write " + text, Call: Write, Args: Args{Int(1), Text(text), Int(len(text))}}
}

// output runs the plan and returns what it has written to descriptor 1.
func output(t *testing.T, p *Plan) (string, int, error) {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	proc := start(t, p, Attr{Files: []*os.File{nil, w}})
	w.Close()
	out, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	_, status, failure := finish(t, proc)
	return string(out), status, failure
}

// goTo makes an unconditional jump.
func goTo(l Label) Step { return Step{Name: "go on", Call: Set, Args: Args{Int(0)}, Then: l} }

func TestStepsRunInOrder(t *testing.T) {
	var p Plan
	p.Add(write("a"), write("b"), write("c"))
	out, status, err := output(t, &p)
	if out != "abc" || err != nil || status != 0 {
		t.Errorf("wrote %q, %v, status %d", out, err, status)
	}
}

func TestFailureNamesStep(t *testing.T) {
	var p Plan
	p.Add(write("a"), Step{Name: "open nothing", Call: Openat, Args: Args{Cwd, Text("/nonexistent")}}, write("b"))
	out, status, err := output(t, &p)
	var step *StepError
	if !errors.As(err, &step) || step.Index != 1 || !errors.Is(err, os.ErrNotExist) {
		t.Errorf("error = %#v", err)
	}
	if err.Error() != "open nothing: no such file or directory" || out != "a" || status != 1 {
		t.Errorf("error %q, wrote %q, status %d", err, out, status)
	}
}

func TestJumps(t *testing.T) {
	missing := Step{Name: "open nothing", Call: Openat, Args: Args{Cwd, Text("/nonexistent")}}
	for _, c := range []struct {
		name  string
		build func(p *Plan, l Label) Step
		want  string
	}{
		{"no jump on success", func(_ *Plan, l Label) Step { s := write("1"); s.Allow = []Allow{{unix.EBADF, l}}; return s }, "1xy"},
		{"then", func(_ *Plan, l Label) Step { s := write("1"); s.Then = l; return s }, "1y"},
		{"goto", func(_ *Plan, l Label) Step { return goTo(l) }, "y"},
		{"tolerated, next", func(*Plan, Label) Step { s := missing; s.Allow = []Allow{{Errno: unix.ENOENT}}; return s }, "xy"},
		{"tolerated, jump", func(_ *Plan, l Label) Step { s := missing; s.Allow = []Allow{{unix.ENOENT, l}}; return s }, "y"},
		{"any", func(_ *Plan, l Label) Step { s := missing; s.Allow = []Allow{{unix.EPERM, 0}, {AnyErrno, l}}; return s }, "y"},
		{"fourth", func(_ *Plan, l Label) Step {
			s := missing
			s.Allow = []Allow{{Errno: unix.EPERM}, {Errno: unix.EIO}, {Errno: unix.EBADF}, {unix.ENOENT, l}}
			return s
		}, "y"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var p Plan
			l := p.Label()
			p.Add(c.build(&p, l), write("x"))
			p.Place(l)
			p.Add(write("y"))
			if out, status, err := output(t, &p); out != c.want || err != nil || status != 0 {
				t.Errorf("wrote %q, want %q; %v, status %d", out, c.want, err, status)
			}
		})
	}
}

func TestUntoleratedErrnoFails(t *testing.T) {
	var p Plan
	p.Add(Step{
		Name: "open nothing", Call: Openat, Args: Args{Cwd, Text("/nonexistent")},
		Allow: []Allow{{Errno: unix.EPERM}, {Errno: unix.EIO}, {Errno: unix.EBADF}, {Errno: unix.EEXIST}},
	})
	if _, _, err := output(t, &p); !errors.Is(err, unix.ENOENT) {
		t.Errorf("error = %v, want ENOENT", err)
	}
}

func TestLoopEnds(t *testing.T) {
	// close(fd) succeeds once and then fails: a backward jump runs twice.
	var p Plan
	fd, again, out := p.Slot("fd"), p.Label(), p.Label()
	p.Add(Step{Name: "open", Call: Openat, Args: Args{Cwd, Text("/")}, Into: fd})
	p.Place(again)
	p.Add(write("."), Step{Name: "close", Call: Close, Args: Args{fd}, Allow: []Allow{{unix.EBADF, out}}, Then: again})
	p.Place(out)
	p.Add(write("!"))
	if got, _, err := output(t, &p); got != "..!" || err != nil {
		t.Errorf("wrote %q, %v", got, err)
	}
}

func TestPseudoCalls(t *testing.T) {
	var p Plan
	word := Bytes(make([]byte, 16), nil)
	a, b, c, failed := p.Slot("a"), p.Slot("b"), p.Slot("c"), p.Slot("failed")
	bad := p.Label()
	p.Add(
		Step{Name: "set", Call: Set, Args: Args{Int(0x1234567890)}, Into: a},
		Step{Name: "store", Call: Store, Args: Args{word.At(4), a}},
		Step{Name: "load", Call: Load, Args: Args{word.At(4)}, Into: b},
		Step{Name: "expect 32 bits", Call: Expect, Args: Args{b, Int(-1), Int(0x34567890), Int(unix.EIO)}},
		Step{Name: "store 64", Call: Store64, Args: Args{word.At(8), a}},
		Step{Name: "load high", Call: Load, Args: Args{word.At(12)}, Into: c},
		Step{Name: "expect high", Call: Expect, Args: Args{c, Int(0xff), Int(0x12), Int(unix.EIO)}},
		Step{Name: "fail tolerated", Call: Expect, Args: Args{c, Int(-1), Int(0), Int(unix.EPROTO)}, Into: failed, Allow: []Allow{{unix.EPROTO, 0}}},
		Step{Name: "expect errno", Call: Expect, Args: Args{failed, Int(-1), Int(-int64(unix.EPROTO)), Int(unix.EIO)}},
		write("ok"),
		Fail("refuse", "", unix.EXDEV),
	)
	p.Place(bad)
	out, _, err := output(t, &p)
	if out != "ok" || !errors.Is(err, unix.EXDEV) {
		t.Errorf("wrote %q, %v; want ok and EXDEV", out, err)
	}
}

func TestPointersAndExec(t *testing.T) {
	var p Plan
	argv := Strings([]string{"sh", "-c", "echo $0 $A", "arg zero"})
	env := Strings([]string{"A=1", "B=2"})
	noent := []Allow{{Errno: unix.ENOENT}}
	p.Add(
		Step{Name: "exec first", Call: Execve, Args: Args{Text("/nonexistent/sh"), argv, env}, Allow: noent},
		Step{Name: "exec second", Call: Execve, Args: Args{Text("/bin/sh"), argv, env}},
	)
	if out, status, err := output(t, &p); out != "arg zero 1\n" || err != nil || status != 0 {
		t.Errorf("wrote %q, %v, status %d", out, err, status)
	}
}

func TestMarkAndAwait(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	for _, c := range []struct {
		word string
		want error
	}{{"x", nil}, {"", unix.ECANCELED}} {
		var p Plan
		p.Mark("ready", "")
		p.Await(Int(0), "wait for the word", "")
		p.Mark("gone on", "")
		proc := start(t, &p, Attr{Files: []*os.File{r}})
		if mark, err := proc.Report(); mark != "ready" || err != nil {
			t.Fatalf("first report = %q, %v", mark, err)
		}
		if c.word == "" {
			w.Close()
		} else if _, err := w.WriteString(c.word); err != nil {
			t.Fatal(err)
		}
		mark, err := proc.Report()
		if !errors.Is(err, c.want) || (err == nil) != (mark == "gone on") {
			t.Errorf("after word %q: %q, %v; want error %v", c.word, mark, err, c.want)
		}
		finish(t, proc)
	}
	r.Close()
}

func TestProgramHasOnlyItsFiles(t *testing.T) {
	var p Plan
	p.Add(Step{Name: "exec", Call: Execve, Args: Args{
		Text("/bin/sh"), Strings([]string{"sh", "-c", "ls /proc/$$/fd; tr '\\0' ' ' < /proc/$$/environ"}), Strings([]string{"PATH=/bin"}),
	}})
	stray, err := unix.Open("/", unix.O_RDONLY, 0) // not close-on-exec
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(stray)
	out, _, failure := output(t, &p)
	if out != "1\n3\nPATH=/bin " || failure != nil {
		t.Errorf("program sees %q, %v", out, failure)
	}
}

func TestForkedChildGoesOnAlone(t *testing.T) {
	var p Plan
	pid, child, end := p.Slot("pid"), p.Label(), p.Label()
	p.Add(
		Step{Name: "fork", Call: Clone, Args: Args{Int(unix.SIGCHLD)}, Into: pid},
		Step{Name: "parent?", Call: Expect, Args: Args{pid, Int(-1), Int(0), Int(unix.EAGAIN)}, Allow: []Allow{{unix.EAGAIN, 0}}, Then: child},
		Step{Name: "wait for child", Call: Wait4, Args: Args{pid, Nil, Int(0), Nil}},
		write("parent"), goTo(end),
	)
	p.Place(child)
	p.Add(write("child "), Step{Name: "exit", Call: ExitGroup, Args: Args{Int(0)}})
	p.Place(end)
	if out, _, err := output(t, &p); out != "child parent" || err != nil {
		t.Errorf("wrote %q, %v", out, err)
	}
}

func TestCompileRefusesNonsense(t *testing.T) {
	for _, c := range []struct {
		name  string
		build func(p *Plan)
	}{
		{"unplaced label", func(p *Plan) { p.Add(goTo(p.Label())) }},
		{"unwritten slot", func(p *Plan) { p.Add(Step{Call: Close, Args: Args{p.Slot("x")}}) }},
		{"foreign slot", func(p *Plan) { p.Add(Step{Call: Close, Args: Args{Slot(99)}}) }},
		{"foreign result", func(p *Plan) { p.Add(Step{Call: Close, Into: 99}) }},
		{"unknown call", func(p *Plan) { p.Add(Step{Call: 255}) }},
		{"five errors", func(p *Plan) { p.Add(Step{Call: Close, Allow: make([]Allow, 5)}) }},
		{"NUL in text", func(p *Plan) { p.Add(write("a\x00b")) }},
		{"address behind data", func(p *Plan) { p.Add(Step{Call: Close, Args: Args{Buffer("b", 8).At(8)}}) }},
		{"address before data", func(p *Plan) { p.Add(Step{Call: Close, Args: Args{Buffer("b", 8).At(-1)}}) }},
		{"pointer behind data", func(p *Plan) {
			d := Buffer("b", 12)
			d.Point(8, Text("x"))
			p.Add(Step{Call: Close, Args: Args{d}})
		}},
		{"too many steps", func(p *Plan) { p.Add(make([]Step, maxSteps+1)...) }},
		{"report on stderr", func(p *Plan) { p.ReportFD = 2 }},
	} {
		p := Plan{ReportFD: 3}
		c.build(&p)
		if _, err := Compile(&p, HostArch); err == nil {
			t.Errorf("%s: compiled", c.name)
		}
	}
	if _, err := Compile(&Plan{ReportFD: 3}, "riscv64"); err == nil {
		t.Error("compiled for an architecture without interpreter")
	}
}

func TestOldKernelIsNamed(t *testing.T) {
	err := &StepError{Step: Step{Name: "set propagation of /", Call: MountSetattr}, Errno: unix.ENOSYS}
	if got := err.Error(); got != "set propagation of /: the kernel is too old, it has no mount_setattr" {
		t.Error(got)
	}
}

func TestResolveRefusesForeignRecords(t *testing.T) {
	var p Plan
	p.Mark("only", "")
	if mark, err := p.Resolve(Record{}); mark != "only" || err != nil {
		t.Errorf("Resolve = %q, %v", mark, err)
	}
	if _, err := p.Resolve(Record{Step: 1}); err == nil {
		t.Error("a record of a step that is not in the plan was taken")
	}
}

func TestReadRecordOfHalfAMessage(t *testing.T) {
	if _, err := ReadRecord(strings.NewReader("")); !errors.Is(err, io.EOF) {
		t.Errorf("empty: %v", err)
	}
	if _, err := ReadRecord(strings.NewReader("1234")); err == nil || errors.Is(err, io.EOF) {
		t.Errorf("half: %v, want an error that is not the end", err)
	}
	r, err := ReadRecord(strings.NewReader("\x02\x00\x00\x00\x01\x00\x00\x00"))
	if err != nil || r != (Record{Step: 2, Errno: unix.EPERM}) {
		t.Errorf("record = %+v, %v", r, err)
	}
}

// TestFilesDoNotCoverProgram has the child move a file to the first descriptor above
// all others, with the program's own placed just there.
func TestFilesDoNotCoverProgram(t *testing.T) {
	p := Plan{ReportFD: 3}
	p.Mark("here", "to be seen")
	below := []*os.File{openNull(t), openNull(t)}
	prog, err := NewProgram(&p)
	if err != nil {
		t.Fatal(err)
	}
	defer prog.Close()
	for _, f := range below { // where the report pipe goes
		f.Close()
	}
	proc, err := prog.Start(Attr{Files: []*os.File{nil, nil, nil, nil, os.Stdin}})
	if err != nil {
		t.Fatal(err)
	}
	defer proc.Close()
	if marks, status, failure := finish(t, proc); len(marks) != 1 || failure != nil || status != 0 {
		t.Errorf("marks %q, %v, status %d", marks, failure, status)
	}
}

func openNull(t *testing.T) *os.File {
	t.Helper()
	f, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

func TestStartRefusesTakenReportDescriptor(t *testing.T) {
	p := Plan{ReportFD: 3}
	prog, err := NewProgram(&p)
	if err != nil {
		t.Fatal(err)
	}
	defer prog.Close()
	if _, err := prog.Start(Attr{Files: []*os.File{nil, nil, nil, os.Stdin}}); err == nil || !strings.Contains(err.Error(), "descriptor 3") {
		t.Errorf("error = %v", err)
	}
}

func TestMarkCarriesAValue(t *testing.T) {
	var p Plan
	value := p.Slot("value")
	p.Add(Step{Name: "make a value", Call: Set, Args: Args{Int(0x12345)}, Into: value})
	p.MarkValue("here it is", "", value)
	p.Mark("and none", "")
	proc := start(t, &p, Attr{})
	if mark, got, err := proc.ReportValue(); mark != "here it is" || got != 0x12345 || err != nil {
		t.Errorf("report = %q, %#x, %v", mark, got, err)
	}
	if mark, got, err := proc.ReportValue(); mark != "and none" || got != 0 || err != nil {
		t.Errorf("report = %q, %#x, %v", mark, got, err)
	}
	finish(t, proc)
}

// TestSuccessor: the program goes on in a copy of it, which is our child and about whom
// everything that Process offers is from then on.
func TestSuccessor(t *testing.T) {
	var p Plan
	pid, before := p.Slot("pid"), p.Slot("pid before")
	p.Add(Step{Name: "get pid", Call: Getpid, Into: before})
	p.MarkValue("before", "", before)
	p.Successor("go on as another", "")
	p.Add(Step{Name: "get pid", Call: Getpid, Into: pid})
	p.MarkValue("after", "", pid)
	p.Add(Step{Name: "end", Call: ExitGroup, Args: Args{Int(7)}})
	proc := start(t, &p, Attr{})
	first, pidfd := proc.Pid, proc.Pidfd.Fd()
	if mark, got, err := proc.ReportValue(); mark != "before" || int(got) != first || err != nil {
		t.Errorf("report = %q, %d, %v; want our pid %d", mark, got, err, first)
	}
	mark, got, err := proc.ReportValue()
	if mark != "after" || err != nil || int(got) == first || int(got) != proc.Pid || proc.Pidfd.Fd() != pidfd {
		t.Errorf("report = %q, %d, %v; first pid %d, now %d", mark, got, err, first, proc.Pid)
	}
	if err := unix.Kill(first, 0); !errors.Is(err, unix.ESRCH) {
		t.Errorf("the first process is still there: %v", err)
	}
	if n, err := unix.Poll([]unix.PollFd{{Fd: int32(proc.Pidfd.Fd()), Events: unix.POLLIN}}, 10_000); n != 1 || err != nil {
		t.Errorf("pidfd does not tell of the successor's end: %d, %v", n, err)
	}
	if ws, err := proc.Wait(); err != nil || ws.ExitStatus() != 7 {
		t.Errorf("status = %v, %v", ws.ExitStatus(), err)
	}
}

// TestFailureBehindASuccessor: a failed step is reported by whoever fails.
func TestFailureBehindASuccessor(t *testing.T) {
	var p Plan
	p.Successor("go on as another", "")
	p.Add(Fail("give up", "", unix.EXDEV))
	proc := start(t, &p, Attr{})
	if _, err := proc.Report(); !errors.Is(err, unix.EXDEV) {
		t.Errorf("report = %v", err)
	}
	finish(t, proc)
}

// TestFailureEndsTheProgram: also under a seccomp filter that forbids to exit. The steps
// behind a failed one would run with the privileges that it was to take away.
func TestFailureEndsTheProgram(t *testing.T) {
	exit := uint32(calls[ExitGroup].amd64)
	if HostArch == "arm64" {
		exit = calls[ExitGroup].arm64
	}
	code := []byte{}
	for _, i := range []unix.SockFilter{
		{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: 0}, // seccomp_data.nr
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: exit, Jf: 1},
		{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ERRNO | uint32(unix.EPERM)},
		{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ALLOW},
	} {
		code = binary.NativeEndian.AppendUint16(code, i.Code)
		code = append(code, i.Jt, i.Jf)
		code = binary.NativeEndian.AppendUint32(code, i.K)
	}
	header := Bytes(append([]byte{4}, make([]byte, 15)...), nil)
	header.Point(8, Bytes(code, nil))
	var p Plan
	p.Add(
		Step{Name: "set no_new_privs", Call: Prctl, Args: Args{Int(unix.PR_SET_NO_NEW_PRIVS), Int(1)}},
		Step{Name: "load filter", Call: Seccomp, Args: Args{Int(unix.SECCOMP_SET_MODE_FILTER), Int(0), header}},
		Fail("give privileges up", "", unix.EXDEV),
	)
	p.Mark("go on with them", "")
	proc := start(t, &p, Attr{})
	marks, _, err := finish(t, proc)
	if len(marks) != 0 || !errors.Is(err, unix.EXDEV) {
		t.Errorf("marks %q, failure %v", marks, err)
	}
}
