package main

import "context"

func pauseCommand(g *globals) *command {
	return &command{
		usage: "ID", about: "freeze every process of a container", min: 1, max: 1,
		run: func(ctx context.Context, args []string) error { return g.runtime().Pause(ctx, args[0]) },
	}
}

func resumeCommand(g *globals) *command {
	return &command{
		usage: "ID", about: "let a paused container go on", min: 1, max: 1,
		run: func(ctx context.Context, args []string) error { return g.runtime().Resume(ctx, args[0]) },
	}
}
