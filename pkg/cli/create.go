package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
)

func createCommand() *command {
	c := &command{
		name: "create", operands: "IMAGE [COMMAND] [ARG...]", summary: "Make a container without starting it",
		min: 1, max: -1, stopsAtOperand: true, runsContainer: true,
	}
	var f containerFlags
	f.register(&c.flags)
	c.flags.Refuse("detach-keys", "sig-proxy")
	c.run = func(ctx context.Context, a *app, args []string) error { return a.create(ctx, &f, args) }
	return c
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
