package cli

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/urfave/cli/v2"

	"box/internal/errdefs"
	"box/pkg/image"
	"box/pkg/image/registry"
)

func (a *app) pullCommand() *cli.Command {
	var quiet bool
	return &cli.Command{
		Name: "pull", ArgsUsage: "NAME[:TAG|@DIGEST]", Category: groupRegistry, Usage: "Fetch an image from its registry",
		Flags:  append(refused("all-tags,a", "platform", "disable-content-trust"), boolFlag(&quiet, "quiet,q", "show no progress")),
		Action: asRoot(func(ctx context.Context, args []string) error { return a.pull(ctx, args[0], quiet) }),
	}
}

func (a *app) pull(ctx context.Context, name string, quiet bool) error {
	img, err := a.pullImage(ctx, name, quiet)
	if err != nil {
		return err
	}
	ref, err := image.ParseReference(name)
	if err != nil {
		return err
	}
	if d := digestOf(img, ref.Name()); d != "" && !quiet {
		fmt.Fprintln(a.err, "Digest:", d)
	}
	fmt.Fprintln(a.out, ref)
	return nil
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
