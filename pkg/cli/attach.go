package cli

import (
	"context"

	"github.com/urfave/cli/v2"

	"box/pkg/engine"
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
	return a.join(ctx, name, stdin, client, func(e *engine.Engine, id string, stdio engine.Stdio) (*engine.Session, error) {
		return e.Attach(ctx, id, stdio)
	})
}

// join gives a container our streams by open, and stays until its end.
func (a *app) join(ctx context.Context, name string, stdin bool, client clientFlags,
	open func(e *engine.Engine, id string, stdio engine.Stdio) (*engine.Session, error),
) error {
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
	session, err := open(e, r.ID, stdio)
	if err != nil {
		return err
	}
	return wait(ctx, session, client.sigProxy && !r.Config.Tty)
}
