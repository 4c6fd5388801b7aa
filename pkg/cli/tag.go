package cli

import "context"

func tagCommand() *command {
	return &command{
		name: "tag", operands: "IMAGE NAME[:TAG]", summary: "Give an image a further name", min: 2, max: 2,
		run: func(ctx context.Context, a *app, args []string) error {
			images, err := a.images()
			if err != nil {
				return err
			}
			img, err := images.Lookup(args[0])
			if err != nil {
				return err
			}
			return images.Tag(ctx, img, args[1])
		},
	}
}
