package cli

import (
	"context"
	"fmt"
	"io"
	"os"

	"github.com/urfave/cli/v2"

	"box/internal/errdefs"
)

func (a *app) loadCommand() *cli.Command {
	var input string
	var quiet bool
	return &cli.Command{
		Name: "load", Category: groupImage, Usage: "Take images out of an archive (docker save, OCI)",
		Flags: append([]cli.Flag{
			textFlag(&input, "input,i", "archive `file` (the standard input)"),
			boolFlag(&quiet, "quiet,q", "show no progress; there is none"),
		}, refused("platform")...),
		Action: asRoot(func(ctx context.Context, _ []string) error { return a.load(ctx, input) }),
	}
}

func (a *app) load(ctx context.Context, input string) error {
	r, name, err := a.openInput(input)
	if err != nil {
		return err
	}
	defer r.Close()
	images, err := a.images()
	if err != nil {
		return err
	}
	list, err := images.Load(ctx, r)
	if err != nil {
		return fmt.Errorf("load %s: %w", name, err)
	}
	for _, img := range list {
		for _, name := range img.Names {
			fmt.Fprintln(a.out, "Loaded image:", familiar(name))
		}
		if len(img.Names) == 0 {
			fmt.Fprintln(a.out, "Loaded image ID:", img.ID)
		}
	}
	return nil
}

// openInput opens a file, or the standard input for "" and "-".
func (a *app) openInput(name string) (io.ReadCloser, string, error) {
	if name != "" && name != "-" {
		f, err := os.Open(name)
		return f, name, err
	}
	if isTerminal(a.in) {
		return nil, "", usage(errdefs.WithHint(errdefs.New(errdefs.ErrInvalid, "the standard input is a terminal"), "name a file, or use < FILE"))
	}
	return io.NopCloser(a.in), "from the standard input", nil
}
