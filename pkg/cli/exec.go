package cli

import (
	"context"
	"os"

	"box/internal/errdefs"
	"box/pkg/engine"
)

func execCommand() *command {
	c := &command{
		name: "exec", operands: "CONTAINER COMMAND [ARG...]", summary: "Run a further command in a running container",
		min: 2, max: -1, stopsAtOperand: true, ownSignals: true,
	}
	var o engine.ExecOptions
	var interactive bool
	var env, envFiles []string
	c.flags.Bool(&o.Detach, "detach", 'd', "do not wait for it")
	c.flags.Bool(&interactive, "interactive", 'i', "give it the standard input")
	c.flags.Bool(&o.Tty, "tty", 't', "give it a terminal")
	c.flags.List(&env, "env", 'e', "name[=value]", "set a variable, or take over the host's")
	c.flags.List(&envFiles, "env-file", 0, "file", "read variables from a file, one a line")
	c.flags.String(&o.User, "user", 'u', "user[:group]", "user the command runs as")
	c.flags.String(&o.WorkingDir, "workdir", 'w', "dir", "working directory in the container")
	c.flags.Refuse("privileged", "detach-keys")
	c.run = func(ctx context.Context, a *app, args []string) error {
		var err error
		if o.Env, err = environment(envFiles, env, os.LookupEnv); err != nil {
			return err
		}
		o.Args = args[1:]
		return a.exec(ctx, args[0], o, interactive)
	}
	return c
}

func (a *app) exec(ctx context.Context, name string, o engine.ExecOptions, interactive bool) error {
	if interactive && o.Tty && !isTerminal(a.in) {
		return errdefs.WithHint(
			errdefs.New(errdefs.ErrInvalid, "attach standard input: it is not a terminal, but -t asks for one"),
			"leave out -t when the input is a pipe or a file")
	}
	if interactive {
		o.Stdin = a.in
	}
	o.Stdout, _ = a.out.(*os.File)
	o.Stderr, _ = a.err.(*os.File)
	e, err := a.engine()
	if err != nil {
		return err
	}
	code, err := e.Exec(ctx, name, o)
	if err != nil {
		return startFailure(err)
	}
	return exitWith(code)
}
