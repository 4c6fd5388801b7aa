package cli

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/urfave/cli/v2"
	"golang.org/x/term"

	"box/internal/errdefs"
	"box/pkg/image/registry"
)

func (a *app) loginCommand() *cli.Command {
	var o loginOptions
	return &cli.Command{
		Name: "login", ArgsUsage: "[HOST]", Category: groupRegistry, Usage: "Check and keep the password for a registry",
		Flags: []cli.Flag{
			textFlag(&o.user, "username,u", "user `name`"),
			textFlag(&o.password, "password,p", "`password` (others see it: better --password-stdin)"),
			boolFlag(&o.fromStdin, "password-stdin", "read the password from the standard input"),
		},
		Action: anyone(func(ctx context.Context, args []string) error { return a.login(ctx, strings.Join(args, ""), o) }),
	}
}

type loginOptions struct {
	user, password string
	fromStdin      bool
}

func (a *app) login(ctx context.Context, host string, o loginOptions) error {
	if o.fromStdin && (o.password != "" || o.user == "") {
		return usage(errdefs.New(errdefs.ErrInvalid, "--password-stdin goes with --username and without --password"))
	}
	if o.password != "" {
		fmt.Fprintln(a.err, "box login: a password on the command line is seen by other users; use --password-stdin")
	}
	user, password, err := a.credentials(o)
	if err != nil {
		return err
	}
	client, err := registry.Open()
	if err != nil {
		return err
	}
	if err := client.Login(ctx, host, user, password); err != nil {
		return err
	}
	fmt.Fprintln(a.out, "Login Succeeded")
	return nil
}

// maxPassword bounds what is read, in bytes.
const maxPassword = 64 << 10

// credentials completes what the flags say from the standard input, or by
// asking on the terminal.
func (a *app) credentials(o loginOptions) (user, password string, err error) {
	if o.fromStdin {
		data, err := io.ReadAll(io.LimitReader(a.in, maxPassword))
		return o.user, strings.TrimRight(string(data), "\r\n"), err
	}
	if (o.user == "" || o.password == "") && !isTerminal(a.in) {
		return "", "", errdefs.WithHint(
			errdefs.New(errdefs.ErrInvalid, "cannot ask for the password: the standard input is not a terminal"),
			"use --username and --password-stdin")
	}
	if o.user == "" {
		fmt.Fprint(a.err, "Username: ")
		line, err := bufio.NewReader(a.in).ReadString('\n')
		if err != nil && !errors.Is(err, io.EOF) {
			return "", "", err
		}
		o.user = strings.TrimSpace(line)
	}
	if o.password == "" {
		fmt.Fprint(a.err, "Password: ")
		data, err := term.ReadPassword(int(a.in.Fd()))
		fmt.Fprintln(a.err)
		return o.user, string(data), err
	}
	return o.user, o.password, nil
}
