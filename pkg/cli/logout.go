package cli

import (
	"context"
	"fmt"
	"strings"

	"github.com/urfave/cli/v2"

	"box/pkg/image/registry"
)

func (a *app) logoutCommand() *cli.Command {
	return &cli.Command{
		Name: "logout", ArgsUsage: "[HOST]", Category: groupRegistry, Usage: "Forget the password for a registry",
		Action: anyone(func(ctx context.Context, args []string) error { return a.logout(ctx, strings.Join(args, "")) }),
	}
}

func (a *app) logout(ctx context.Context, host string) error {
	client, err := registry.Open()
	if err != nil {
		return err
	}
	known, err := client.Logout(ctx, host)
	if err != nil {
		return err
	}
	if !known {
		fmt.Fprintln(a.err, "not logged in to", orElse(host, "docker.io"))
		return nil
	}
	fmt.Fprintln(a.out, "Removed login credentials for", orElse(host, "docker.io"))
	return nil
}
