package cli

import (
	"context"
	"fmt"
	"time"

	"box/pkg/cli/argv"
	"box/pkg/engine"
)

func stopCommand() *command {
	c := &command{
		name: "stop", operands: "CONTAINER [CONTAINER...]",
		summary: "Ask containers to stop, and kill those that do not", min: 1, max: -1,
	}
	var timeout *time.Duration
	stopFlags(&c.flags, &timeout)
	c.run = func(ctx context.Context, a *app, args []string) error {
		return a.forEach(c, args, func(e *engine.Engine, name string) error { return e.Stop(ctx, name, timeout) })
	}
	return c
}

func restartCommand() *command {
	c := &command{name: "restart", operands: "CONTAINER [CONTAINER...]", summary: "Stop containers and start them again", min: 1, max: -1}
	var timeout *time.Duration
	stopFlags(&c.flags, &timeout)
	c.run = func(ctx context.Context, a *app, args []string) error {
		return a.forEach(c, args, func(e *engine.Engine, name string) error {
			if err := e.Stop(ctx, name, timeout); err != nil {
				return err
			}
			return start(ctx, e, name)
		})
	}
	return c
}

// stopFlags registers --time and its newer name --timeout. Without them the
// container's own time counts; a negative one waits for ever.
func stopFlags(s *argv.Set, timeout **time.Duration) {
	s.Seconds(timeout, "time", 't', "time to stop in before it is killed (10)")
	s.Seconds(timeout, "timeout", 0, "the same as --time")
	s.Refuse("signal,s")
}

// forEach calls do for every container and prints the names of those for which
// it worked.
func (a *app) forEach(c *command, names []string, do func(*engine.Engine, string) error) error {
	e, err := a.engine()
	if err != nil {
		return err
	}
	return a.each(c, names, func(name string) error {
		if err := do(e, name); err != nil {
			return err
		}
		fmt.Fprintln(a.out, name)
		return nil
	})
}
