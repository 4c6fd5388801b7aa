package store

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"box/pkg/image"
	"box/pkg/image/layer"
	"box/pkg/overlay"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// ImportOptions say what image a root filesystem becomes.
type ImportOptions struct {
	// Name is the tag; empty: none.
	Name string
	// Config is the configuration to start from. Platform defaults to the
	// host's; rootfs and history are filled in.
	Config image.Config
	// Message goes into the history.
	Message string
}

// Import makes an image of one layer from an archive of a root filesystem,
// which may be compressed. The archive is unpacked, kept and hashed in one go.
func (s *Store) Import(ctx context.Context, r io.Reader, opt ImportOptions) (*image.Image, error) {
	release, err := s.Hold(ctx)
	if err != nil {
		return nil, err
	}
	defer release()
	names := []string{}
	if opt.Name != "" {
		names = append(names, opt.Name)
	}
	if _, err := fullNames(names); err != nil { // before the work, not after
		return nil, err
	}
	built, err := s.importLayer(ctx, r)
	if err != nil {
		return nil, fmt.Errorf("import: %w", err)
	}
	config, err := importConfig(opt, built.DiffID)
	if err != nil {
		return nil, err
	}
	return s.AddBuilt(ctx, Built{Config: config, Layers: []BuiltLayer{built}, Names: names})
}

// importLayer unpacks the archive as a base layer and keeps it as a blob.
func (s *Store) importLayer(ctx context.Context, r io.Reader) (BuiltLayer, error) {
	plain, err := layer.Decompress(&ctxReader{ctx, r})
	if err != nil {
		return BuiltLayer{}, err
	}
	defer plain.Close()
	w, err := s.newBlob("", -1)
	if err != nil {
		return BuiltLayer{}, err
	}
	defer w.abort()
	st, err := s.snaps.Stage(ctx)
	if err != nil {
		return BuiltLayer{}, err
	}
	diffID, err := unpackInto(ctx, st, io.TeeReader(plain, w))
	if err != nil {
		return BuiltLayer{}, errors.Join(err, st.Discard())
	}
	desc, err := w.commit()
	if err != nil {
		return BuiltLayer{}, errors.Join(err, st.Discard())
	}
	desc.MediaType = ocispec.MediaTypeImageLayer
	built := BuiltLayer{Descriptor: desc, DiffID: diffID, ChainID: diffID, Size: desc.Size}
	return built, st.Commit(diffID, "")
}

// unpackInto unpacks an archive that nobody has promised anything about.
func unpackInto(ctx context.Context, st *overlay.Staged, r io.Reader) (digest.Digest, error) {
	got, err := layer.Unpack(ctx, r, st.Dir, layer.Options{})
	if err != nil {
		return "", err
	}
	st.Implied, st.Links = got.Implied, got.Links
	return got.DiffID, nil
}

// importConfig completes the configuration.
func importConfig(opt ImportOptions, diffID digest.Digest) ([]byte, error) {
	cfg := opt.Config
	if cfg.OS == "" {
		cfg.Platform = image.Host()
	}
	cfg.RootFS = ocispec.RootFS{Type: "layers", DiffIDs: []digest.Digest{diffID}}
	cfg.History = append(cfg.History, ocispec.History{Created: cfg.Created, CreatedBy: "box import", Comment: opt.Message})
	raw, err := json.Marshal(cfg)
	if err != nil {
		return nil, fmt.Errorf("import: %w", err)
	}
	return raw, nil
}
