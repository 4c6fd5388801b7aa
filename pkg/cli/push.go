package cli

import (
	"context"
	"fmt"

	"box/pkg/image/registry"
)

func pushCommand() *command {
	c := &command{name: "push", operands: "NAME[:TAG]", summary: "Upload an image to the registry in its name", min: 1, max: 1}
	var quiet bool
	c.flags.Bool(&quiet, "quiet", 'q', "show no progress")
	c.flags.Refuse("all-tags,a", "platform", "disable-content-trust")
	c.run = func(ctx context.Context, a *app, args []string) error { return a.push(ctx, args[0], quiet) }
	return c
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
