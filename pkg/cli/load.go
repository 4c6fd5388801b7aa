package cli

import (
	"context"
	"fmt"
	"io"
	"os"

	"box/internal/errdefs"
)

func loadCommand() *command {
	c := &command{name: "load", summary: "Take images out of an archive (docker save, OCI)"}
	var input string
	var quiet bool
	c.flags.String(&input, "input", 'i', "file", "the archive (the standard input)")
	c.flags.Bool(&quiet, "quiet", 'q', "print nothing")
	c.flags.Refuse("platform")
	c.run = func(ctx context.Context, a *app, _ []string) error {
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
	return c
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
