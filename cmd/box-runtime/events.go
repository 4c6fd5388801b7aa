package main

import (
	"context"
	"time"

	"box/pkg/runtime"
)

// eventsInterval is how often figures are printed if nobody says.
const eventsInterval = 5 * time.Second

func eventsCommand(g *globals) *command {
	once, interval := false, eventsInterval
	return &command{
		usage: "ID", about: "print a container's figures again and again, and when it runs out of memory, as JSON", min: 1, max: 1,
		flags: []flag{
			on(&once, "print the figures once", "stats"),
			{names: []string{"interval"}, value: "DURATION", help: "time between figures (default: 5s)", set: func(v string) error {
				d, err := time.ParseDuration(v)
				interval = d
				return err
			}},
		},
		run: func(ctx context.Context, args []string) error {
			if !once {
				return g.runtime().Events(ctx, args[0], interval, func(e *runtime.Event) error { return printJSON(e, "") })
			}
			event, err := g.runtime().Stats(args[0])
			if err != nil {
				return err
			}
			return printJSON(event, "")
		},
	}
}
