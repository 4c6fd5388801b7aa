package store

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"box/internal/errdefs"
	"box/pkg/image"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

func TestBuild(t *testing.T) {
	s := open(t)
	ctx := t.Context()
	base := add(t, s, three(t, ocispec.MediaTypeImageManifest, busybox))
	active, err := s.Overlay().Prepare("step", base.ChainID())
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(active.Upper(), "new"), []byte("built"), 0o600); err != nil {
		t.Fatal(err)
	}
	one, err := s.CommitLayer(ctx, active)
	if err != nil {
		t.Fatal(err)
	}
	if active, err = s.Overlay().Prepare("step", one.ChainID); err != nil {
		t.Fatal(err)
	}
	two, err := s.CommitLayer(ctx, active)
	if err != nil || !two.Empty || one.Empty {
		t.Fatalf("CommitLayer of nothing = %+v, %v", two, err)
	}
	layers := append(BaseLayers(base), one, two)
	cfg := base.Config
	cfg.RootFS.DiffIDs = nil
	for _, l := range layers {
		cfg.RootFS.DiffIDs = append(cfg.RootFS.DiffIDs, l.DiffID)
	}
	raw := marshal(t, cfg)
	if _, err := s.AddBuilt(ctx, Built{Config: raw, Layers: layers[:2]}); !errors.Is(err, errdefs.ErrInvalid) {
		t.Errorf("AddBuilt with other layers than the config's: %v", err)
	}
	img, err := s.AddBuilt(ctx, Built{Config: raw, Layers: layers, Names: []string{"built", "also:2"}})
	if err != nil {
		t.Fatal(err)
	}
	if img.ID != digest.FromBytes(raw) || len(img.Names) != 2 || content(t, s, img, "new") != "built" || content(t, s, img, "etc/b") != "3" {
		t.Errorf("built image %+v", img)
	}
	// A snapshot that is lost comes back from the blob.
	if err := s.Overlay().Remove(two.ChainID); err != nil {
		t.Fatal(err)
	}
	if chain, err := s.UnpackChain(ctx, layers); err != nil || chain != two.ChainID || !s.Overlay().Has(chain) {
		t.Errorf("UnpackChain = %s, %v", chain, err)
	}
	checkExport(t, s, img)
}

// checkExport checks that built layers are compressed once, and what comes after
// a push.
func checkExport(t *testing.T, s *Store, img *image.Image) {
	t.Helper()
	ctx := t.Context()
	first, err := s.Export(ctx, img)
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range first.Layers {
		if l.MediaType != ocispec.MediaTypeImageLayerGzip || !s.has(l) {
			t.Errorf("exported layer %+v", l)
		}
	}
	second, err := s.Export(ctx, img)
	if err != nil || second.Manifest.Digest != first.Manifest.Digest {
		t.Errorf("second export is %s, first was %s; %v", second.Manifest.Digest, first.Manifest.Digest, err)
	}
	ref, _ := image.ParseReference("localhost:5000/built:1")
	img, err = s.Exported(ctx, img, first, ref)
	if err != nil {
		t.Fatal(err)
	}
	if img.Manifest.Digest != first.Manifest.Digest || !slices.Contains(img.RepoDigests, "localhost:5000/built@"+first.Manifest.Digest.String()) {
		t.Errorf("after a push: %+v", img)
	}
	if len(img.Names) != 2 {
		t.Errorf("names after a push: %v", img.Names)
	}
	if err := s.GC(ctx); err != nil {
		t.Fatal(err)
	}
	if again, err := s.Lookup("built"); err != nil || content(t, s, again, "new") != "built" {
		t.Errorf("after collecting: %v, %v", again, err)
	}
}

// An image in Docker's form keeps its manifest for pushing on, and has an OCI twin.
func TestDockerManifestKeepsItsDigest(t *testing.T) {
	s := open(t)
	in := three(t, image.DockerManifest, busybox)
	img := add(t, s, in)
	if img.Manifest.MediaType != ocispec.MediaTypeImageManifest {
		t.Errorf("in the layout it is %s", img.Manifest.MediaType)
	}
	for range 2 {
		out, err := s.Export(t.Context(), img)
		if err != nil {
			t.Fatal(err)
		}
		if out.Manifest.Digest != digest.FromBytes(in.RawManifest) || !bytes.Equal(out.RawManifest, in.RawManifest) || out.Manifest.MediaType != image.DockerManifest {
			t.Errorf("exported as %+v", out.Manifest)
		}
		ref, _ := image.ParseReference("busybox")
		if img, err = s.Exported(t.Context(), img, out, ref); err != nil {
			t.Fatal(err)
		}
		if err := s.GC(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if img.Manifest.MediaType != ocispec.MediaTypeImageManifest {
		t.Errorf("after a push it is %s", img.Manifest.MediaType)
	}
}

// A build that changes nothing writes nothing.
func TestAddBuiltAgain(t *testing.T) {
	s := open(t)
	img := add(t, s, three(t, ocispec.MediaTypeImageManifest, busybox))
	b := Built{Config: img.RawConfig, Layers: BaseLayers(img), Names: []string{"busybox"}}
	if _, err := s.AddBuilt(t.Context(), b); err != nil {
		t.Fatal(err)
	}
	before, err := os.Stat(s.indexPath())
	if err != nil {
		t.Fatal(err)
	}
	if again, err := s.AddBuilt(t.Context(), b); err != nil || again.ID != img.ID {
		t.Fatalf("AddBuilt = %v, %v", again, err)
	}
	if after, err := os.Stat(s.indexPath()); err != nil || !os.SameFile(before, after) {
		t.Errorf("index.json was replaced: %v", err)
	}
}
