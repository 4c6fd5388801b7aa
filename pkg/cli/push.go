package cli

import (
	"context"
	"fmt"

	"github.com/urfave/cli/v2"

	"box/pkg/image/registry"
)

func (a *app) pushCommand() *cli.Command {
	var quiet bool
	return &cli.Command{
		Name: "push", ArgsUsage: "NAME[:TAG]", Category: groupRegistry, Usage: "Upload an image to the registry in its name",
		Flags:  append(refused("all-tags,a", "platform", "disable-content-trust"), boolFlag(&quiet, "quiet,q", "show no progress")),
		Action: asRoot(func(ctx context.Context, args []string) error { return a.push(ctx, args[0], quiet) }),
	}
}

func (a *app) push(ctx context.Context, name string, quiet bool) error {
	images, err := a.images()
	if err != nil {
		return err
	}
	client, err := registry.Open()
	if err != nil {
		return err
	}
	req := registry.PushRequest{Name: name}
	var p *progress
	if !quiet {
		p = newProgress(a.err, "Pushing")
		req.Progress = p
	}
	digest, err := client.Push(ctx, images, req)
	if p != nil {
		p.finish()
	}
	if err != nil {
		return err
	}
	if !quiet {
		fmt.Fprintf(a.err, "Digest: %s\n", digest)
	}
	fmt.Fprintf(a.out, "%s@%s\n", repositoryOf(name), digest)
	return nil
}
