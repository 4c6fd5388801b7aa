package cli

import (
	"context"
	"fmt"
	"strings"

	"box/pkg/image/registry"
)

func logoutCommand() *command {
	c := &command{name: "logout", operands: "[HOST]", summary: "Forget the password for a registry", max: 1, anyUser: true}
	c.run = func(ctx context.Context, a *app, args []string) error {
		client, err := registry.Open()
		if err != nil {
			return err
		}
		host := strings.Join(args, "")
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
	return c
}
