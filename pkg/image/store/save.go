package store

import (
	"archive/tar"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"box/internal/errdefs"
	"box/pkg/image"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Format is the form of an archive of images.
type Format string

// The formats of Save. FormatDocker is what Docker itself writes since version
// 25: an OCI layout with Docker's manifest.json beside it, so that old and new
// readers find what they look for. FormatOCI leaves manifest.json out.
const (
	FormatDocker Format = "docker-archive"
	FormatOCI    Format = "oci-archive"
)

// Save writes images as one archive. Names may be ids; an image that is asked
// for by name carries that name, one by id all of its names. Equal images give
// equal archives.
func (s *Store) Save(ctx context.Context, w io.Writer, names []string, format Format) error {
	if format != FormatDocker && format != FormatOCI {
		return errdefs.New(errdefs.ErrUnsupported, "save images: format %q; known are %s and %s", format, FormatDocker, FormatOCI)
	}
	release, err := s.Hold(ctx)
	if err != nil {
		return err
	}
	defer release()
	picked, err := s.pick(names)
	if err != nil {
		return fmt.Errorf("save images: %w", err)
	}
	a := &archive{ctx: ctx, store: s, tar: tar.NewWriter(w), done: map[digest.Digest]bool{}}
	if err := a.write(picked, format); err != nil {
		return fmt.Errorf("save images: %w", err)
	}
	return nil
}

// picked is one image to save and the names it goes by.
type picked struct {
	img   *image.Image
	names []string
}

// pick looks up what to save; an image named twice is saved once.
func (s *Store) pick(names []string) ([]picked, error) {
	if len(names) == 0 {
		return nil, errdefs.New(errdefs.ErrInvalid, "no image is named")
	}
	var all []picked
	for _, name := range names {
		img, err := s.Lookup(name)
		if err != nil {
			return nil, err
		}
		called := img.Names
		if ref, err := image.ParseReference(name); err == nil && slices.Contains(img.Names, ref.Tagged()) {
			called = []string{ref.Tagged()}
		}
		if i := slices.IndexFunc(all, func(p picked) bool { return p.img.ID == img.ID }); i >= 0 {
			all[i].names = union(all[i].names, called)
			continue
		}
		all = append(all, picked{img, called})
	}
	return all, nil
}

// archive is a tar file being written.
type archive struct {
	ctx   context.Context //nolint:containedctx // lives as long as one Save
	store *Store
	tar   *tar.Writer
	done  map[digest.Digest]bool
}

// legacyEntry is one image in Docker's manifest.json.
type legacyEntry struct {
	Config   string
	RepoTags []string
	Layers   []string
}

// write writes the blobs first, then the documents that name them.
func (a *archive) write(all []picked, format Format) error {
	idx := emptyIndex()
	legacy := []legacyEntry{}
	for _, p := range all {
		if err := a.image(p.img); err != nil {
			return fmt.Errorf("image %s: %w", p.img.ID, err)
		}
		idx.Manifests = append(idx.Manifests, descriptors(p)...)
		legacy = append(legacy, legacyOf(p))
	}
	if format == FormatDocker {
		if err := a.json("manifest.json", legacy); err != nil {
			return err
		}
	}
	err := errors.Join(a.json("index.json", idx), a.json("oci-layout", map[string]string{"imageLayoutVersion": "1.0.0"}))
	return errors.Join(err, a.tar.Close())
}

// descriptors are the entries of index.json for one image. Here, other than in
// the store's own index, the name is split as Docker does it: ref.name has the
// tag, the full name stands in containerd's annotation.
func descriptors(p picked) []ocispec.Descriptor {
	if len(p.names) == 0 {
		return []ocispec.Descriptor{p.img.Manifest}
	}
	var all []ocispec.Descriptor
	for _, name := range p.names {
		d := p.img.Manifest
		d.Annotations = map[string]string{annName: name[strings.LastIndexByte(name, ':')+1:], annContainerd: name}
		all = append(all, d)
	}
	return all
}

// legacyOf describes one image as Docker before 25 did. The names are in
// Docker's short form, which is what its readers compare with.
func legacyOf(p picked) legacyEntry {
	e := legacyEntry{Config: blobName(p.img.ID), RepoTags: []string{}, Layers: []string{}}
	for _, name := range p.names {
		if ref, err := image.ParseReference(name); err == nil {
			e.RepoTags = append(e.RepoTags, ref.Familiar())
		}
	}
	for _, l := range p.img.Layers {
		e.Layers = append(e.Layers, blobName(l.Digest))
	}
	return e
}

func blobName(d digest.Digest) string {
	return "blobs/" + d.Algorithm().String() + "/" + d.Encoded()
}

// image writes the blobs of one image that are not in the archive yet.
func (a *archive) image(img *image.Image) error {
	all := []digest.Digest{img.ID, img.Manifest.Digest}
	for _, l := range img.Layers {
		all = append(all, l.Digest)
	}
	for _, d := range all {
		if a.done[d] {
			continue
		}
		a.done[d] = true
		if err := a.blob(d); err != nil {
			return err
		}
	}
	return nil
}

// blob copies one blob into the archive.
func (a *archive) blob(d digest.Digest) error {
	f, err := a.store.Blob(d)
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return fmt.Errorf("blob %s: %w", d, err)
	}
	if err := a.header(blobName(d), info.Size()); err != nil {
		return err
	}
	_, err = io.Copy(a.tar, &ctxReader{a.ctx, f})
	return err
}

// json writes a document into the archive.
func (a *archive) json(name string, doc any) error {
	data, err := json.Marshal(doc)
	if err != nil {
		return err
	}
	if err := a.header(name, int64(len(data))); err != nil {
		return err
	}
	_, err = a.tar.Write(data)
	return err
}

// header starts a file; all files are alike, so that equal images give equal archives.
func (a *archive) header(name string, size int64) error {
	return a.tar.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o644, Size: size, ModTime: time.Unix(0, 0)})
}
