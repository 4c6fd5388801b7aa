package cli

import (
	"context"
	"fmt"
)

func waitCommand() *command {
	c := &command{name: "wait", operands: "CONTAINER [CONTAINER...]", summary: "Wait for the end of containers and print their exit codes", min: 1, max: -1}
	c.run = func(ctx context.Context, a *app, args []string) error {
		e, err := a.engine()
		if err != nil {
			return err
		}
		return a.each(c, args, func(name string) error {
			code, err := e.Wait(ctx, name)
			if err == nil {
				fmt.Fprintln(a.out, code)
			}
			return err
		})
	}
	return c
}
