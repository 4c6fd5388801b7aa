package cli

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"box/internal/errdefs"
	"box/pkg/image"
)

func (a *app) imagesCommand() *cli.Command {
	var o imagesOptions
	return &cli.Command{
		Name: "images", ArgsUsage: "[REPOSITORY[:TAG]]", Category: groupImage, Usage: "List images",
		Flags: append([]cli.Flag{
			boolFlag(&o.all, "all,a", "the same list; there are no hidden images"),
			boolFlag(&o.quiet, "quiet,q", "print ids only"),
			boolFlag(&o.digests, "digests", "show the registries' digests"),
			boolFlag(&o.noTrunc, "no-trunc", "do not shorten ids"),
			listFlag(&o.filters, "filter,f", "only those with this reference or label, or dangling: `key=value`"),
			textFlag(&o.format, "format", "print by a Go `template`, table TEMPLATE, or json"),
		}, refused("tree")...),
		Action: asRoot(func(ctx context.Context, args []string) error {
			if len(args) > 0 {
				o.filters = append(o.filters, "reference="+args[0])
			}
			return a.listImages(ctx, o)
		}),
	}
}

type imagesOptions struct {
	all, quiet, digests, noTrunc bool
	filters                      []string
	format                       string
}

// imageRow has the names that Docker's templates use.
type imageRow struct {
	ID, Repository, Tag, Digest, CreatedSince, CreatedAt, Size string
}

var imageHeaders = map[string]string{
	"ID": "IMAGE ID", "Repository": "REPOSITORY", "Tag": "TAG", "Digest": "DIGEST", "CreatedSince": "CREATED",
	"CreatedAt": "CREATED AT", "Size": "SIZE",
}

func (a *app) listImages(ctx context.Context, o imagesOptions) error {
	match, err := imageFilters(o.filters)
	if err != nil {
		return usage(err)
	}
	images, err := a.images()
	if err != nil {
		return err
	}
	list, err := images.List(ctx)
	if err != nil {
		return err
	}
	var found []imageRow
	for _, img := range list {
		for _, row := range imageRows(img, time.Now(), o.noTrunc) {
			if match(img, row) {
				found = append(found, row)
			}
		}
	}
	return a.printImages(found, o)
}

func (a *app) printImages(found []imageRow, o imagesOptions) error {
	switch {
	case o.quiet:
		last := ""
		for _, r := range found {
			if r.ID != last { // the rows of one image stand together
				fmt.Fprintln(a.out, r.ID)
			}
			last = r.ID
		}
		return nil
	case o.format != "" && o.format != "table":
		return rows(a.out, o.format, imageHeaders, found)
	}
	header := []string{"REPOSITORY", "TAG", "IMAGE ID", "CREATED", "SIZE"}
	if o.digests {
		header = []string{"REPOSITORY", "TAG", "DIGEST", "IMAGE ID", "CREATED", "SIZE"}
	}
	t := newTable(a.out, header...)
	for _, r := range found {
		if o.digests {
			t.row(r.Repository, r.Tag, r.Digest, r.ID, r.CreatedSince, r.Size)
			continue
		}
		t.row(r.Repository, r.Tag, r.ID, r.CreatedSince, r.Size)
	}
	return t.flush()
}

// imageRows are one row per name, or one for an image without.
func imageRows(img *image.Image, now time.Time, full bool) []imageRow {
	row := imageRow{
		ID: img.ID.String(), Repository: "<none>", Tag: "<none>", Digest: "<none>",
		CreatedSince: orElse(ago(now, img.Created()), "N/A"), CreatedAt: img.Created().Local().Format("2006-01-02 15:04:05 -0700 MST"),
		Size: size(img.Size()),
	}
	if !full {
		row.ID = shortID(row.ID)
	}
	if len(img.Names) == 0 {
		row.Repository, row.Digest = untagged(img)
		return []imageRow{row}
	}
	var all []imageRow
	for _, name := range img.Names {
		ref, err := image.ParseReference(name)
		if err != nil {
			continue // the store writes no such names
		}
		r := row
		r.Tag = ref.Tag
		r.Digest = orElse(digestOf(img, ref.Name()), "<none>")
		ref.Tag = ""
		r.Repository = ref.Familiar()
		all = append(all, r)
	}
	return all
}

// untagged names an image that has lost its last tag by the repository it was
// pulled from, if there is one.
func untagged(img *image.Image) (repository, digest string) {
	for _, name := range img.RepoDigests {
		if ref, err := image.ParseReference(name); err == nil {
			digest = ref.Digest.String()
			ref.Digest = ""
			return ref.Familiar(), digest
		}
	}
	return "<none>", "<none>"
}

// digestOf is the digest that the repository knows the image under.
func digestOf(img *image.Image, repository string) string {
	for _, d := range img.RepoDigests {
		if name, digest, ok := strings.Cut(d, "@"); ok && name == repository {
			return digest
		}
	}
	return ""
}

// imageFilters returns a test that joins all filters by and.
func imageFilters(texts []string) (func(*image.Image, imageRow) bool, error) {
	var tests []func(*image.Image, imageRow) bool
	for _, text := range texts {
		key, value, _ := strings.Cut(text, "=")
		switch key {
		case "reference":
			ref, err := image.ParseReference(value)
			if err != nil {
				return nil, err
			}
			tests = append(tests, func(_ *image.Image, r imageRow) bool { return named(r, ref, value) })
		case "label":
			tests = append(tests, func(img *image.Image, _ imageRow) bool { return labelled(img, value) })
		case "dangling":
			tests = append(tests, func(_ *image.Image, r imageRow) bool { return (r.Tag == "<none>") == (value == "true" || value == "1") })
		default:
			return nil, errdefs.New(errdefs.ErrUnsupported, "filter %q is not supported: reference, label, dangling are", text)
		}
	}
	return func(img *image.Image, r imageRow) bool {
		for _, test := range tests {
			if !test(img, r) {
				return false
			}
		}
		return true
	}, nil
}

// named compares a row with a reference; without a tag in what was typed every
// tag fits.
func named(r imageRow, ref image.Reference, typed string) bool {
	tagged := strings.LastIndexByte(typed, ':') > strings.LastIndexByte(typed, '/')
	repository := image.Reference{Registry: ref.Registry, Repository: ref.Repository}.Familiar()
	return r.Repository == repository && (!tagged || r.Tag == ref.Tag)
}

func labelled(img *image.Image, text string) bool {
	key, value, exact := strings.Cut(text, "=")
	have, ok := img.Config.Config.Labels[key]
	return ok && (!exact || have == value)
}
