package store

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"box/internal/errdefs"
	"box/pkg/image"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

func TestTagDeleteAndGC(t *testing.T) {
	s := open(t)
	ctx := t.Context()
	img := add(t, s, three(t, ocispec.MediaTypeImageManifest, busybox))
	other := add(t, s, sampleOf(t, ocispec.MediaTypeImageManifest, []string{"docker.io/library/other:1"}, tarOf(t, "f", "x")))
	if err := errors.Join(s.Tag(ctx, img, "localhost:5000/a/b:1"), s.Tag(ctx, img, "busybox:2")); err != nil {
		t.Fatal(err)
	}
	for _, bad := range []string{"UPPER", "a@" + img.Manifest.Digest.String(), ""} {
		if err := s.Tag(ctx, img, bad); !errors.Is(err, errdefs.ErrInvalid) {
			t.Errorf("Tag(%q): %v, want ErrInvalid", bad, err)
		}
	}
	if _, err := s.Delete(ctx, img.ID.Encoded()[:12], DeleteOptions{}); !errors.Is(err, errdefs.ErrConflict) || errdefs.Hint(err) == "" {
		t.Errorf("Delete by id of an image with names in two repositories: %v, want ErrConflict and a hint", err)
	}
	use := map[digest.Digest]Use{img.ID: {Container: "web", Running: true}}
	done, err := s.Delete(ctx, "busybox:2", DeleteOptions{InUse: use})
	if err != nil || done.ID != "" || !slices.Equal(done.Untagged, []string{"docker.io/library/busybox:2"}) {
		t.Errorf("Delete of one of several names = %+v, %v", done, err)
	}
	for _, force := range []bool{false, true} {
		if _, err := s.Delete(ctx, img.ID.String(), DeleteOptions{Force: force, InUse: use}); force && (err == nil || !strings.Contains(err.Error(), "container web uses it")) {
			t.Errorf("Delete of an image in use, force %t: %v", force, err)
		}
	}
	if _, err := s.Overlay().Prepare("container", img.ChainID()); err != nil {
		t.Fatal(err)
	}
	done, err = s.Delete(ctx, img.ID.String(), DeleteOptions{Force: true, InUse: map[digest.Digest]Use{img.ID: {Container: "old"}}})
	if err != nil || done.ID != img.ID || len(done.Untagged) != 2 {
		t.Errorf("Delete -f = %+v, %v", done, err)
	}
	// The container keeps its layers, and only them.
	if got := inventory(t, s); got != "blobs 3, layers 4, ingest 0, stage 0, active 1" {
		t.Error(got)
	}
	if err := errors.Join(s.Overlay().RemoveActive("container"), s.GC(ctx)); err != nil {
		t.Fatal(err)
	}
	if got := inventory(t, s); got != "blobs 3, layers 1, ingest 0, stage 0, active 0" {
		t.Error(got)
	}
	if _, err := s.Delete(ctx, "other:1", DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	if got := inventory(t, s); got != "blobs 0, layers 0, ingest 0, stage 0, active 0" {
		t.Error(got, other.ID)
	}
}

// A tag that moves leaves the old image without a name, as Docker does.
func TestMovedTag(t *testing.T) {
	s := open(t)
	old := add(t, s, three(t, ocispec.MediaTypeImageManifest, busybox))
	now := add(t, s, sampleOf(t, ocispec.MediaTypeImageManifest, []string{busybox}, tarOf(t, "f", "x")))
	all, err := s.List(t.Context())
	if err != nil || len(all) != 2 {
		t.Fatalf("List = %v, %v", all, err)
	}
	if got, err := s.Lookup("busybox"); err != nil || got.ID != now.ID {
		t.Errorf("busybox is %v, %v", got, err)
	}
	if got, err := s.Lookup(old.ID.String()); err != nil || len(got.Names) != 0 {
		t.Errorf("old image: %+v, %v", got, err)
	}
	done, err := s.Delete(t.Context(), old.ID.String(), DeleteOptions{})
	if err != nil || done.ID != old.ID || len(done.Untagged) != 0 {
		t.Errorf("Delete = %+v, %v", done, err)
	}
}

func TestGCRespectsRootsAndHolders(t *testing.T) {
	s := open(t)
	img := add(t, s, three(t, ocispec.MediaTypeImageManifest, busybox))
	keep := img.Layers[1].Digest
	s.Roots = func(context.Context) ([]digest.Digest, error) { return []digest.Digest{keep}, nil }
	release, err := s.Hold(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Delete(t.Context(), "busybox", DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	if got := inventory(t, s); got != "blobs 5, layers 3, ingest 0, stage 0, active 0" {
		t.Errorf("collected while held: %s", got)
	}
	release()
	chains := image.ChainIDs(img.Config.RootFS.DiffIDs)
	if err := s.GC(t.Context(), chains[1]); err != nil {
		t.Fatal(err)
	}
	if got := inventory(t, s); got != "blobs 1, layers 2, ingest 0, stage 0, active 0" {
		t.Error(got)
	}
	if !s.Has(keep) || !s.Overlay().Has(chains[1]) || s.Overlay().Has(chains[2]) {
		t.Error("the wrong things were kept")
	}
}

// What kill -9 leaves: blobs half written, staged layers, an image without tag.
func TestLeftoversOfTheKilled(t *testing.T) {
	s := open(t)
	if os.Getenv("BOX_TEST_DIE") != "" {
		t.Fatal("not reached")
	}
	root := filepath.Dir(s.dir)
	cmd := exec.Command(os.Args[0], "-test.run=TestHelperDie$")
	cmd.Env = append(os.Environ(), "BOX_TEST_DIE="+root)
	out, err := cmd.CombinedOutput()
	if err == nil || !strings.Contains(err.Error(), "killed") {
		t.Fatalf("helper: %v\n%s", err, out)
	}
	if got := inventory(t, s); !strings.Contains(got, "ingest 1, stage 1") {
		t.Errorf("the helper has left %s", got)
	}
	img := add(t, s, three(t, ocispec.MediaTypeImageManifest, busybox))
	if err := s.GC(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := inventory(t, s); got != "blobs 5, layers 3, ingest 0, stage 0, active 0" {
		t.Error(got, img.ID)
	}
}

// TestHelperDie is the process that TestLeftoversOfTheKilled kills: it dies in the
// middle of a layer.
func TestHelperDie(t *testing.T) {
	root := os.Getenv("BOX_TEST_DIE")
	if root == "" {
		t.Skip("only as a child of TestLeftoversOfTheKilled")
	}
	s, err := Open(root)
	if err != nil {
		t.Fatal(err)
	}
	in := sampleOf(t, ocispec.MediaTypeImageManifest, []string{busybox}, tarOf(t, "f", strings.Repeat("x", 1<<20)))
	_, _ = s.Add(t.Context(), in.Incoming, func(context.Context, LayerJob) (io.ReadCloser, error) {
		for _, blob := range in.blobs {
			return io.NopCloser(io.MultiReader(bytes.NewReader(blob[:len(blob)/2]), suicide{})), nil
		}
		return nil, nil
	})
}

// suicide kills the process when it is read from.
type suicide struct{}

func (suicide) Read([]byte) (int, error) {
	if self, err := os.FindProcess(os.Getpid()); err != nil || self.Kill() != nil {
		os.Exit(1) // the parent expects a signal
	}
	select {} // the signal is on its way
}
