package cli

import (
	"context"
	"errors"
	"fmt"

	"box/internal/errdefs"
	"box/pkg/engine"
)

func rmCommand() *command {
	c := &command{name: "rm", operands: "CONTAINER [CONTAINER...]", summary: "Remove containers", min: 1, max: -1}
	var o engine.RemoveOptions
	c.flags.Bool(&o.Force, "force", 'f', "kill it if it runs; ignore it if it is gone")
	c.flags.Bool(&o.Volumes, "volumes", 'v', "remove its anonymous volumes, too")
	c.flags.Refuse("link,l")
	c.run = func(ctx context.Context, a *app, args []string) error {
		e, err := a.engine()
		if err != nil {
			return err
		}
		if err := a.sweep(ctx); err != nil {
			return err
		}
		return a.each(c, args, func(name string) error {
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
	return c
}
