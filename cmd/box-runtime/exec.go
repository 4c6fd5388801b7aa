package main

import (
	"context"
	"strings"

	"box/pkg/runtime"
)

// execFailed is the exit status of an exec that could not start its command; runc
// uses it, and scripts tell by it.
const execFailed = 255

func execCommand(g *globals) *command {
	o := &runtime.ExecOptions{}
	var groups []string
	return &command{
		usage: "ID [COMMAND [ARG...]]", about: "run a further process in a container", min: 1, max: -1, order: inFront, lends: true,
		flags: []flag{
			text(&o.ProcessFile, "FILE", "process.json that describes the process", "process", "p"),
			on(&o.Detach, "do not wait for the process", "detach", "d"),
			on(&o.Terminal, "give the process a terminal", "tty", "t"),
			text(&o.ConsoleSocket, "SOCKET", "unix socket that receives the terminal's master end", "console-socket"),
			text(&o.PidFile, "FILE", "write the process id to FILE", "pid-file"),
			text(&o.PidfdSocket, "SOCKET", "unix socket that receives a pidfd of the process", "pidfd-socket"),
			text(&o.Cwd, "DIR", "working directory in the container", "cwd"),
			list(&o.Env, "NAME=VALUE", "add to the environment", "env", "e"),
			text(&o.User, "UID[:GID]", "ids of the process", "user", "u"),
			list(&groups, "GID", "supplementary group", "additional-gids", "g"),
			list(&o.Caps, "CAP", "add a capability", "cap", "c"),
			number(&o.PreserveFDs, "pass N descriptors above stdio on to the command", "preserve-fds"),
			on(&o.NoNewPrivileges, "set no_new_privs", "no-new-privs"),
			on(&o.IgnorePaused, "start it in a paused container too", "ignore-paused"),
			list(&o.Cgroups, "[CONTROLLER:]PATH", "existing cgroup below the container's", "cgroup"),
			text(&o.AppArmor, "PROFILE", "AppArmor profile", "apparmor"),
			text(&o.ProcessLabel, "LABEL", "SELinux label", "process-label"),
		},
		run: func(ctx context.Context, args []string) error {
			for _, g := range groups {
				o.AdditionalGids = append(o.AdditionalGids, strings.Split(g, ",")...)
			}
			o.Args = args[1:]
			code, err := g.runtime().Exec(ctx, args[0], *o)
			if err != nil {
				return statusError{err, execFailed}
			}
			return exited(code, nil)
		},
	}
}
