package image

import (
	"bytes"
	"encoding/json"
	"mime"
	"strings"

	"box/internal/errdefs"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Bounds on what a registry or an archive may make us read. Registries accept
// manifests of 4 MiB (distribution's own limit); the kernel joins 500 lower
// directories, and images of more than 127 layers do not run under Docker.
const (
	MaxManifest = 4 << 20
	MaxLayers   = 480
)

// Media types of Docker's schema 2, which mean the same as their OCI siblings.
const (
	DockerManifest = "application/vnd.docker.distribution.manifest.v2+json"
	DockerIndex    = "application/vnd.docker.distribution.manifest.list.v2+json"
	DockerConfig   = "application/vnd.docker.container.image.v1+json"
	DockerLayer    = "application/vnd.docker.image.rootfs.diff.tar.gzip"
	DockerTarLayer = "application/vnd.docker.image.rootfs.diff.tar"
)

// IsIndex reports whether the media type is that of a list of manifests.
func IsIndex(mediaType string) bool {
	return mediaType == ocispec.MediaTypeImageIndex || mediaType == DockerIndex
}

// IsManifest reports whether the media type is that of one image.
func IsManifest(mediaType string) bool {
	return mediaType == ocispec.MediaTypeImageManifest || mediaType == DockerManifest
}

// MediaType decides what a document is, from the document and from what its
// source says of it (declared; empty if it says nothing). Both must agree, and a
// document that has layers as well as manifests is refused: two clients could
// read two different images from one digest (CVE-2021-41190).
func MediaType(raw []byte, declared string) (string, error) {
	if len(raw) > MaxManifest {
		return "", errdefs.New(errdefs.ErrInvalid, "manifest: %d bytes, at most %d are read", len(raw), MaxManifest)
	}
	var doc struct {
		MediaType string          `json:"mediaType"`
		Schema    int             `json:"schemaVersion"`
		Config    json.RawMessage `json:"config"`
		Layers    json.RawMessage `json:"layers"`
		FSLayers  json.RawMessage `json:"fsLayers"`
		Manifests json.RawMessage `json:"manifests"`
	}
	if err := decode(raw, &doc); err != nil {
		return "", errdefs.New(errdefs.ErrInvalid, "manifest: %w", err)
	}
	image, index := doc.Layers != nil || doc.Config != nil, doc.Manifests != nil
	switch {
	case doc.FSLayers != nil || doc.Schema == 1:
		return "", errdefs.New(errdefs.ErrUnsupported, "manifest: schema 1 is no longer supported; push the image again with a current tool")
	case image && index:
		return "", errdefs.New(errdefs.ErrInvalid, "manifest: it is an image and an index at once")
	}
	return agree(doc.MediaType, declared, image, index)
}

// agree joins what the document says of itself, what its source says, and what
// its fields look like.
func agree(inside, declared string, image, index bool) (string, error) {
	if base, _, err := mime.ParseMediaType(declared); err == nil {
		declared = base
	}
	if !IsIndex(declared) && !IsManifest(declared) {
		declared = "" // a plain file server says application/json or octet-stream
	}
	if inside != "" && declared != "" && inside != declared {
		return "", errdefs.New(errdefs.ErrInvalid, "manifest: it says %q and its source says %q", inside, declared)
	}
	is := inside
	if is == "" {
		is = declared
	}
	switch {
	case is == "" && image:
		is = ocispec.MediaTypeImageManifest
	case is == "" && index:
		is = ocispec.MediaTypeImageIndex
	}
	if IsManifest(is) && image || IsIndex(is) && index {
		return is, nil
	}
	return "", errdefs.New(errdefs.ErrUnsupported, "manifest: media type %q is neither an image nor an index of images", is)
}

// ParseManifest reads and checks the manifest of one image.
func ParseManifest(raw []byte) (ocispec.Manifest, error) {
	var m ocispec.Manifest
	if err := decode(raw, &m); err != nil {
		return m, errdefs.New(errdefs.ErrInvalid, "manifest: %w", err)
	}
	if err := checkDescriptor("config", m.Config, MaxConfig); err != nil {
		return m, err
	}
	if !knownConfig(m.Config.MediaType) {
		return m, errdefs.New(errdefs.ErrUnsupported, "manifest: config of type %q is no container image", m.Config.MediaType)
	}
	if len(m.Layers) > MaxLayers {
		return m, errdefs.New(errdefs.ErrInvalid, "manifest: %d layers, at most %d can be joined", len(m.Layers), MaxLayers)
	}
	for _, l := range m.Layers {
		if err := checkLayer(l); err != nil {
			return m, err
		}
	}
	return m, nil
}

func knownConfig(mediaType string) bool {
	return mediaType == ocispec.MediaTypeImageConfig || mediaType == DockerConfig
}

// checkLayer refuses what is no plain layer. Layers with URLs of their own are
// Windows base layers; to follow the URL would let the registry choose where we
// connect to.
func checkLayer(l ocispec.Descriptor) error {
	if err := checkDescriptor("layer", l, 0); err != nil {
		return err
	}
	if len(l.URLs) > 0 || strings.Contains(l.MediaType, "nondistributable") || strings.Contains(l.MediaType, "foreign") {
		return errdefs.New(errdefs.ErrUnsupported, "layer %s: it lies outside the registry (%s)", l.Digest, l.MediaType)
	}
	if !IsLayer(l.MediaType) {
		return errdefs.New(errdefs.ErrUnsupported, "layer %s: media type %q", l.Digest, l.MediaType)
	}
	return nil
}

// IsLayer reports whether the media type is that of a layer that can be
// unpacked. How it is compressed is seen from its first bytes, not from here.
func IsLayer(mediaType string) bool {
	switch mediaType {
	case ocispec.MediaTypeImageLayer, ocispec.MediaTypeImageLayerGzip, ocispec.MediaTypeImageLayerZstd,
		DockerLayer, DockerTarLayer, DockerTarLayer + ".zstd":
		return true
	}
	return false
}

// ParseIndex reads and checks a list of manifests.
func ParseIndex(raw []byte) (ocispec.Index, error) {
	var idx ocispec.Index
	if err := decode(raw, &idx); err != nil {
		return idx, errdefs.New(errdefs.ErrInvalid, "index: %w", err)
	}
	for _, m := range idx.Manifests {
		if err := checkDescriptor("manifest", m, 0); err != nil {
			return idx, err
		}
	}
	return idx, nil
}

// checkDescriptor checks digest and size; limit 0 means no upper bound.
func checkDescriptor(what string, d ocispec.Descriptor, limit int64) error {
	if err := CheckDigest(d.Digest); err != nil {
		return errdefs.New(errdefs.ErrInvalid, "manifest: %s: %w", what, err)
	}
	if d.Size < 0 || limit > 0 && d.Size > limit {
		return errdefs.New(errdefs.ErrInvalid, "manifest: %s %s: size %d is out of bounds", what, d.Digest, d.Size)
	}
	return nil
}

// decode reads exactly one JSON document. A key that differs from a field only
// in case would be read as that field by this decoder and as another by the
// next; the keys that decide are therefore looked at exactly.
func decode(raw []byte, into any) error {
	if err := rejectOddKeys(raw); err != nil {
		return err
	}
	return json.Unmarshal(raw, into)
}

// decisive are the top-level keys that say what a document is.
var decisive = []string{"mediaType", "schemaVersion", "config", "layers", "fsLayers", "manifests"}

// rejectOddKeys refuses top-level keys that equal a decisive one but for case,
// and decisive keys that appear twice.
func rejectOddKeys(raw []byte) error {
	dec := json.NewDecoder(bytes.NewReader(raw))
	if tok, err := dec.Token(); err != nil || tok != json.Delim('{') {
		return errdefs.New(errdefs.ErrInvalid, "it is not a JSON object")
	}
	seen := map[string]bool{}
	for dec.More() {
		tok, err := dec.Token()
		if err != nil {
			return err
		}
		key, _ := tok.(string)
		for _, want := range decisive {
			if strings.EqualFold(key, want) && (key != want || seen[key]) {
				return errdefs.New(errdefs.ErrInvalid, "key %q is ambiguous", key)
			}
		}
		seen[key] = true
		var skip json.RawMessage
		if err := dec.Decode(&skip); err != nil {
			return err
		}
	}
	return nil
}
