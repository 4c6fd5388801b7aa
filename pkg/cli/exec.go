package cli

import (
	"context"
	"os"

	"github.com/urfave/cli/v2"

	"box/internal/errdefs"
	"box/pkg/engine"
)

func (a *app) execCommand() *cli.Command {
	var o engine.ExecOptions
	var interactive bool
	var env, envFiles []string
	return &cli.Command{
		Name: "exec", ArgsUsage: "CONTAINER COMMAND [ARG...]", Category: groupContainer, Usage: "Run a further command in a running container",
		Flags: append([]cli.Flag{
			boolFlag(&o.Detach, "detach,d", "do not wait for it"),
			boolFlag(&interactive, "interactive,i", "give it the standard input"),
			boolFlag(&o.Tty, "tty,t", "give it a terminal"),
			listFlag(&env, "env,e", "set a variable, or take over the host's: `name[=value]`"),
			listFlag(&envFiles, "env-file", "read variables from a `file`, one a line"),
			textFlag(&o.User, "user,u", "user the command runs as: `user[:group]`"),
			textFlag(&o.WorkingDir, "workdir,w", "working directory in the container: `dir`"),
		}, refused("privileged", "detach-keys")...),
		Action: attached(rootOnly(func(ctx context.Context, args []string) (err error) {
			if o.Env, err = environment(envFiles, env, os.LookupEnv); err != nil {
				return err
			}
			o.Args = args[1:]
			return a.exec(ctx, args[0], o, interactive)
		})),
	}
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
