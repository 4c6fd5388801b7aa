package plan

import (
	"errors"

	"golang.org/x/sys/unix"

	"box/pkg/launch"
	"box/pkg/rootfs"
)

// The marks of a program, in order: what Process.Report returns as it gets there.
const (
	MarkBorn    = "report the final process"                // the program will not change its number any more
	MarkHooks   = "reach the hooks"                         // everything is mounted, pivot_root has not happened
	MarkReady   = "report ready"                            // nothing but the wait for start and execve is left
	MarkEntered = "report the entry into the pid namespace" // of a process that joins, or a hook; only where the parent waits for it
)

// Word is the message on every pipe and fifo between us and a program: one byte,
// of which only the arrival counts. End of file instead means that the other side
// is dead, and then neither side goes on.
const Word = "."

// Assembly is a plan with the words for its failures.
type Assembly struct {
	// Plan is what launch makes a program of.
	Plan *launch.Plan
	// words has the sentence for the failure of a step, by step number, where
	// "name: errno" is not what callers look for.
	words map[int]func(unix.Errno) string
	root  *rootfs.Rootfs // has more words, for the mounts; nil for exec and hooks
	last  int            // number of the execve step
	argv0 string         // of the command

	stat    *launch.Data // buffer of the probe, one for all candidates
	command launch.Slot  // path of the command, once it is found
	found   launch.Label // where the probe goes on then
}

func newAssembly(l *Layout) *Assembly {
	return &Assembly{
		Plan:  &launch.Plan{ReportFD: l.Report},
		words: map[int]func(unix.Errno) string{},
		stat:  launch.Buffer("stat", statxSize),
	}
}

func (b *Assembly) add(steps ...launch.Step) { b.Plan.Add(steps...) }

// say adds a step whose failure has words of its own.
func (b *Assembly) say(s launch.Step, words func(unix.Errno) string) {
	b.words[b.Plan.Len()] = words
	b.add(s)
}

// Explain gives a step's failure (launch.StepError) the words that callers look for: an
// ExecError for the execve itself. Other errors are returned as they are.
func (b *Assembly) Explain(err error) error {
	failed, ok := errors.AsType[*launch.StepError](err)
	if !ok {
		return err
	}
	if b.last > 0 && failed.Index == b.last {
		return &ExecError{b.argv0, failed.Errno}
	}
	if words := b.words[failed.Index]; words != nil {
		return &stepFailure{words(failed.Errno), failed}
	}
	if b.root != nil {
		if words := b.root.Explain(failed); words != "" {
			return &stepFailure{words, failed}
		}
	}
	return err
}

// stepFailure is a StepError in the words that callers look for.
type stepFailure struct {
	text string
	step *launch.StepError
}

func (e *stepFailure) Error() string { return e.text }
func (e *stepFailure) Unwrap() error { return e.step }

// begin adds the first steps of a program that makes files.
func (b *Assembly) begin() {
	b.add(
		becomeUntraceable,
		launch.Step{
			Name: "clear the umask", Call: launch.Umask, Args: launch.Args{launch.Int(0)},
			Why: "files and directories get the modes that the spec gives them",
		},
		createSession,
	)
}

// The first steps of every program that shows itself to a container.
var (
	becomeUntraceable = launch.Step{
		Name: "become untraceable", Call: launch.Prctl,
		Args: launch.Args{launch.Int(unix.PR_SET_DUMPABLE), launch.Int(0)},
		Why:  "first of all: a container that is joined could trace us and take our descriptors (CVE-2016-9962)",
	}
	createSession = launch.Step{
		Name: "create a session", Call: launch.Setsid,
		Why: "the command is its leader, and the terminal of whoever called us is none of its business",
	}
)

// execute adds the last step, whose failure is told to whoever listens. It is not
// about the probe's findings any more.
func (b *Assembly) execute(args, env []string, allow ...launch.Allow) {
	b.last = b.Plan.Len()
	b.add(launch.Step{
		Name: "execute " + args[0], Call: launch.Execve,
		Args:  launch.Args{b.command, launch.Strings(args), launch.Strings(env)},
		Allow: allow,
		Why:   "the program ends here; the command takes its place",
	})
	b.argv0 = args[0]
}

// execFailures are what may be wrong with a file that the probe found executable.
var execFailures = []unix.Errno{
	unix.ENOENT,  // its interpreter is missing
	unix.ENOEXEC, // it is neither a program of this machine nor a script
	unix.EACCES,  // its interpreter may not be executed, or its file system has noexec
	unix.E2BIG,   // arguments and environment together
}

// executeAndTell is execute for the commands of users. As with runc, what is wrong with
// the file itself is not the runtime's failure but the command's: it is written to
// the command's stderr, and the exit code is that of an init that has failed. Engines
// rely on it: to a failing start, dockerd and containerd answer by forgetting the
// container before they have seen it end.
func (b *Assembly) executeAndTell(args, env []string) {
	allow := make([]launch.Allow, 0, len(execFailures))
	for _, errno := range execFailures {
		allow = append(allow, launch.Allow{Errno: errno, To: b.Plan.Label()})
	}
	end := b.Plan.Label()
	b.execute(args, env, allow...)
	for _, a := range allow {
		text := (&ExecError{args[0], a.Errno}).Error() + "\n"
		b.Plan.Place(a.To)
		b.add(launch.Step{
			Name: "say that it is not executable", Call: launch.Write,
			Args:  launch.Args{launch.Int(unix.Stderr), launch.Text(text), launch.Int(len(text))},
			Allow: []launch.Allow{{Errno: launch.AnyErrno, To: end}}, Then: end,
			Why: "the reason is in the command's file: its users look at its stderr",
		})
	}
	b.Plan.Place(end)
	b.add(launch.Step{
		Name: "end as an init that has failed", Call: launch.ExitGroup, Args: launch.Args{launch.Int(failedInit)},
		Why: "runc's exit code for it",
	})
}

// failedInit is the exit code of a container whose command could not be executed.
const failedInit = 255

// ExecError is the failure of execve itself, when nothing else can fail any more: a
// missing interpreter, a wrong format. The words are runc's, which writes them to the
// container's stderr.
type ExecError struct {
	Command string
	Errno   unix.Errno
}

// Error is the whole message.
func (e *ExecError) Error() string { return "exec " + e.Command + ": " + e.Errno.Error() }

// Unwrap gives the errno.
func (e *ExecError) Unwrap() error { return e.Errno }

// waitForStart adds the wait between create and start, and sends what fails after
// it to whoever has started us: create is gone by then.
func (b *Assembly) waitForStart(start int) {
	b.Plan.Await(launch.Int(start), "wait for start", "create is done")
	b.add(launch.Step{
		Name: "report to start from here on", Call: launch.Set, Into: launch.Report,
		Args: launch.Args{launch.Int(start)},
		Why:  "close-on-exec: that nobody has it open tells start that the command was executed, a record in it that it was not",
	})
}
