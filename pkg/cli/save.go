package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/urfave/cli/v2"

	"box/internal/errdefs"
	"box/pkg/image/store"
)

func (a *app) saveCommand() *cli.Command {
	var output string
	format := store.FormatDocker
	return &cli.Command{
		Name: "save", ArgsUsage: "IMAGE [IMAGE...]", Category: groupImage, Usage: "Write images into an archive",
		Flags: append([]cli.Flag{
			textFlag(&output, "output,o", "archive `file` (the standard output)"),
			parsedFlag(&format, "format", "docker-archive (the default) or oci-archive: `format`", archiveFormat),
		}, refused("platform", "compress")...),
		Action: asRoot(func(ctx context.Context, args []string) error {
			images, err := a.images()
			if err != nil {
				return err
			}
			return a.writeOutput(output, func(w io.Writer) error { return images.Save(ctx, w, args, format) })
		}),
	}
}

func archiveFormat(v string) (store.Format, error) {
	if f := store.Format(v); f == store.FormatDocker || f == store.FormatOCI {
		return f, nil
	}
	return "", fmt.Errorf("%q is neither docker-archive nor oci-archive", v)
}

// writeOutput hands the standard output, or a new file that gets its name when
// it is complete, to write.
func (a *app) writeOutput(name string, write func(io.Writer) error) (err error) {
	if name == "" || name == "-" {
		if isTerminal(a.out) {
			return usage(errdefs.WithHint(errdefs.New(errdefs.ErrInvalid, "the standard output is a terminal"), "use -o FILE, or > FILE"))
		}
		return write(a.out)
	}
	if st, statErr := os.Stat(name); statErr == nil && !st.Mode().IsRegular() {
		return writeDevice(name, write)
	}
	f, err := os.CreateTemp(filepath.Dir(name), "."+filepath.Base(name)+"-*")
	if err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.Remove(f.Name()))
		}
	}()
	if err := errors.Join(write(f), f.Chmod(0o644), f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), name)
}

// writeDevice writes to what is there already: a pipe, /dev/null.
func writeDevice(name string, write func(io.Writer) error) error {
	f, err := os.OpenFile(name, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	return errors.Join(write(f), f.Close())
}
