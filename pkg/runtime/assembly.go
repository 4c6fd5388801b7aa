package runtime

import (
	"errors"

	"golang.org/x/sys/unix"

	"box/pkg/launch"
)

// The marks of a program, in order: what Process.Report returns as it gets there.
const (
	markHooks = "reach the hooks" // everything is mounted, pivot_root has not happened
	markReady = "report ready"    // nothing but the wait for start and execve is left
)

// word is the message on every pipe and fifo between us and a program: one byte,
// of which only the arrival counts. End of file instead means that the other side
// is dead, and then neither side goes on.
const word = "."

// assembly is a plan in the making.
type assembly struct {
	plan *launch.Plan
	// words has the sentence for the failure of a step, by step number, where
	// "name: errno" is not what callers look for.
	words map[int]func(unix.Errno) string

	stat    *launch.Data // buffer of the probe, one for all candidates
	command launch.Slot  // path of the command, once it is found
	found   launch.Label // where the probe goes on then
}

func newAssembly(reportFD int) *assembly {
	return &assembly{
		plan:  &launch.Plan{ReportFD: reportFD},
		words: map[int]func(unix.Errno) string{},
		stat:  launch.Buffer("stat", statxSize),
	}
}

func (b *assembly) add(steps ...launch.Step) { b.plan.Add(steps...) }

// say adds a step whose failure has words of its own.
func (b *assembly) say(s launch.Step, words func(unix.Errno) string) {
	b.words[b.plan.Len()] = words
	b.add(s)
}

// explain gives a step's failure its words.
func (b *assembly) explain(err error) error {
	failed, ok := errors.AsType[*launch.StepError](err)
	if !ok {
		return err
	}
	if words := b.words[failed.Index]; words != nil {
		return &stepFailure{words(failed.Errno), failed}
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

// begin adds the first steps of every program.
func (b *assembly) begin() {
	b.add(
		launch.Step{
			Name: "become untraceable", Call: launch.Prctl,
			Args: []launch.Arg{launch.Int(unix.PR_SET_DUMPABLE), launch.Int(0)},
			Why:  "first of all: a container that is joined could trace us and take our descriptors (CVE-2016-9962)",
		},
		launch.Step{
			Name: "clear the umask", Call: launch.Umask, Args: []launch.Arg{launch.Int(0)},
			Why: "files and directories get the modes that the spec gives them",
		},
		launch.Step{
			Name: "create a session", Call: launch.Setsid,
			Why: "the command is its leader, and the terminal of whoever called us is none of its business",
		},
	)
}

// execute adds the last step. Its failure is not about the probe's findings any
// more: a missing interpreter, a wrong format.
func (b *assembly) execute(args, env []string) {
	b.say(launch.Step{
		Name: "execute " + args[0], Call: launch.Execve,
		Args: []launch.Arg{b.command, launch.Strings(args), launch.Strings(env)},
		Why:  "the program ends here; the command takes its place",
	}, func(e unix.Errno) string { return execFailure(args[0], e) })
}

// execFailure are runc's words for a failed execve.
func execFailure(command string, e unix.Errno) string { return "exec " + command + ": " + e.Error() }

// waitForStart adds the wait between create and start, and sends what fails after
// it to whoever has started us: create is gone by then.
func (b *assembly) waitForStart(fds *descriptors) {
	b.plan.Await(launch.Int(fds.start), "wait for start", "create is done")
	b.add(launch.Step{
		Name: "report to start from here on", Call: launch.Set, Into: launch.Report,
		Args: []launch.Arg{launch.Int(fds.result)},
		Why:  "close-on-exec: end of file tells start that the command was executed, a record that it was not",
	})
}
