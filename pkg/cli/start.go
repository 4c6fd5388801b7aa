package cli

import (
	"context"
	"errors"
	"slices"

	"github.com/urfave/cli/v2"

	"box/internal/errdefs"
	"box/pkg/engine"
)

func (a *app) startCommand() *cli.Command {
	var attach, interactive bool
	var client clientFlags
	return &cli.Command{
		Name: "start", ArgsUsage: "CONTAINER [CONTAINER...]", Category: groupContainer, Usage: "Start containers that were made or have ended",
		Flags: slices.Concat([]cli.Flag{
			boolFlag(&attach, "attach,a", "show its output and wait for its end"),
			boolFlag(&interactive, "interactive,i", "give it the standard input, too"),
		}, client.flags(), refused("checkpoint", "checkpoint-dir")),
		Action: attached(rootOnly(func(ctx context.Context, args []string) error {
			switch {
			case !attach && !interactive:
				return a.forEach(args, func(e *engine.Engine, name string) error { return start(ctx, e, name) })
			case len(args) > 1:
				return usage(errdefs.New(errdefs.ErrInvalid, "only one container can be attached to"))
			}
			return ofContainer(func(ctx context.Context, args []string) error {
				return a.startAttached(ctx, args[0], interactive, client)
			})(ctx, args)
		})),
	}
}

// start starts one container in the background. One that runs already is as it
// should be.
func start(ctx context.Context, e *engine.Engine, name string) error {
	r, session, err := e.Start(ctx, name, engine.Stdio{})
	if errors.Is(err, errdefs.ErrConflict) && r != nil && r.State.Pid != 0 {
		return nil
	}
	if err != nil {
		return startFailure(err)
	}
	return session.Close()
}

func (a *app) startAttached(ctx context.Context, name string, stdin bool, client clientFlags) error {
	return a.join(ctx, name, stdin, client, func(e *engine.Engine, id string, stdio engine.Stdio) (*engine.Session, error) {
		_, session, err := e.Start(ctx, id, stdio)
		if err != nil {
			return nil, startFailure(err)
		}
		return session, nil
	})
}
