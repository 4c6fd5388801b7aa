package store

import (
	"context"
	"fmt"
	"reflect"
	"slices"
	"strings"

	"box/internal/errdefs"
	"box/pkg/image"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Tag gives an image a further name, taking the name from whatever had it.
func (s *Store) Tag(ctx context.Context, img *image.Image, name string) error {
	ref, err := image.ParseReference(name)
	if err != nil {
		return err
	}
	if ref.Tag == "" || ref.Digest != "" {
		return errdefs.New(errdefs.ErrInvalid, "tag %s: a name for an image has a tag and no digest", name)
	}
	return s.update(ctx, func(idx *ocispec.Index) error {
		for _, d := range idx.Manifests {
			if idOf(d) == img.ID {
				place(idx, entryOf(d), []string{ref.Tagged()})
				return nil
			}
		}
		return errdefs.New(errdefs.ErrNotFound, "tag %s: image %s is no longer there", name, img.ID)
	})
}

// Use says that a container needs an image.
type Use struct {
	Container string // how to call the container in a message
	Running   bool
}

// DeleteOptions say how far Delete may go.
type DeleteOptions struct {
	// Force removes all names of an image given by id, and an image that only
	// stopped containers use.
	Force bool
	// InUse tells for an image id which container uses it.
	InUse map[digest.Digest]Use
}

// Deleted is what Delete has done, in the order in which it happened.
type Deleted struct {
	Untagged []string      // full names
	ID       digest.Digest // the image, if it is gone; empty if it has other names
}

// Delete removes a name, and the image with its last name. Given an id it
// removes the image; if that has names in several repositories, only with
// Force. An image that a container uses is refused with errdefs.ErrConflict.
// The layers go with the next collection of garbage, which is tried at once.
func (s *Store) Delete(ctx context.Context, nameOrID string, opt DeleteOptions) (Deleted, error) {
	var done Deleted
	err := s.update(ctx, func(idx *ocispec.Index) error {
		var err error
		done, err = remove(idx, nameOrID, opt)
		return err
	})
	if err != nil {
		return Deleted{}, err
	}
	return done, s.GC(ctx)
}

// remove is Delete on an index.
func remove(idx *ocispec.Index, what string, opt DeleteOptions) (Deleted, error) {
	id, err := find(idx, what)
	if err != nil {
		return Deleted{}, err
	}
	all := namesOf(idx, id)
	names := all
	if ref, err := image.ParseReference(what); err == nil && ref.Digest == "" && slices.Contains(all, ref.Tagged()) {
		names = []string{ref.Tagged()}
	} else if repositories(all) > 1 && !opt.Force {
		return Deleted{}, errdefs.WithHint(
			errdefs.New(errdefs.ErrConflict, "remove image %s: it has several names: %s", what, strings.Join(all, ", ")),
			"remove the names one by one, or use -f")
	}
	last := len(names) == len(all)
	if use, ok := opt.InUse[id]; ok && last && (use.Running || !opt.Force) {
		return Deleted{}, inUse(what, use)
	}
	drop(idx, id, names, last)
	done := Deleted{Untagged: names}
	if last {
		done.ID = id
	}
	return done, nil
}

// inUse is the refusal to remove an image that a container needs.
func inUse(what string, use Use) error {
	state, hint := "stopped", "remove the container first, or use -f"
	if use.Running {
		state, hint = "running", "stop and remove the container first"
	}
	err := errdefs.New(errdefs.ErrConflict, "remove image %s: %s container %s uses it", what, state, use.Container)
	return errdefs.WithHint(err, "%s", hint)
}

// drop removes the entries of an image that have one of the names, or all.
func drop(idx *ocispec.Index, id digest.Digest, names []string, all bool) {
	idx.Manifests = slices.DeleteFunc(idx.Manifests, func(d ocispec.Descriptor) bool {
		return idOf(d) == id && (all || slices.Contains(names, nameOf(d)))
	})
}

// namesOf are the tags of an image.
func namesOf(idx *ocispec.Index, id digest.Digest) []string {
	var names []string
	for _, d := range idx.Manifests {
		if idOf(d) == id && nameOf(d) != "" {
			names = append(names, nameOf(d))
		}
	}
	return names
}

// repositories counts the repositories that the names lie in.
func repositories(names []string) int {
	seen := map[string]bool{}
	for _, name := range names {
		seen[name[:strings.LastIndexByte(name, ':')]] = true
	}
	return len(seen)
}

// add makes an image visible: everything it needs is made durable first. An image
// that is there already, under all the names, costs nothing.
func (s *Store) add(ctx context.Context, e entry, names []string) (*image.Image, error) {
	img := &image.Image{ID: e.id, Manifest: e.manifest}
	if err := s.fill(img); err != nil {
		return nil, err
	}
	idx, err := s.index()
	if err != nil {
		return nil, err
	}
	if isPlaced(idx, e, names) {
		return s.load(idx, e.id)
	}
	if err := s.settle(blobsOf(e, img)); err != nil {
		return nil, err
	}
	err = s.update(ctx, func(idx *ocispec.Index) error {
		place(idx, e, names)
		img, err = s.load(idx, e.id)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("add image %s: %w", e.id, err)
	}
	return img, nil
}

// isPlaced reports whether place would change nothing.
func isPlaced(idx *ocispec.Index, e entry, names []string) bool {
	after := &ocispec.Index{Manifests: slices.Clone(idx.Manifests)}
	place(after, e, names)
	return reflect.DeepEqual(idx.Manifests, after.Manifests)
}

// blobsOf are the blobs that an entry stands for.
func blobsOf(e entry, img *image.Image) []digest.Digest {
	all := []digest.Digest{e.id, e.manifest.Digest}
	if e.source != "" {
		all = append(all, e.source)
	}
	for _, l := range img.Layers {
		all = append(all, l.Digest)
	}
	return all
}
