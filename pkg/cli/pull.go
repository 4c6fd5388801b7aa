package cli

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"box/internal/errdefs"
	"box/pkg/image"
	"box/pkg/image/registry"
)

func pullCommand() *command {
	c := &command{name: "pull", operands: "NAME[:TAG|@DIGEST]", summary: "Fetch an image from its registry", min: 1, max: 1}
	var quiet bool
	c.flags.Bool(&quiet, "quiet", 'q', "show no progress")
	c.flags.Refuse("all-tags,a", "platform", "disable-content-trust")
	c.run = func(ctx context.Context, a *app, args []string) error {
		img, err := a.pullImage(ctx, args[0], quiet)
		if err != nil {
			return err
		}
		ref, err := image.ParseReference(args[0])
		if err != nil {
			return err
		}
		if d := digestOf(img, ref.Name()); d != "" && !quiet {
			fmt.Fprintln(a.err, "Digest:", d)
		}
		fmt.Fprintln(a.out, ref)
		return nil
	}
	return c
}

// pullImage fetches an image into the store.
func (a *app) pullImage(ctx context.Context, name string, quiet bool) (*image.Image, error) {
	images, err := a.images()
	if err != nil {
		return nil, err
	}
	client, err := registry.Open()
	if err != nil {
		return nil, err
	}
	req := registry.PullRequest{Name: name}
	if !quiet {
		p := newProgress(a.err, "Pulling")
		defer p.finish()
		req.Progress = p
	}
	img, err := client.Pull(ctx, images, req)
	if errors.Is(err, errdefs.ErrNotFound) && errdefs.Hint(err) == "" {
		err = errdefs.WithHint(err, "check name and tag; for a private image log in first with box login")
	}
	return img, err
}

// repositoryOf is a name without tag and digest, as Docker shows it.
func repositoryOf(name string) string {
	ref, err := image.ParseReference(name)
	if err != nil {
		return name
	}
	return strings.TrimSpace(image.Reference{Registry: ref.Registry, Repository: ref.Repository}.Familiar())
}
