package cli

import (
	"context"
	"fmt"

	"box/pkg/image"
	"box/pkg/image/store"
)

func rmiCommand() *command {
	c := &command{name: "rmi", operands: "IMAGE [IMAGE...]", summary: "Remove names, and images with their last name", min: 1, max: -1}
	var force bool
	c.flags.Bool(&force, "force", 'f', "all names of an image, even if stopped ones use it")
	c.flags.Refuse("no-prune", "platform")
	c.run = func(ctx context.Context, a *app, args []string) error { return a.rmi(ctx, c, args, force) }
	return c
}

func (a *app) rmi(ctx context.Context, c *command, names []string, force bool) error {
	images, err := a.images()
	if err != nil {
		return err
	}
	used, err := a.imagesInUse(ctx)
	if err != nil {
		return err
	}
	return a.each(c, names, func(name string) error {
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
