package main

import (
	"context"

	"box/pkg/runtime"
)

// createFlags are the flags that create and run share.
func createFlags(o *runtime.CreateOptions) []flag {
	return []flag{
		text(&o.Bundle, "DIR", "the bundle (default: the working directory)", "bundle", "b"),
		text(&o.ConsoleSocket, "SOCKET", "unix socket that receives the terminal's master end", "console-socket"),
		text(&o.PidFile, "FILE", "write the container's process id to FILE", "pid-file"),
		text(&o.PidfdSocket, "SOCKET", "unix socket that receives a pidfd of the container", "pidfd-socket"),
		number(&o.PreserveFDs, "pass N descriptors above stdio on to the command", "preserve-fds"),
		on(&o.NoPivot, "do not use pivot_root: for a host whose root is the initial ramfs", "no-pivot"),
		on(&o.NoNewKeyring, "keep the caller's session keyring", "no-new-keyring"),
	}
}

func createCommand(g *globals) *command {
	o := &runtime.CreateOptions{Bundle: "."}
	return &command{
		usage: "ID", about: "make a container that waits for start", min: 1, max: 1, lends: true,
		flags: createFlags(o),
		run: func(ctx context.Context, args []string) error {
			return failed("create", g.runtime().Create(ctx, args[0], *o))
		},
	}
}
