package cli

import (
	"context"

	"github.com/urfave/cli/v2"

	"box/pkg/engine"
)

func (a *app) killCommand() *cli.Command {
	name := "KILL"
	return &cli.Command{
		Name: "kill", ArgsUsage: "CONTAINER [CONTAINER...]", Category: groupContainer, Usage: "Send a signal to containers",
		Flags: []cli.Flag{textFlag(&name, "signal,s", "`signal` to send, a name or a number (KILL)")},
		Action: asRoot(func(ctx context.Context, args []string) error {
			sig, err := engine.ParseSignal(name)
			if err != nil {
				return usage(err)
			}
			return a.forEach(args, func(e *engine.Engine, container string) error { return e.Kill(ctx, container, sig) })
		}),
	}
}
