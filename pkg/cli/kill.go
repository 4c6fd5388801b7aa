package cli

import (
	"context"

	"box/pkg/engine"
)

func killCommand() *command {
	c := &command{name: "kill", operands: "CONTAINER [CONTAINER...]", summary: "Send a signal to containers", min: 1, max: -1}
	name := "KILL"
	c.flags.String(&name, "signal", 's', "signal", "signal to send, a name or a number (KILL)")
	c.run = func(ctx context.Context, a *app, args []string) error {
		sig, err := engine.ParseSignal(name)
		if err != nil {
			return usage(err)
		}
		return a.forEach(c, args, func(e *engine.Engine, container string) error { return e.Kill(ctx, container, sig) })
	}
	return c
}
