package cli

import (
	"context"

	"github.com/urfave/cli/v2"
)

func (a *app) attachCommand() *cli.Command {
	var client clientFlags
	var noStdin bool
	return &cli.Command{
		Name: "attach", ArgsUsage: "CONTAINER", Category: groupContainer, Usage: "Join the streams of a running container",
		Flags: append(client.flags(), boolFlag(&noStdin, "no-stdin", "do not give it the standard input")),
		Action: attached(ofContainer(rootOnly(func(ctx context.Context, args []string) error {
			return a.attach(ctx, args[0], !noStdin, client)
		}))),
	}
}

func (a *app) attach(ctx context.Context, name string, stdin bool, client clientFlags) error {
	e, err := a.engine()
	if err != nil {
		return err
	}
	r, err := e.Find(ctx, name)
	if err != nil {
		return err
	}
	stdio, err := a.stdio(stdin && r.Config.OpenStdin, r.Config.Tty, client)
	if err != nil {
		return err
	}
	session, err := e.Attach(ctx, r.ID, stdio)
	if err != nil {
		return err
	}
	return wait(ctx, session, client.sigProxy && !r.Config.Tty)
}
