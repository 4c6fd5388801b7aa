package main

import (
	"context"
	"strconv"
	"strings"

	"box/internal/errdefs"
	"box/pkg/runtime"
)

// imageFlags are the flags that checkpoint and restore share.
func imageFlags(o *runtime.CheckpointOptions) []flag {
	return []flag{
		text(&o.ImagePath, "DIR", "directory of the images (default: checkpoint)", "image-path"),
		text(&o.WorkPath, "DIR", "directory of criu's log (default: that of the images)", "work-path"),
		on(&o.TCPEstablished, "allow open TCP connections", "tcp-established"),
		on(&o.ExtUnixSk, "allow unix sockets that are connected to the outside", "ext-unix-sk"),
		on(&o.ShellJob, "allow processes whose session leader is outside", "shell-job"),
		on(&o.FileLocks, "keep file locks", "file-locks"),
		on(&o.AutoDedup, "remove from earlier images what later ones have", "auto-dedup"),
		on(&o.LazyPages, "fetch memory when it is used", "lazy-pages"),
		text(&o.ManageCgroups, "MODE", "soft (default), full, strict or ignore", "manage-cgroups-mode"),
		{names: []string{"empty-ns"}, value: "KIND", help: "leave a namespace's content alone: network, which is always left", set: func(v string) error {
			if v != "network" {
				return errdefs.New(errdefs.ErrUnsupported, "namespace %q is not supported", v)
			}
			return nil
		}},
	}
}

func checkpointCommand(g *globals) *command {
	o := &runtime.CheckpointOptions{StatusFD: -1}
	return &command{
		usage: "ID", about: "write a running container to disk, with criu", min: 1, max: 1,
		flags: append(imageFlags(o),
			text(&o.ParentPath, "DIR", "directory of earlier images, relative to --image-path", "parent-path"),
			on(&o.LeaveRunning, "let the container go on", "leave-running"),
			on(&o.PreDump, "write memory only, and let the container go on", "pre-dump"),
			on(&o.TCPSkipInFlight, "skip TCP connections that are not established yet", "tcp-skip-in-flight"),
			on(&o.LinkRemap, "link deleted files to be able to open them again", "link-remap"),
			number(&o.StatusFD, "descriptor that takes a zero byte when lazy pages can be fetched", "status-fd"),
			pageServer(o),
		),
		run: func(ctx context.Context, args []string) error {
			o.Criu = g.criu
			return g.runtime().Checkpoint(ctx, args[0], *o)
		},
	}
}

// pageServer is the flag for who takes the memory instead of files.
func pageServer(o *runtime.CheckpointOptions) flag {
	return flag{names: []string{"page-server"}, value: "ADDRESS:PORT", help: "send memory to a page server", set: func(v string) error {
		address, port := splitAddress(v)
		if address == "" || port == "" {
			return errdefs.New(errdefs.ErrInvalid, "Use --page-server ADDRESS:PORT to specify page server")
		}
		n, err := strconv.ParseUint(port, 10, 16)
		if err != nil || n == 0 {
			return errdefs.New(errdefs.ErrInvalid, "--page-server: Invalid port number %q", port)
		}
		o.PageServer, o.PagePort = address, int(n)
		return nil
	}}
}

// splitAddress splits host:port or [host]:port, whose host has colons; both are empty if
// it is neither. Package net could do it, and costs every start its initialisation.
func splitAddress(s string) (host, port string) {
	i := strings.LastIndexByte(s, ':')
	if i < 0 {
		return "", ""
	}
	host, port = s[:i], s[i+1:]
	inner, opened := strings.CutPrefix(host, "[")
	inner, closed := strings.CutSuffix(inner, "]")
	if opened != closed || !opened && strings.Contains(host, ":") || strings.ContainsAny(inner, "[]") {
		return "", ""
	}
	return inner, port
}

func restoreCommand(g *globals) *command {
	o := &runtime.RestoreOptions{}
	o.StatusFD = -1
	o.Run.Bundle = "."
	run := &o.Run
	return &command{
		usage: "ID", about: "read a container back from disk, with criu", min: 1, max: 1, lends: true,
		flags: append(imageFlags(&o.CheckpointOptions),
			text(&run.Bundle, "DIR", "the bundle (default: the working directory)", "bundle", "b"),
			text(&run.ConsoleSocket, "SOCKET", "unix socket that receives the terminal's master end", "console-socket"),
			text(&run.PidFile, "FILE", "write the container's process id to FILE", "pid-file"),
			on(&run.Detach, "do not wait for the container", "detach", "d"),
			on(&run.NoSubreaper, "do not adopt the container's orphans", "no-subreaper"),
			on(&run.NoPivot, "accepted for runc's callers: criu decides how the root is entered", "no-pivot"),
			text(&o.LSMProfile, "TYPE:NAME", "AppArmor profile or SELinux label of the restored processes", "lsm-profile"),
			text(&o.LSMContext, "LABEL", "SELinux label of restored mounts", "lsm-mount-context"),
		),
		run: func(ctx context.Context, args []string) error {
			o.Criu = g.criu
			code, err := g.runtime().Restore(ctx, args[0], *o)
			return exited(code, err)
		},
	}
}
