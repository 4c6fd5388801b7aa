package cli

import (
	"context"
	"fmt"

	"github.com/urfave/cli/v2"
)

func (a *app) waitCommand() *cli.Command {
	return &cli.Command{
		Name: "wait", ArgsUsage: "CONTAINER [CONTAINER...]", Category: groupContainer,
		Usage: "Wait for the end of containers and print their exit codes",
		Action: asRoot(func(ctx context.Context, args []string) error {
			e, err := a.engine()
			if err != nil {
				return err
			}
			return a.each(args, func(name string) error {
				code, err := e.Wait(ctx, name)
				if err == nil {
					fmt.Fprintln(a.out, code)
				}
				return err
			})
		}),
	}
}
