package cli

import (
	"context"
	"fmt"
	"time"

	"github.com/urfave/cli/v2"

	"box/pkg/engine"
)

func (a *app) stopCommand() *cli.Command {
	var timeout *time.Duration
	return &cli.Command{
		Name: "stop", ArgsUsage: "CONTAINER [CONTAINER...]", Category: groupContainer,
		Usage: "Ask containers to stop, and kill those that do not", Flags: stopFlags(&timeout),
		Action: asRoot(func(ctx context.Context, args []string) error {
			return a.forEach(args, func(e *engine.Engine, name string) error { return e.Stop(ctx, name, timeout) })
		}),
	}
}

func (a *app) restartCommand() *cli.Command {
	var timeout *time.Duration
	return &cli.Command{
		Name: "restart", ArgsUsage: "CONTAINER [CONTAINER...]", Category: groupContainer,
		Usage: "Stop containers and start them again", Flags: stopFlags(&timeout),
		Action: asRoot(func(ctx context.Context, args []string) error {
			return a.forEach(args, func(e *engine.Engine, name string) error {
				if err := e.Stop(ctx, name, timeout); err != nil {
					return err
				}
				return start(ctx, e, name)
			})
		}),
	}
}

// stopFlags are --time and its newer name --timeout. Without them the
// container's own time counts; a negative one waits for ever.
func stopFlags(timeout **time.Duration) []cli.Flag {
	return append(refused("signal,s"), parsedFlag(timeout, "time,timeout,t", "time to stop in before it is killed (10): `seconds`", seconds))
}

// forEach calls do for every container and prints the names of those for which
// it worked.
func (a *app) forEach(names []string, do func(*engine.Engine, string) error) error {
	e, err := a.engine()
	if err != nil {
		return err
	}
	return a.each(names, func(name string) error {
		if err := do(e, name); err != nil {
			return err
		}
		fmt.Fprintln(a.out, name)
		return nil
	})
}
