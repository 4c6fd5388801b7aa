package cli

import "context"

func attachCommand() *command {
	c := &command{
		name: "attach", operands: "CONTAINER", summary: "Join the streams of a running container",
		min: 1, max: 1, ownSignals: true, runsContainer: true,
	}
	var client clientFlags
	var noStdin bool
	c.flags.Bool(&noStdin, "no-stdin", 0, "do not give it the standard input")
	client.register(&c.flags)
	c.run = func(ctx context.Context, a *app, args []string) error {
		e, err := a.engine()
		if err != nil {
			return err
		}
		r, err := e.Find(ctx, args[0])
		if err != nil {
			return err
		}
		stdio, err := a.stdio(r.Config.OpenStdin && !noStdin, r.Config.Tty, client)
		if err != nil {
			return err
		}
		session, err := e.Attach(ctx, r.ID, stdio)
		if err != nil {
			return err
		}
		return wait(ctx, session, client.sigProxy && !r.Config.Tty)
	}
	return c
}
