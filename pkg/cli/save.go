package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"box/internal/errdefs"
	"box/pkg/image/store"
)

func saveCommand() *command {
	c := &command{name: "save", operands: "IMAGE [IMAGE...]", summary: "Write images into an archive", min: 1, max: -1}
	var output string
	format := string(store.FormatDocker)
	c.flags.String(&output, "output", 'o', "file", "the archive (the standard output)")
	c.flags.String(&format, "format", 0, "format", "docker-archive (the default) or oci-archive")
	c.flags.Refuse("platform", "compress")
	c.run = func(ctx context.Context, a *app, args []string) error {
		if f := store.Format(format); f != store.FormatDocker && f != store.FormatOCI {
			return usage(errdefs.New(errdefs.ErrUnsupported, "flag --format: %q is neither docker-archive nor oci-archive", format))
		}
		images, err := a.images()
		if err != nil {
			return err
		}
		return a.writeOutput(output, func(w io.Writer) error { return images.Save(ctx, w, args, store.Format(format)) })
	}
	return c
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
