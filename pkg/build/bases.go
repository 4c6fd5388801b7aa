package build

import (
	"context"
	"errors"
	"sync"

	"box/internal/errdefs"
	"box/pkg/build/plan"
	"box/pkg/image"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go/v1"
)

// bases finds base images, each once.
type bases struct {
	req   Request
	env   Env
	mu    sync.Mutex
	found map[plan.ImageRef]*lookup
}

// lookup is one image that is looked for; done is closed when it is settled.
type lookup struct {
	done chan struct{}
	name string
	img  *image.Image
	err  error
}

func newBases(req Request, env Env) *bases {
	return &bases{req: req, env: env, found: map[plan.ImageRef]*lookup{}}
}

// prefetch looks for several images at once. Errors are reported by resolve,
// which knows the line.
func (b *bases) prefetch(ctx context.Context, refs []plan.ImageRef) {
	if len(refs) < 2 {
		return
	}
	var wg sync.WaitGroup
	for _, ref := range refs {
		wg.Go(func() { b.look(ctx, ref) })
	}
	wg.Wait()
}

// resolve implements plan.Resolver.
func (b *bases) resolve(ctx context.Context, ref plan.ImageRef) (*plan.Base, error) {
	l := b.look(ctx, ref)
	if l.err != nil {
		return nil, l.err
	}
	return &plan.Base{Name: l.name, ID: l.img.ID, Config: &l.img.Config}, nil
}

func (b *bases) look(ctx context.Context, ref plan.ImageRef) *lookup {
	b.mu.Lock()
	l := b.found[ref]
	mine := l == nil
	if mine {
		l = &lookup{done: make(chan struct{})}
		b.found[ref] = l
	}
	b.mu.Unlock()
	if mine {
		l.name, l.img, l.err = b.find(ctx, ref)
		close(l.done)
	}
	<-l.done
	return l
}

// find gives the image from the store or a registry.
func (b *bases) find(ctx context.Context, ref plan.ImageRef) (string, *image.Image, error) {
	want, err := image.ParsePlatform(ref.Platform)
	if err != nil {
		return "", nil, err
	}
	r, err := image.ParseReference(ref.Name)
	if err != nil {
		return b.findID(ref.Name, err)
	}
	// The full name: a short one might be taken for the beginning of an id.
	name := r.String()
	if !b.req.Pull || b.env.Pull == nil {
		img, err := b.env.Store.Lookup(name)
		if err == nil && samePlatform(img.Config.Platform, want) {
			return name, img, nil
		}
		if err != nil && !errors.Is(err, errdefs.ErrNotFound) {
			return "", nil, err
		}
	}
	if b.env.Pull == nil {
		return "", nil, errdefs.New(errdefs.ErrNotFound, "image %s for %s: not found", r.Familiar(), ref.Platform)
	}
	img, err := b.env.Pull(ctx, name, want)
	return name, img, err
}

// findID finds an image by its whole id, the only thing beside a reference
// that FROM takes.
func (b *bases) findID(id string, bad error) (string, *image.Image, error) {
	if image.CheckDigest(digest.Digest("sha256:"+id)) != nil {
		return "", nil, bad
	}
	img, err := b.env.Store.Lookup(id)
	return id, img, err
}

// samePlatform compares what a name in the store stands for with what is
// wanted. An image that says nothing of its architecture serves everywhere.
func samePlatform(have, want v1.Platform) bool {
	have = image.Normalize(have)
	return have.Architecture == "" || have.Architecture == want.Architecture && have.OS == want.OS &&
		(have.Variant == want.Variant || have.Variant == "" || want.Variant == "")
}

// images gives what was found, by id.
func (b *bases) images() map[digest.Digest]*image.Image {
	out := map[digest.Digest]*image.Image{}
	for _, l := range b.found {
		if l.img != nil {
			out[l.img.ID] = l.img
		}
	}
	return out
}
