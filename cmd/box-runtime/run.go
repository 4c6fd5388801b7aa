package main

import (
	"context"

	"box/pkg/runtime"
)

func runCommand(g *globals) *command {
	o := &runtime.RunOptions{CreateOptions: runtime.CreateOptions{Bundle: "."}}
	return &command{
		usage: "ID", about: "create and start a container, and wait for it", min: 1, max: 1, lends: true,
		flags: append(createFlags(&o.CreateOptions),
			on(&o.Detach, "do not wait for the container", "detach", "d"),
			on(&o.Keep, "keep the container's state when it has exited", "keep"),
			on(&o.NoSubreaper, "do not adopt the container's orphans", "no-subreaper"),
		),
		run: func(ctx context.Context, args []string) error {
			code, err := g.runtime().Run(ctx, args[0], *o)
			return exited(code, failed("run", err))
		},
	}
}

// exited turns a command's exit code into the program's.
func exited(code int, err error) error {
	if err == nil && code != 0 {
		return exitStatus(code)
	}
	return err
}
