package cli

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"box/internal/errdefs"
	"box/pkg/build/dockerfile"
	"box/pkg/build/plan"
	"box/pkg/image"
	"box/pkg/image/store"
)

func (a *app) importCommand() *cli.Command {
	var opt store.ImportOptions
	var changes []string
	return &cli.Command{
		Name: "import", ArgsUsage: "FILE [NAME[:TAG]]", Category: groupImage, Usage: "Make an image from an archive of a root file system",
		Flags: append([]cli.Flag{
			listFlag(&changes, "change,c", "an `instruction` such as CMD, ENV, EXPOSE, USER"),
			textFlag(&opt.Message, "message,m", "`text` for the image's history"),
		}, refused("platform")...),
		Action: asRoot(func(ctx context.Context, args []string) (err error) {
			if len(args) > 1 {
				opt.Name = args[1]
			}
			if opt.Config, err = changedConfig(ctx, changes); err != nil {
				return usage(err)
			}
			return a.importFile(ctx, args[0], opt)
		}),
	}
}

func (a *app) importFile(ctx context.Context, file string, opt store.ImportOptions) error {
	if strings.Contains(file, "://") {
		return usage(errdefs.WithHint(errdefs.New(errdefs.ErrUnsupported, "import %s: fetching is not supported yet", file), "fetch the file first"))
	}
	r, name, err := a.openInput(file)
	if err != nil {
		return err
	}
	defer r.Close()
	images, err := a.images()
	if err != nil {
		return err
	}
	img, err := images.Import(ctx, r, opt)
	if err != nil {
		return fmt.Errorf("import %s: %w", name, err)
	}
	fmt.Fprintln(a.out, img.ID)
	return nil
}

// changeable are the instructions that change nothing but the configuration.
var changeable = []string{"CMD", "ENTRYPOINT", "ENV", "EXPOSE", "HEALTHCHECK", "LABEL", "STOPSIGNAL", "USER", "VOLUME", "WORKDIR"}

// changedConfig is the configuration that --change instructions make out of an
// empty one. They are planned as a Dockerfile of their own, so that they mean
// the same in both places.
func changedConfig(ctx context.Context, changes []string) (image.Config, error) {
	if len(changes) == 0 {
		return image.Config{}, nil
	}
	for _, change := range changes {
		word, _, _ := strings.Cut(strings.TrimSpace(change), " ")
		if !slices.Contains(changeable, strings.ToUpper(word)) || strings.Contains(change, "\n") {
			return image.Config{}, errdefs.New(errdefs.ErrInvalid, "flag --change: %q is none of %s", change, strings.Join(changeable, ", "))
		}
	}
	file, err := dockerfile.Parse("--change", []byte("FROM scratch\n"+strings.Join(changes, "\n")+"\n"))
	if err != nil {
		return image.Config{}, err
	}
	p, err := plan.New(ctx, file, plan.Options{Platform: image.Host(), BuildPlatform: image.Host()}, nil)
	if err != nil {
		return image.Config{}, err
	}
	config := *p.Config
	config.History = nil
	return config, nil
}
