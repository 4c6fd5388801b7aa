package ocirt

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"os/signal"
	"syscall"
)

// call is one invocation of the runtime program.
type call struct {
	verb string
	id   string
	cmd  *exec.Cmd
	log  *os.File // memfd behind --log
}

// command prepares `runtime [--root R] --log L --log-format json ARGS`.
func (r Runtime) command(ctx context.Context, args ...string) *call {
	c := &call{verb: verbOf(args), id: idOf(args)}
	global := make([]string, 0, len(args)+6)
	if r.Root != "" {
		global = append(global, "--root", r.Root)
	}
	c.log = newLog()
	if c.log != nil {
		// The path is opened by the runtime process itself: fd 3 is the first of
		// ExtraFiles.
		global = append(global, "--log", "/proc/self/fd/3", "--log-format", "json")
	}
	c.cmd = exec.CommandContext(ctx, r.Path, append(global, args...)...)
	c.cmd.Env = environment()
	if c.log != nil {
		c.cmd.ExtraFiles = []*os.File{c.log}
	}
	c.cmd.WaitDelay = drainAfterKill
	return c
}

// environment is all that a runtime gets to see of ours. XDG_RUNTIME_DIR is
// where an unprivileged runtime keeps its state.
func environment() []string {
	env := []string{"PATH=" + os.Getenv("PATH")}
	if dir := os.Getenv("XDG_RUNTIME_DIR"); dir != "" {
		env = append(env, "XDG_RUNTIME_DIR="+dir)
	}
	return env
}

func verbOf(args []string) string {
	if len(args) == 0 {
		return ""
	}
	return args[0]
}

// idOf finds the container id for error texts: the last argument, or the one
// before the signal of kill.
func idOf(args []string) string {
	switch {
	case len(args) < 2:
		return ""
	case args[0] == "kill":
		return args[len(args)-2]
	}
	return args[len(args)-1]
}

// stdio hands fds 0, 1 and 2 over as they are; nil means /dev/null.
func (c *call) stdio(io IO) {
	// A nil *os.File inside a non-nil interface would be dereferenced by
	// os/exec, hence the tests.
	if io.Stdin != nil {
		c.cmd.Stdin = io.Stdin
	}
	if io.Stdout != nil {
		c.cmd.Stdout = io.Stdout
	}
	if io.Stderr != nil {
		c.cmd.Stderr = io.Stderr
	}
}

// dieWithParent makes the kernel kill the runtime when the calling thread
// dies, so that a half-made container is not finished by an orphan.
func (c *call) dieWithParent() {
	if c.cmd.SysProcAttr == nil {
		c.cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	c.cmd.SysProcAttr.Pdeathsig = syscall.SIGKILL
}

// run starts the process, waits, and explains a failure in the runtime's words.
func (c *call) run() error {
	err := c.start()
	if err != nil {
		return err
	}
	_, err = c.wait()
	return err
}

func (c *call) start() error {
	restore := catchIgnored()
	err := c.cmd.Start()
	restore()
	if err != nil {
		c.closeLog()
		return &Error{Verb: c.verb, ID: c.id, Message: err.Error(), err: err}
	}
	return nil
}

// catchIgnored keeps the signals that we were started with as ignored (nohup(1))
// from being so in the container: that is inherited, a handler is not
// (signal(7)). Only these two can be ignored here, as os/signal says.
func catchIgnored() (restore func()) {
	caught := make(chan os.Signal, 1) // nobody reads it: still ignored
	for _, sig := range []os.Signal{syscall.SIGHUP, syscall.SIGINT} {
		if signal.Ignored(sig) {
			signal.Notify(caught, sig)
		}
	}
	return func() { signal.Stop(caught) }
}

// wait returns the exit status of the process. err is nil for status 0; else
// an *Error, whose Message is empty when the runtime itself reported nothing,
// that is, when the status is that of a container run in the foreground.
func (c *call) wait() (int, error) {
	defer c.closeLog()
	err := c.cmd.Wait()
	if err == nil {
		return 0, nil
	}
	status := -1
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		status = exitStatus(exit)
	}
	e := &Error{Verb: c.verb, ID: c.id, Status: status, Message: lastError(c.log), err: err}
	e.class = classify(e.Message)
	return status, e
}

func exitStatus(exit *exec.ExitError) int {
	if ws, ok := exit.Sys().(syscall.WaitStatus); ok && ws.Signaled() {
		return 128 + int(ws.Signal())
	}
	return exit.ExitCode()
}
