package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"

	"box/internal/admit"
	"box/internal/errdefs"
)

func psCommand(g *globals) *command {
	format := "table"
	return &command{
		usage: "ID [ps arguments]", about: "list a container's processes", min: 1, max: -1, order: inFront,
		flags: []flag{text(&format, "FORMAT", `"table" (default, by the host's ps) or "json"`, "format", "f")},
		run: func(ctx context.Context, args []string) error {
			pids, err := g.runtime().Pids(args[0])
			switch {
			case err != nil:
				return err
			case format == "json":
				return printJSON(pids, "")
			case format != "table":
				return errdefs.New(errdefs.ErrInvalid, "invalid format option %q: table or json", format)
			}
			return printProcesses(ctx, pids, args[1:])
		},
	}
}

// printProcesses runs the host's ps and keeps the container's lines. It is told to
// show all processes rather than a list of pids, so that the caller's arguments
// (which choose the columns) cannot contradict us.
func printProcesses(ctx context.Context, pids []int, args []string) error {
	if len(args) == 0 {
		args = []string{"-ef"}
	}
	defer admit.Starting()()
	cmd := exec.CommandContext(ctx, "ps", args...)
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return fmt.Errorf("run ps %s: %w", strings.Join(args, " "), err)
	}
	lines := strings.Split(string(out), "\n")
	column := slices.Index(strings.Fields(lines[0]), "PID")
	if column < 0 {
		return errdefs.New(errdefs.ErrInvalid, "ps %s: no PID column in its output", strings.Join(args, " "))
	}
	fmt.Println(lines[0])
	for _, line := range lines[1:] {
		fields := strings.Fields(line)
		if len(fields) <= column {
			continue
		}
		if pid, err := strconv.Atoi(fields[column]); err == nil && slices.Contains(pids, pid) {
			fmt.Println(line)
		}
	}
	return nil
}
