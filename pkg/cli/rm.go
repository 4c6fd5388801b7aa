package cli

import (
	"context"
	"errors"
	"fmt"

	"github.com/urfave/cli/v2"

	"box/internal/errdefs"
	"box/pkg/engine"
)

func (a *app) rmCommand() *cli.Command {
	var o engine.RemoveOptions
	return &cli.Command{
		Name: "rm", ArgsUsage: "CONTAINER [CONTAINER...]", Category: groupContainer, Usage: "Remove containers",
		Flags: append([]cli.Flag{
			boolFlag(&o.Force, "force,f", "kill it if it runs; ignore it if it is gone"),
			boolFlag(&o.Volumes, "volumes,v", "remove its anonymous volumes, too"),
		}, refused("link,l")...),
		Action: asRoot(func(ctx context.Context, args []string) error { return a.rm(ctx, args, o) }),
	}
}

func (a *app) rm(ctx context.Context, names []string, o engine.RemoveOptions) error {
	e, err := a.engine()
	if err != nil {
		return err
	}
	if err := a.sweep(ctx); err != nil {
		return err
	}
	return a.each(names, func(name string) error {
		err := e.Remove(ctx, name, o)
		if o.Force && errors.Is(err, errdefs.ErrNotFound) {
			return nil
		}
		if err == nil {
			fmt.Fprintln(a.out, name)
		}
		return err
	})
}
