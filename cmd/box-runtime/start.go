package main

import "context"

func startCommand(g *globals) *command {
	return &command{
		usage: "ID", about: "let a created container go", min: 1, max: 1,
		run: func(ctx context.Context, args []string) error { return g.runtime().Start(ctx, args[0]) },
	}
}
