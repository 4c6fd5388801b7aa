package cli

import (
	"context"
	"errors"

	"box/internal/errdefs"
	"box/pkg/engine"
)

func startCommand() *command {
	c := &command{
		name: "start", operands: "CONTAINER [CONTAINER...]", summary: "Start containers that were made or have ended",
		min: 1, max: -1, ownSignals: true,
	}
	var attach, interactive bool
	var client clientFlags
	c.flags.Bool(&attach, "attach", 'a', "show its output and wait for its end")
	c.flags.Bool(&interactive, "interactive", 'i', "give it the standard input, too")
	client.register(&c.flags)
	c.flags.Refuse("checkpoint", "checkpoint-dir")
	c.run = func(ctx context.Context, a *app, args []string) error {
		if attach || interactive {
			if len(args) > 1 {
				return usage(errdefs.New(errdefs.ErrInvalid, "only one container can be attached to"))
			}
			c.runsContainer = true
			return a.startAttached(ctx, args[0], interactive, client)
		}
		return a.startAll(ctx, c, args)
	}
	return c
}

func (a *app) startAll(ctx context.Context, c *command, names []string) error {
	return a.forEach(c, names, func(e *engine.Engine, name string) error { return start(ctx, e, name) })
}

// start starts one container in the background. One that runs already is as it
// should be.
func start(ctx context.Context, e *engine.Engine, name string) error {
	r, session, err := e.Start(ctx, name, engine.Stdio{})
	if errors.Is(err, errdefs.ErrConflict) && r != nil && r.State.Pid != 0 {
		return nil
	}
	if err != nil {
		return startFailure(err)
	}
	return session.Close()
}

func (a *app) startAttached(ctx context.Context, name string, stdin bool, client clientFlags) error {
	e, err := a.engine()
	if err != nil {
		return err
	}
	r, err := e.Find(ctx, name)
	if err != nil {
		return err
	}
	stdio, err := a.stdio(stdin && r.Config.OpenStdin, r.Config.Tty, client)
	if err != nil {
		return err
	}
	_, session, err := e.Start(ctx, r.ID, stdio)
	if err != nil {
		return startFailure(err)
	}
	return wait(ctx, session, client.sigProxy && !r.Config.Tty)
}
