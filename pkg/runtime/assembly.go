package runtime

import (
	"errors"
	"fmt"
	"strings"

	"golang.org/x/sys/unix"

	"box/pkg/launch"
	"box/pkg/rootfs"
)

// The marks of a program, in order: what Process.Report returns as it gets there.
const (
	markBorn    = "report the final process"                // the program will not change its number any more
	markHooks   = "reach the hooks"                         // everything is mounted, pivot_root has not happened
	markReady   = "report ready"                            // nothing but the wait for start and execve is left
	markEntered = "report the entry into the pid namespace" // of a process that joins; only where the parent waits for it
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
	root  *rootfs.Rootfs // has more words, for the mounts; nil for exec and hooks
	last  int            // number of the execve step
	name  string         // argv[0] of the command

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
	if b.last > 0 && failed.Index == b.last {
		return &ExecError{b.name, failed.Errno}
	}
	if words := b.words[failed.Index]; words != nil {
		return &stepFailure{words(failed.Errno), failed}
	}
	if b.root != nil {
		if words := b.root.Words(failed.Index); words != "" {
			return &stepFailure{words + failed.Error(), failed}
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

// execute adds the last step, whose failure is told to whoever listens. It is not
// about the probe's findings any more.
func (b *assembly) execute(args, env []string, allow ...launch.Allow) {
	b.last = b.plan.Len()
	b.add(launch.Step{
		Name: "execute " + args[0], Call: launch.Execve,
		Args:  []launch.Arg{b.command, launch.Strings(args), launch.Strings(env)},
		Allow: allow,
		Why:   "the program ends here; the command takes its place",
	})
	b.name = args[0]
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
func (b *assembly) executeAndTell(args, env []string) {
	allow := make([]launch.Allow, 0, len(execFailures))
	for _, errno := range execFailures {
		allow = append(allow, launch.Allow{Errno: errno, To: b.plan.Label()})
	}
	end := b.plan.Label()
	b.execute(args, env, allow...)
	for _, a := range allow {
		text := (&ExecError{args[0], a.Errno}).Error() + "\n"
		b.plan.Place(a.To)
		b.add(launch.Step{
			Name: "say that it is not executable", Call: launch.Write,
			Args:  []launch.Arg{launch.Int(unix.Stderr), launch.Text(text), launch.Int(len(text))},
			Allow: []launch.Allow{{Errno: launch.AnyErrno, To: end}}, Then: end,
			Why: "the reason is in the command's file: its users look at its stderr",
		})
	}
	b.plan.Place(end)
	b.add(launch.Step{
		Name: "end as an init that has failed", Call: launch.ExitGroup, Args: []launch.Arg{launch.Int(failedInit)},
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
func (b *assembly) waitForStart(fds *descriptors) {
	b.plan.Await(launch.Int(fds.start), "wait for start", "create is done")
	b.add(launch.Step{
		Name: "report to start from here on", Call: launch.Set, Into: launch.Report,
		Args: []launch.Arg{launch.Int(fds.start)},
		Why:  "close-on-exec: that nobody has it open tells start that the command was executed, a record in it that it was not",
	})
}

// Offsets in struct statx (statx(2)).
const (
	statxSize  = 256
	statxMode  = 28
	statxMajor = 128
	statxMinor = 132
)

// probe adds the steps that look for the command with the command's own
// credentials, so that create (not start, and not the container's stderr) says
// that it is missing. The words are runc's: engines derive the exit codes 126 and
// 127 from them. The path that was found is left in b.command.
func (b *assembly) probe(p *process) {
	name := p.spec.Args[0]
	b.command = b.plan.Slot("command")
	b.found = b.plan.Label()
	if p.enter && (strings.HasPrefix(name, "/proc/") || strings.HasPrefix(name, "/dev/")) {
		b.choose(name) // for itself, which it is not yet, /proc/self leads elsewhere or nowhere
		return
	}
	if strings.Contains(name, "/") {
		b.probePath(name)
		b.plan.Place(b.found)
		return
	}
	if path, ok := environment(p.spec.Env, "PATH"); ok {
		for _, dir := range strings.Split(path, ":") {
			b.candidate(join(dir, name))
		}
	}
	b.say(launch.Step{
		Name: "find " + name + " in PATH", Call: launch.Set,
		Args: []launch.Arg{launch.Int(-int(unix.ENOENT))}, Into: b.command,
		Why: "no directory of PATH has it, or there is no PATH; callers make exit code 127 of these words",
	}, func(unix.Errno) string { return fmt.Sprintf("exec: %q: executable file not found in $PATH", name) })
	b.plan.Place(b.found)
}

// join is path.Join without its cleaning: the kernel resolves the path, and the
// command sees in its argv what the user wrote. An empty entry of PATH is the
// working directory (execvp(3)).
func join(dir, name string) string {
	if dir == "" {
		return "./" + name
	}
	return strings.TrimSuffix(dir, "/") + "/" + name
}

// probePath probes a command that is given by path; each refusal has its words.
func (b *assembly) probePath(path string) {
	buf, mode := launch.Buffer("stat", statxSize), b.plan.Slot("mode")
	words := func(e unix.Errno) string {
		if e == unix.EACCES {
			return fmt.Sprintf("exec: %q: permission denied", path)
		}
		return fmt.Sprintf("exec: %q: stat %s: %s", path, path, e.Error())
	}
	for _, s := range regularFile(path, buf, mode) {
		b.say(s, words)
	}
	b.choose(path)
}

// choose takes a path for the command as it is.
func (b *assembly) choose(path string) {
	b.add(launch.Step{
		Name: "choose " + path, Call: launch.Set, Args: []launch.Arg{launch.Text(path)}, Into: b.command,
		Why: "this is what will be executed",
	})
}

// candidate probes one entry of PATH; whatever is wrong with it, the next is tried.
func (b *assembly) candidate(path string) {
	buf, mode := b.stat, b.plan.Slot("mode")
	next := b.plan.Label()
	for _, s := range regularFile(path, buf, mode) {
		s.Allow = []launch.Allow{{Errno: launch.AnyErrno, To: next}}
		b.add(s)
	}
	b.add(launch.Step{
		Name: "choose " + path, Call: launch.Set, Args: []launch.Arg{launch.Text(path)}, Into: b.command,
		Why: "the first that fits", Then: b.found,
	})
	b.plan.Place(next)
}

// regularFile are the steps that succeed if path is an executable regular file.
func regularFile(path string, buf *launch.Data, mode launch.Slot) []launch.Step {
	return []launch.Step{
		{
			Name: "look for " + path, Call: launch.Faccessat2,
			Args: []launch.Arg{launch.Cwd, launch.Text(path), launch.Int(unix.X_OK), launch.Int(unix.AT_EACCESS)},
			Why:  "with the command's own credentials",
		},
		{
			Name: "stat " + path, Call: launch.Statx,
			Args: []launch.Arg{launch.Cwd, launch.Text(path), launch.Nil, launch.Int(unix.STATX_TYPE), buf},
			Why:  "directories can be executable too",
		},
		{
			Name: "read the type of " + path, Call: launch.Load, Into: mode, Args: []launch.Arg{buf.At(statxMode)},
			Why: "for the next step",
		},
		{
			Name: "check that " + path + " is a file", Call: launch.Expect,
			Args: []launch.Arg{mode, launch.Int(unix.S_IFMT), launch.Int(unix.S_IFREG), launch.Int(unix.EACCES)},
			Why:  "execve would refuse anything else with the same errno",
		},
	}
}
