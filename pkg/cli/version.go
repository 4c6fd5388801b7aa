package cli

import (
	"context"
	"fmt"
	"runtime"

	"github.com/urfave/cli/v2"

	"box/pkg/ocirt"
)

func (a *app) versionCommand() *cli.Command {
	var format string
	return &cli.Command{
		Name: "version", Category: groupSystem, Usage: "Print the versions of box and of its runtime",
		Flags:  []cli.Flag{textFlag(&format, "format,f", "print by a Go `template`, or json")},
		Action: anyone(func(ctx context.Context, _ []string) error { return a.printVersions(ctx, format) }),
	}
}

func (a *app) printVersions(ctx context.Context, format string) error {
	v := a.versions(ctx)
	if format != "" {
		f, err := parseFormat(format)
		if err != nil {
			return err
		}
		return f.line(a.out, v)
	}
	t := newTable(a.out)
	t.row("box:", v.Version)
	t.row("commit:", v.Commit)
	t.row("built with:", v.GoVersion+" for "+v.OS+"/"+v.Arch)
	t.row("runtime:", v.Runtime)
	return t.flush()
}

// versions has the names of `docker version --format` where they exist.
type versions struct {
	Version, Commit, GoVersion, OS, Arch, Runtime string
}

func (a *app) versions(ctx context.Context) versions {
	return versions{
		Version: orElse(a.self.Version, "unknown"), Commit: orElse(a.self.Commit, "unknown"),
		GoVersion: runtime.Version(), OS: runtime.GOOS, Arch: runtime.GOARCH, Runtime: a.runtimeVersion(ctx),
	}
}

// runtimeVersion is what the runtime says of itself, or why it cannot be asked.
func (a *app) runtimeVersion(ctx context.Context) string {
	path, err := ocirt.Find(a.runtime)
	if err != nil {
		return err.Error()
	}
	line, err := ocirt.Runtime{Path: path}.Version(ctx)
	if err != nil {
		return err.Error()
	}
	return fmt.Sprintf("%s (%s)", line, path)
}
