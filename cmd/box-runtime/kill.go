package main

import (
	"context"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"box/internal/errdefs"
)

func killCommand(g *globals) *command {
	var all bool
	return &command{
		usage: "ID [SIGNAL]", about: "send a signal (default: TERM) to a container", min: 1, max: 2,
		flags: []flag{on(&all, "send it to every process of the container", "all", "a")},
		run: func(ctx context.Context, args []string) error {
			sig := unix.SIGTERM
			if len(args) == 2 {
				var err error
				if sig, err = parseSignal(args[1]); err != nil {
					return err
				}
			}
			return g.runtime().Kill(ctx, args[0], sig, all)
		},
	}
}

// maxSignal is the last real-time signal (signal(7)).
const maxSignal = 64

// parseSignal reads a signal as kill(1) does: a number, or a name in any case,
// with or without SIG, RTMIN+n and RTMAX-n included.
func parseSignal(s string) (unix.Signal, error) {
	if n, err := strconv.Atoi(s); err == nil {
		if n < 0 || n > maxSignal { // 0 only asks whether there is somebody to signal
			return 0, errdefs.New(errdefs.ErrInvalid, "unknown signal %q", s)
		}
		return unix.Signal(n), nil
	}
	name := strings.TrimPrefix(strings.ToUpper(s), "SIG")
	if n := unix.SignalNum("SIG" + name); n != 0 {
		return n, nil
	}
	if n, ok := realTime(name); ok {
		return n, nil
	}
	return 0, errdefs.New(errdefs.ErrInvalid, "unknown signal %q", s)
}

func realTime(name string) (unix.Signal, bool) {
	const first, last = 34, maxSignal // as the C library counts, who keeps 32 and 33
	base, sign := first, 1
	rest, ok := strings.CutPrefix(name, "RTMIN")
	if !ok {
		if rest, ok = strings.CutPrefix(name, "RTMAX"); !ok {
			return 0, false
		}
		base, sign = last, -1
	}
	if rest == "" {
		return unix.Signal(base), true
	}
	offset, err := strconv.Atoi(rest)
	n := base + offset
	if err != nil || sign*offset < 0 || n < first || n > last {
		return 0, false
	}
	return unix.Signal(n), true
}
