package cli

import (
	"context"
	"encoding/json"
	"errors"

	"github.com/urfave/cli/v2"

	"box/internal/errdefs"
	"box/pkg/image"
)

func (a *app) inspectCommand() *cli.Command {
	var o inspectOptions
	return &cli.Command{
		Name: "inspect", ArgsUsage: "NAME [NAME...]", Category: groupContainer, Usage: "Print everything known about containers or images",
		Flags: append([]cli.Flag{
			textFlag(&o.format, "format,f", "print by a Go `template`, or json on one line"),
			textFlag(&o.kind, "type", "container or image; otherwise whichever has the name: `kind`"),
		}, refused("size,s")...),
		Action: asRoot(func(ctx context.Context, args []string) error { return a.inspect(ctx, args, o) }),
	}
}

type inspectOptions struct{ format, kind string }

// inspect prints what it found even if some names are not known, as Docker
// does.
func (a *app) inspect(ctx context.Context, names []string, o inspectOptions) error {
	var f *format
	var err error
	if o.format != "" {
		if f, err = parseFormat(o.format); err != nil {
			return err
		}
	}
	found := []any{}
	failed := a.each(names, func(name string) error {
		v, err := a.inspectOne(ctx, name, o.kind)
		if err != nil {
			return err
		}
		if f != nil {
			return f.line(a.out, v)
		}
		found = append(found, v)
		return nil
	})
	if f == nil && (len(found) > 0 || failed == nil) {
		e := json.NewEncoder(a.out)
		e.SetEscapeHTML(false)
		e.SetIndent("", "    ")
		return errors.Join(failed, e.Encode(found))
	}
	return failed
}

// inspectOne looks for a container first, as Docker does.
func (a *app) inspectOne(ctx context.Context, name, kind string) (any, error) {
	if kind != "" && kind != "container" && kind != "image" {
		return nil, usage(errdefs.New(errdefs.ErrUnsupported, "flag --type: %q is neither container nor image", kind))
	}
	if kind != "image" {
		e, err := a.engine()
		if err != nil {
			return nil, err
		}
		v, err := e.Inspect(ctx, name)
		if kind == "container" || !errors.Is(err, errdefs.ErrNotFound) {
			return v, err
		}
	}
	images, err := a.images()
	if err != nil {
		return nil, err
	}
	img, err := images.Lookup(name)
	if errors.Is(err, errdefs.ErrNotFound) && kind == "" {
		return nil, errdefs.WithHint(errdefs.New(errdefs.ErrNotFound, "no container and no image is called %q", name), "see box ps -a and box images")
	}
	if err != nil {
		return nil, err
	}
	return inspectImage(img), nil
}

// imageInspection has Docker's names for what box knows of an image.
type imageInspection struct {
	ID           string `json:"Id"`
	RepoTags     []string
	RepoDigests  []string
	Created      string
	Architecture string
	Variant      string `json:",omitempty"`
	Os           string //nolint:revive // Docker's spelling
	Size         int64
	Author       string
	Config       image.RunConfig
	RootFS       imageRootFS
}

type imageRootFS struct {
	Type   string
	Layers []string
}

func inspectImage(img *image.Image) imageInspection {
	c := img.Config
	v := imageInspection{
		ID: img.ID.String(), RepoTags: []string{}, RepoDigests: []string{}, Architecture: c.Architecture, Variant: c.Variant,
		Os: c.OS, Size: img.Size(), Author: c.Author, Config: c.Config, RootFS: imageRootFS{Type: "layers", Layers: []string{}},
	}
	if c.Created != nil {
		v.Created = c.Created.Format("2006-01-02T15:04:05.999999999Z07:00")
	}
	for _, name := range img.Names {
		v.RepoTags = append(v.RepoTags, familiar(name))
	}
	for _, name := range img.RepoDigests {
		v.RepoDigests = append(v.RepoDigests, familiar(name))
	}
	for _, d := range c.RootFS.DiffIDs {
		v.RootFS.Layers = append(v.RootFS.Layers, d.String())
	}
	return v
}
