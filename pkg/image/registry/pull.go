package registry

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"

	"box/internal/errdefs"
	"box/pkg/image"
	"box/pkg/image/store"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// PullRequest says what to pull.
type PullRequest struct {
	Name     string            // as the user writes it
	Platform *ocispec.Platform // nil: that of the host
	Progress Progress          // nil: nobody is told
}

// Pull brings an image into the store and tags it. Mirrors are tried in order,
// then the registry itself. What is there already is not fetched again.
func (c *Client) Pull(ctx context.Context, st *store.Store, req PullRequest) (*image.Image, error) {
	ref, err := image.ParseReference(req.Name)
	if err != nil {
		return nil, err
	}
	places, err := c.config.endpoints(ref)
	if err != nil {
		return nil, fmt.Errorf("pull %s: %w", ref, err)
	}
	if req.Progress == nil {
		req.Progress = silent{}
	}
	var failed []error
	for _, e := range places {
		p := &pull{client: c, store: st, ref: ref, req: req}
		img, err := p.from(ctx, e)
		if err == nil {
			return img, nil
		}
		failed = append(failed, err)
		if ctx.Err() != nil {
			return nil, fmt.Errorf("pull %s: %w", ref, context.Cause(ctx))
		}
	}
	return nil, pullError(ref, failed)
}

// pullError reports what the registry itself has said first, then its mirrors:
// their failure is the lesser news.
func pullError(ref image.Reference, failed []error) error {
	last := len(failed) - 1
	if last == 0 {
		return fmt.Errorf("pull %s: %w", ref, failed[0])
	}
	words := make([]string, last)
	for i, err := range failed[:last] {
		words[i] = err.Error()
	}
	return fmt.Errorf("pull %s: %w (mirrors: %s)", ref, failed[last], strings.Join(words, "; "))
}

// pull is one attempt to pull from one endpoint.
type pull struct {
	client *Client
	store  *store.Store
	ref    image.Reference
	req    PullRequest
	s      *session
}

// from pulls from one endpoint.
func (p *pull) from(ctx context.Context, e endpoint) (*image.Image, error) {
	s, err := p.client.open(ctx, e, "pull")
	if err != nil {
		return nil, err
	}
	p.s = s
	defer s.close()
	in, err := p.documents(ctx)
	if err != nil {
		return nil, err
	}
	report, err := p.announce(in)
	if err != nil {
		return nil, err
	}
	img, err := p.store.Add(ctx, in, p.fetch)
	if err != nil {
		return nil, err
	}
	for _, id := range report {
		p.req.Progress.Done(id, StatePulled)
	}
	return img, nil
}

// checkPlatform refuses an image that is not for the platform that was asked for.
// Where none was asked for, an image of another platform is taken if the registry
// has no choice to offer: the machine may be able to run it.
func (p *pull) checkPlatform(config []byte) error {
	cfg, err := image.ParseConfig(config)
	if err != nil || p.req.Platform == nil || cfg.Architecture == "" {
		return err
	}
	want, is := image.Normalize(*p.req.Platform), image.Normalize(cfg.Platform)
	if is.OS != want.OS || is.Architecture != want.Architecture {
		return errdefs.New(errdefs.ErrNotFound, "no image for platform %s; there is: %s", image.FormatPlatform(want), image.FormatPlatform(is))
	}
	return nil
}

// accept lists the kinds of manifests that are understood.
var accept = http.Header{"Accept": {
	ocispec.MediaTypeImageIndex, ocispec.MediaTypeImageManifest, image.DockerIndex, image.DockerManifest,
}}

// documents fetches the manifest for the wanted platform, and the configuration.
func (p *pull) documents(ctx context.Context) (store.Incoming, error) {
	var in store.Incoming
	raw, mediaType, err := p.top(ctx)
	if err != nil {
		return in, err
	}
	known := digest.FromBytes(raw)
	if p.ref.Digest != "" {
		known = p.ref.Digest
	}
	if image.IsIndex(mediaType) {
		if raw, mediaType, err = p.choose(ctx, raw); err != nil {
			return in, err
		}
	}
	m, err := image.ParseManifest(raw)
	if err != nil {
		return in, err
	}
	config, _, err := p.s.verified(ctx, "blobs", m.Config.Digest, m.Config.Size, nil, image.MaxConfig)
	if err != nil {
		return in, err
	}
	if err := p.checkPlatform(config); err != nil {
		return in, err
	}
	in = store.Incoming{RawManifest: raw, MediaType: mediaType, RawConfig: config, RepoDigests: []string{p.ref.Name() + "@" + known.String()}}
	if p.ref.Digest == "" {
		in.Names = []string{p.ref.Tagged()}
	}
	return in, nil
}

// top fetches what the reference names. A digest is binding; a tag beside it is
// only a comment.
func (p *pull) top(ctx context.Context) ([]byte, string, error) {
	var raw []byte
	var said string
	var err error
	if p.ref.Digest != "" {
		raw, said, err = p.s.verified(ctx, "manifests", p.ref.Digest, -1, accept, image.MaxManifest)
	} else {
		raw, said, err = p.s.small(ctx, "manifests", p.ref.Tag, accept, image.MaxManifest)
	}
	if err != nil {
		return nil, "", err
	}
	mediaType, err := image.MediaType(raw, said)
	return raw, mediaType, err
}

