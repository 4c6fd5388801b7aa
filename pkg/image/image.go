package image

import (
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Image is one image of the store, for one platform.
type Image struct {
	// ID is the digest of the configuration, what Docker calls the image id.
	ID digest.Digest
	// Manifest describes the manifest in the store.
	Manifest ocispec.Descriptor
	// Source is the manifest as the registry has it, where that one is of
	// Docker's own type and Manifest its OCI twin; else equal to Manifest.
	Source ocispec.Descriptor
	// Layers describes the layer blobs, base first, as the manifest does.
	Layers []ocispec.Descriptor
	// Config is the parsed configuration; RawConfig are its bytes, which keep
	// fields that this program does not know.
	Config    Config
	RawConfig []byte
	// Names are the tags, fully normalised ("docker.io/library/busybox:latest")
	// and sorted; empty for an image that lost its last tag.
	Names []string
	// RepoDigests are the names under which registries know the image
	// ("docker.io/library/busybox@sha256:..."), sorted. For an image with
	// several platforms the digest is that of the index.
	RepoDigests []string
}

// ChainID names the unpacked tree of all layers; empty for an image without.
func (i *Image) ChainID() digest.Digest {
	chain := ChainIDs(i.Config.RootFS.DiffIDs)
	if len(chain) == 0 {
		return ""
	}
	return chain[len(chain)-1]
}

// Size is the size in bytes of the layers as the manifest describes them, plus
// configuration and manifest: what a pull transfers.
func (i *Image) Size() int64 {
	size := i.Manifest.Size + int64(len(i.RawConfig))
	for _, l := range i.Layers {
		size += l.Size
	}
	return size
}

// Created is when the image was made; the zero time if it does not say.
func (i *Image) Created() time.Time {
	if i.Config.Created == nil {
		return time.Time{}
	}
	return *i.Config.Created
}

// ChainIDs turns the diffIDs of an image, base first, into the chainID of each
// layer (OCI image spec, config.md, "Layer ChainID").
func ChainIDs(diffIDs []digest.Digest) []digest.Digest {
	chain := make([]digest.Digest, len(diffIDs))
	for i, diff := range diffIDs {
		if i == 0 {
			chain[i] = diff
			continue
		}
		chain[i] = ChainID(chain[i-1], diff)
	}
	return chain
}

// ChainID is the chainID of a layer with this diffID on top of parent, which is
// empty for a base layer.
func ChainID(parent, diffID digest.Digest) digest.Digest {
	if parent == "" {
		return diffID
	}
	return digest.FromString(parent.String() + " " + diffID.String())
}
