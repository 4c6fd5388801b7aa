package cli

import (
	"context"
	"fmt"

	"github.com/urfave/cli/v2"

	"box/pkg/image"
	"box/pkg/image/store"
)

func (a *app) rmiCommand() *cli.Command {
	var force bool
	return &cli.Command{
		Name: "rmi", ArgsUsage: "IMAGE [IMAGE...]", Category: groupImage, Usage: "Remove names, and images with their last name",
		Flags: append(refused("no-prune", "platform"),
			boolFlag(&force, "force,f", "all names of an image, even if stopped ones use it")),
		Action: asRoot(func(ctx context.Context, args []string) error { return a.rmi(ctx, args, force) }),
	}
}

func (a *app) rmi(ctx context.Context, names []string, force bool) error {
	images, err := a.images()
	if err != nil {
		return err
	}
	used, err := a.imagesInUse(ctx)
	if err != nil {
		return err
	}
	return a.each(names, func(name string) error {
		done, err := images.Delete(ctx, name, store.DeleteOptions{Force: force, InUse: used})
		if err != nil {
			return err
		}
		for _, name := range done.Untagged {
			fmt.Fprintln(a.out, "Untagged:", familiar(name))
		}
		if done.ID != "" {
			fmt.Fprintln(a.out, "Deleted:", done.ID)
		}
		return nil
	})
}

// familiar is a full name as Docker shows it.
func familiar(name string) string {
	ref, err := image.ParseReference(name)
	if err != nil {
		return name
	}
	return ref.Familiar()
}