// choose takes the manifest for the wanted platform out of an index.
func (p *pull) choose(ctx context.Context, raw []byte) ([]byte, string, error) {
	idx, err := image.ParseIndex(raw)
	if err != nil {
		return nil, "", err
	}
	want := image.Host()
	if p.req.Platform != nil {
		want = *p.req.Platform
	}
	d, err := image.Select(idx, want)
	if err != nil {
		return nil, "", err
	}
	chosen, said, err := p.s.verified(ctx, "manifests", d.Digest, d.Size, accept, image.MaxManifest)
	if err != nil {
		return nil, "", err
	}
	mediaType, err := image.MediaType(chosen, said)
	if err == nil && mediaType != d.MediaType {
		err = errdefs.New(errdefs.ErrInvalid, "manifest %s: the index says %q, it is %q", d.Digest, d.MediaType, mediaType)
	}
	return chosen, mediaType, err
}

// announce tells the progress about all layers and returns the ids of those that
// will be fetched.
func (p *pull) announce(in store.Incoming) ([]string, error) {
	missing, err := p.store.Missing(in)
	if err != nil {
		return nil, err
	}
	wanted := map[digest.Digest]bool{}
	var ids []string
	for _, job := range missing {
		if !wanted[job.Descriptor.Digest] {
			wanted[job.Descriptor.Digest] = true
			ids = append(ids, shortID(job.Descriptor.Digest))
		}
	}
	m, err := image.ParseManifest(in.RawManifest)
	if err != nil {
		return nil, err
	}
	for _, l := range m.Layers {
		p.req.Progress.Start(shortID(l.Digest), l.Size)
		if !wanted[l.Digest] {
			p.req.Progress.Done(shortID(l.Digest), StateExists)
		}
	}
	return ids, nil
}

// fetch opens a layer.
func (p *pull) fetch(ctx context.Context, job store.LayerJob) (io.ReadCloser, error) {
	b := &blobReader{ctx: ctx, session: p.s, desc: job.Descriptor, progress: p.req.Progress}
	if err := b.connect(); err != nil {
		return nil, err
	}
	return b, nil
}

// blobReader reads a blob and, when the connection breaks, goes on where it
// broke. What arrives is verified by whoever reads it.
type blobReader struct {
	ctx      context.Context
	session  *session
	desc     ocispec.Descriptor
	progress Progress

	body  io.ReadCloser
	done  int64 // bytes delivered
	tries int   // broken connections since the last byte
	watch *watchdog
}

// maxTries bounds the attempts to go on without a single byte in between.
const maxTries = 5

// connect asks for the blob from where we are.
func (b *blobReader) connect() error {
	header := http.Header{}
	if b.done > 0 {
		header.Set("Range", fmt.Sprintf("bytes=%d-", b.done))
	}
	b.watch = newWatchdog(b.ctx)
	resp, err := b.session.get(b.watch.ctx, "blobs", b.desc.Digest.String(), header)
	if err != nil {
		err = b.watch.explain(b.session.endpoint, err)
		b.watch.stop()
		return err
	}
	b.body = resp.Body
	if resp.StatusCode == http.StatusRequestedRangeNotSatisfiable {
		b.disconnect()
		return errdefs.New(errdefs.ErrCorrupt, "the registry has fewer than the promised %d bytes", b.desc.Size)
	}
	if b.done > 0 && resp.StatusCode == http.StatusOK { // it ignores ranges: skip what we have
		if _, err := io.CopyN(io.Discard, &watched{b.body, b.watch}, b.done); err != nil {
			err = b.watch.explain(b.session.endpoint, err)
			b.disconnect()
			return err
		}
	}
	return nil
}

func (b *blobReader) disconnect() {
	b.watch.stop()
	b.body.Close()
}

// Read reads on, over broken connections if need be.
func (b *blobReader) Read(p []byte) (int, error) {
	for {
		n, err := b.body.Read(p)
		b.watch.fed()
		if n > 0 {
			b.done += int64(n)
			b.tries = 0
			b.progress.Update(shortID(b.desc.Digest), b.done)
		}
		short := errors.Is(err, io.EOF) && b.done < b.desc.Size
		if err == nil || errors.Is(err, io.EOF) && !short {
			return n, err
		}
		if n > 0 {
			return n, nil
		}
		if err := b.again(b.watch.explain(b.session.endpoint, err)); err != nil {
			return 0, err
		}
	}
}

// again connects anew after a failure, unless that has been done too often.
func (b *blobReader) again(cause error) error {
	b.disconnect()
	for b.ctx.Err() == nil {
		if b.tries++; b.tries > maxTries {
			if errors.Is(cause, io.EOF) {
				return errdefs.New(errdefs.ErrCorrupt, "%d bytes arrived, %d were promised", b.done, b.desc.Size)
			}
			return cause
		}
		if cause = b.connect(); cause == nil {
			return nil
		}
		if !errors.Is(cause, errdefs.ErrUnavailable) {
			return cause
		}
	}
	return context.Cause(b.ctx)
}

// Close ends the transfer.
func (b *blobReader) Close() error {
	b.watch.stop()
	return b.body.Close()
}
