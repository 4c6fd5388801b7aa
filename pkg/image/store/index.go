package store

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"box/internal/atomicfile"
	"box/internal/errdefs"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Annotations of an entry of index.json. The first is the OCI layout's own; its
// value is the full name here, as skopeo and umoci look names up literally.
const (
	annName       = ocispec.AnnotationRefName
	annContainerd = "io.containerd.image.name" // the full name, for containerd's importer
	annID         = "box.image-id"             // digest of the configuration: saves reading the manifest
	annDigests    = "box.repo-digests"         // NAME@DIGEST under which registries know it, by spaces
	annSource     = "box.source-manifest"      // digest of the Docker manifest that this one is the OCI twin of
)

// maxIndex bounds what is read of index.json, in bytes.
const maxIndex = 256 << 20

func emptyIndex() *ocispec.Index {
	return &ocispec.Index{
		Versioned: specs.Versioned{SchemaVersion: 2},
		MediaType: ocispec.MediaTypeImageIndex,
		Manifests: []ocispec.Descriptor{},
	}
}

// index reads index.json.
func (s *Store) index() (*ocispec.Index, error) {
	f, err := os.Open(s.indexPath())
	if err != nil {
		return nil, fmt.Errorf("read image index: %w", err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxIndex))
	if err != nil {
		return nil, fmt.Errorf("read image index: %w", err)
	}
	idx := &ocispec.Index{}
	if err := json.Unmarshal(data, idx); err != nil {
		return nil, errdefs.New(errdefs.ErrCorrupt, "read image index %s: %w", s.indexPath(), err)
	}
	s.identify(idx)
	return idx, nil
}

// identify completes entries that another program has written into the layout:
// they lack the image id. What is no image of one platform stays as it is and is
// not listed.
func (s *Store) identify(idx *ocispec.Index) {
	for i, d := range idx.Manifests {
		if idOf(d) != "" || d.MediaType != ocispec.MediaTypeImageManifest {
			continue
		}
		m, _, err := s.manifestOf(d)
		if err != nil {
			continue // it says nothing about others
		}
		d = entry{manifest: bare(d), id: m.Config.Digest}.descriptor(nameOf(d))
		idx.Manifests[i] = d
	}
}

// writeIndex replaces index.json; the caller holds .index.lock.
func (s *Store) writeIndex(idx *ocispec.Index) error {
	data, err := json.MarshalIndent(idx, "", " ")
	if err != nil {
		return fmt.Errorf("write image index: %w", err)
	}
	if err := atomicfile.Write(s.indexPath(), append(data, '\n'), 0o644); err != nil {
		return fmt.Errorf("write image index: %w", err)
	}
	return nil
}

// update changes index.json under its lock. If f fails nothing is written.
func (s *Store) update(ctx context.Context, f func(idx *ocispec.Index) error) error {
	lock, err := atomicfile.LockContext(ctx, s.indexLock())
	if err != nil {
		return fmt.Errorf("lock image index: %w", err)
	}
	defer lock.Unlock()
	idx, err := s.index()
	if err != nil {
		return err
	}
	if err := f(idx); err != nil {
		return err
	}
	return s.writeIndex(idx)
}

// entry is what is said of one image in index.json.
type entry struct {
	manifest ocispec.Descriptor // without annotations
	id       digest.Digest
	digests  []string      // repo digests
	source   digest.Digest // the Docker manifest, empty if there is none
}

// descriptor writes an entry under a name; an empty name is an image without tag.
func (e entry) descriptor(name string) ocispec.Descriptor {
	d := e.manifest
	d.Annotations = map[string]string{annID: e.id.String()}
	if name != "" {
		d.Annotations[annName], d.Annotations[annContainerd] = name, name
	}
	if len(e.digests) > 0 {
		d.Annotations[annDigests] = strings.Join(e.digests, " ")
	}
	if e.source != "" {
		d.Annotations[annSource] = e.source.String()
	}
	return d
}

// nameOf is the tag of an index entry, empty if it has none.
func nameOf(d ocispec.Descriptor) string { return d.Annotations[annName] }

// idOf is the image id of an index entry.
func idOf(d ocispec.Descriptor) digest.Digest { return digest.Digest(d.Annotations[annID]) }

// digestsOf are the repo digests of an index entry.
func digestsOf(d ocispec.Descriptor) []string { return strings.Fields(d.Annotations[annDigests]) }

// place puts the entry into the index under names, taking them from whatever
// had them. An image that loses its last name stays, without one, until it is
// removed: its owner may still be using it by id.
func place(idx *ocispec.Index, e entry, names []string) {
	for _, d := range idx.Manifests {
		if idOf(d) == e.id {
			e.digests = union(e.digests, digestsOf(d))
		}
	}
	var kept []ocispec.Descriptor
	for _, d := range idx.Manifests {
		switch {
		case slices.Contains(names, nameOf(d)) && nameOf(d) != "":
			if idOf(d) != e.id {
				kept = append(kept, unnamed(d))
			}
		case idOf(d) == e.id:
			kept = append(kept, e.descriptor(nameOf(d)))
		default:
			kept = append(kept, d)
		}
	}
	for _, name := range names {
		kept = append(kept, e.descriptor(name))
	}
	if len(names) == 0 {
		kept = append(kept, e.descriptor(""))
	}
	idx.Manifests = dropShadows(kept)
}

// unnamed is the entry without its name.
func unnamed(d ocispec.Descriptor) ocispec.Descriptor {
	return entryOf(d).descriptor("")
}

// entryOf reads an entry of index.json.
func entryOf(d ocispec.Descriptor) entry {
	return entry{manifest: bare(d), id: idOf(d), digests: digestsOf(d), source: digest.Digest(d.Annotations[annSource])}
}

// bare is the descriptor of an entry without the annotations.
func bare(d ocispec.Descriptor) ocispec.Descriptor {
	d.Annotations = nil
	return d
}

// dropShadows removes entries without a name of images that have one, and
// doubles, and sorts the rest by name so that equal stores have equal files.
func dropShadows(all []ocispec.Descriptor) []ocispec.Descriptor {
	named := map[digest.Digest]bool{}
	for _, d := range all {
		if nameOf(d) != "" {
			named[idOf(d)] = true
		}
	}
	kept := []ocispec.Descriptor{}
	for _, d := range all {
		if nameOf(d) == "" {
			if named[idOf(d)] {
				continue
			}
			named[idOf(d)] = true
		}
		kept = append(kept, d)
	}
	slices.SortStableFunc(kept, func(a, b ocispec.Descriptor) int { return strings.Compare(nameOf(a), nameOf(b)) })
	return kept
}

// union joins two lists of strings, sorted and without doubles.
func union(a, b []string) []string {
	all := append(slices.Clone(a), b...)
	slices.Sort(all)
	return slices.Compact(all)
}
