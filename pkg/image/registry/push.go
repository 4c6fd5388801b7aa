package registry

import (
	"context"
	"fmt"
	"io"
	"strings"
	"sync/atomic"

	"box/internal/errdefs"
	"box/pkg/image"
	"box/pkg/image/store"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"
)

// PushRequest says what to push.
type PushRequest struct {
	Name     string   // a name of an image in the store; its registry is where it goes
	Progress Progress // nil: nobody is told
}

// Push uploads an image under one of its names and returns the digest under
// which the registry has it. Layers that are there are not sent again; layers
// that another repository of the same registry has are mounted from there. The
// image in the store is then the pushed one: a later pull of that name gives
// the same digest and fetches nothing.
func (c *Client) Push(ctx context.Context, st *store.Store, req PushRequest) (digest.Digest, error) {
	ref, err := image.ParseReference(req.Name)
	if err != nil {
		return "", err
	}
	d, err := c.push(ctx, st, ref, req)
	if err != nil {
		return "", fmt.Errorf("push %s: %w", ref, err)
	}
	return d, nil
}

// push does the work of Push.
func (c *Client) push(ctx context.Context, st *store.Store, ref image.Reference, req PushRequest) (digest.Digest, error) {
	if ref.Digest != "" {
		return "", errdefs.New(errdefs.ErrInvalid, "a name with a digest cannot be pushed; give it a tag")
	}
	places, err := c.config.endpoints(ref)
	if err != nil {
		return "", err
	}
	release, err := st.Hold(ctx)
	if err != nil {
		return "", err
	}
	defer release()
	img, err := st.Lookup(ref.Tagged())
	if err != nil {
		return "", err
	}
	out, err := st.Export(ctx, img)
	if err != nil {
		return "", err
	}
	up, err := c.uploader(ctx, st, places[len(places)-1], req.Progress) // never to a mirror
	if err != nil {
		return "", err
	}
	defer up.guard.inner.CloseIdleConnections()
	up.sources = sourcesOf(img, ref)
	if err := up.all(ctx, out, ref.Tag); err != nil {
		return "", explain(up.endpoint, err)
	}
	_, err = st.Exported(ctx, img, out, ref)
	return out.Manifest.Digest, err
}

// sourcesOf are the other repositories of the same registry that have the image:
// its layers may be mounted from there.
func sourcesOf(img *image.Image, ref image.Reference) []string {
	var all []string
	for _, known := range img.RepoDigests {
		repo, _, _ := strings.Cut(known, "@")
		if other, ok := strings.CutPrefix(repo, ref.Registry+"/"); ok && other != ref.Repository {
			all = append(all, other)
		}
	}
	return all
}

// uploader sends one image to one endpoint.
type uploader struct {
	endpoint
	store    *store.Store
	repo     name.Repository
	pusher   *remote.Pusher
	progress Progress
	sources  []string
	guard    *guard
}

// uploader prepares for sending.
func (c *Client) uploader(ctx context.Context, st *store.Store, e endpoint, progress Progress) (*uploader, error) {
	if progress == nil {
		progress = silent{}
	}
	reg, err := registryOf(e)
	if err != nil {
		return nil, err
	}
	auth, err := c.creds.find(ctx, e.host)
	if err != nil {
		return nil, err
	}
	g := newGuard(e)
	pusher, err := remote.NewPusher(remote.WithTransport(g), remote.WithAuth(auth), remote.WithUserAgent("box"))
	if err != nil {
		return nil, fmt.Errorf("registry %s: %w", e.host, err)
	}
	return &uploader{endpoint: e, store: st, repo: reg.Repo(e.repository), pusher: pusher, progress: progress, guard: g}, nil
}

// all sends layers and configuration at once, and the manifest when they are
// there: a registry refuses one that refers to what it has not got.
func (u *uploader) all(ctx context.Context, out store.Export, tag string) error {
	group, gctx := errgroup.WithContext(ctx)
	group.SetLimit(5)
	for _, d := range append([]ocispec.Descriptor{out.Config}, out.Layers...) {
		if d.Digest != out.Config.Digest {
			u.progress.Start(shortID(d.Digest), d.Size)
		}
	}
	sent := map[digest.Digest]bool{}
	for _, d := range append([]ocispec.Descriptor{out.Config}, out.Layers...) {
		if sent[d.Digest] {
			continue
		}
		sent[d.Digest] = true
		group.Go(func() error { return u.blob(gctx, d, d.Digest == out.Config.Digest) })
	}
	if err := group.Wait(); err != nil {
		return err
	}
	return u.pusher.Put(ctx, u.repo.Tag(tag), document{out})
}

// blob sends one blob, if it is not there.
func (u *uploader) blob(ctx context.Context, d ocispec.Descriptor, quiet bool) error {
	b := &blob{store: u.store, desc: d, progress: u.progress}
	if quiet {
		b.progress = silent{}
	}
	var l v1.Layer = b
	if len(u.sources) > 0 {
		l = &remote.MountableLayer{Layer: b, Reference: u.repo.Registry.Repo(u.sources[0]).Digest(d.Digest.String())}
	}
	if err := u.pusher.Upload(ctx, u.repo, l); err != nil {
		return err
	}
	state := StatePushed
	if !b.opened.Load() {
		state = StateThere // or mounted: the pusher does not tell
	}
	b.progress.Done(shortID(d.Digest), state)
	return nil
}

// blob is a blob of the store in go-containerregistry's words.
type blob struct {
	store    *store.Store
	desc     ocispec.Descriptor
	progress Progress
	opened   atomic.Bool
}

var _ v1.Layer = (*blob)(nil)

// Digest is the digest of the blob.
func (b *blob) Digest() (v1.Hash, error) { return v1.NewHash(b.desc.Digest.String()) }

// DiffID is not needed for an upload.
func (b *blob) DiffID() (v1.Hash, error) { return v1.NewHash(b.desc.Digest.String()) }

// Size is the number of bytes of the blob.
func (b *blob) Size() (int64, error) { return b.desc.Size, nil }

// MediaType is that of the descriptor.
func (b *blob) MediaType() (types.MediaType, error) { return types.MediaType(b.desc.MediaType), nil }

// Uncompressed is not needed for an upload.
func (b *blob) Uncompressed() (io.ReadCloser, error) { return b.Compressed() }

// Compressed opens the blob as it is. It is called again for every retry.
func (b *blob) Compressed() (io.ReadCloser, error) {
	f, err := b.store.Blob(b.desc.Digest)
	if err != nil {
		return nil, err
	}
	b.opened.Store(true)
	return &counted{ReadCloser: f, blob: b}, nil
}

// counted reports progress while it is read.
type counted struct {
	io.ReadCloser
	blob *blob
	done int64
}

// Read reads on and reports.
func (c *counted) Read(p []byte) (int, error) {
	n, err := c.ReadCloser.Read(p)
	c.done += int64(n)
	c.blob.progress.Update(shortID(c.blob.desc.Digest), c.done)
	return n, err
}

// document is the manifest in go-containerregistry's words.
type document struct{ out store.Export }

// RawManifest is the manifest, byte for byte.
func (d document) RawManifest() ([]byte, error) { return d.out.RawManifest, nil }

// MediaType is that of the manifest.
func (d document) MediaType() (types.MediaType, error) {
	return types.MediaType(d.out.Manifest.MediaType), nil
}
