package cli

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/urfave/cli/v2"
)

func (a *app) createCommand() *cli.Command {
	var f containerFlags
	return &cli.Command{
		Name: "create", ArgsUsage: "IMAGE [COMMAND] [ARG...]", Category: groupContainer, Usage: "Make a container without starting it",
		Flags:  append(f.flags(), refused("detach-keys", "sig-proxy")...),
		Action: anyone(ofContainer(rootOnly(func(ctx context.Context, args []string) error { return a.create(ctx, &f, args) }))),
	}
}

func (a *app) create(ctx context.Context, f *containerFlags, args []string) error {
	o, err := f.finish(args[1:], os.LookupEnv)
	if err != nil {
		return err
	}
	o.StdinOnce = o.OpenStdin
	o.ImageName = args[0]
	if o.Image, err = a.findOrPull(ctx, args[0], f.pull, f.quiet); err != nil {
		return err
	}
	e, err := a.engine()
	if err != nil {
		return err
	}
	cid, err := openCIDFile(f.cidFile)
	if err != nil {
		return err
	}
	r, err := e.Create(ctx, o)
	if err != nil {
		return errors.Join(err, cid.drop())
	}
	fmt.Fprintln(a.out, r.ID)
	return cid.write(r.ID)
}
