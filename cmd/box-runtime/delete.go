package main

import "context"

func deleteCommand(g *globals) *command {
	var force bool
	return &command{
		usage: "ID", about: "remove what a stopped container left", min: 1, max: 1,
		flags: []flag{on(&force, "kill it first if it runs; an unknown id is no error", "force", "f")},
		run: func(ctx context.Context, args []string) error {
			return g.runtime().Delete(ctx, args[0], force)
		},
	}
}
