package cli

import (
	"context"

	"github.com/urfave/cli/v2"
)

func (a *app) tagCommand() *cli.Command {
	return &cli.Command{
		Name: "tag", ArgsUsage: "IMAGE NAME[:TAG]", Category: groupImage, Usage: "Give an image a further name",
		Action: asRoot(func(ctx context.Context, args []string) error {
			images, err := a.images()
			if err != nil {
				return err
			}
			img, err := images.Lookup(args[0])
			if err != nil {
				return err
			}
			return images.Tag(ctx, img, args[1])
		}),
	}
}
