package store

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"box/internal/errdefs"
	"box/internal/sys"
	"box/pkg/image"

	"github.com/google/go-cmp/cmp"
	"github.com/klauspost/compress/gzip"
	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// open opens a fresh store; it needs root for the snapshots.
func open(t testing.TB) *Store {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("needs root: overlay mounts and device nodes")
	}
	s, err := Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// tarOf makes a layer archive of files, in the order given: name, text, name, text ...
func tarOf(t testing.TB, files ...string) []byte {
	t.Helper()
	var buf bytes.Buffer
	tw := tar.NewWriter(&buf)
	for i := 0; i < len(files); i += 2 {
		if err := tw.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: files[i], Size: int64(len(files[i+1])), Mode: 0o644}); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(tw, files[i+1]); err != nil {
			t.Fatal(err)
		}
	}
	if err := tw.Close(); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

// gz compresses.
func gz(t testing.TB, data []byte) []byte {
	t.Helper()
	var buf bytes.Buffer
	w := gzip.NewWriter(&buf)
	if _, err := w.Write(data); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

// sample is an image in the form in which it arrives.
type sample struct {
	Incoming
	blobs map[digest.Digest][]byte
}

// fetch delivers the layers of the sample.
func (s sample) fetch(_ context.Context, job LayerJob) (io.ReadCloser, error) {
	data, ok := s.blobs[job.Descriptor.Digest]
	if !ok {
		return nil, errdefs.New(errdefs.ErrNotFound, "no blob %s", job.Descriptor.Digest)
	}
	return io.NopCloser(bytes.NewReader(data)), nil
}

// sampleOf makes an image of layers (uncompressed archives), gzipped.
func sampleOf(t testing.TB, mediaType string, names []string, layers ...[]byte) sample {
	t.Helper()
	s := sample{blobs: map[digest.Digest][]byte{}}
	layerType, configType := ocispec.MediaTypeImageLayerGzip, ocispec.MediaTypeImageConfig
	if mediaType == image.DockerManifest {
		layerType, configType = image.DockerLayer, image.DockerConfig
	}
	cfg := image.Config{Platform: image.Host(), RootFS: ocispec.RootFS{Type: "layers", DiffIDs: []digest.Digest{}}}
	m := ocispec.Manifest{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: mediaType, Layers: []ocispec.Descriptor{}}
	for _, l := range layers {
		cfg.RootFS.DiffIDs = append(cfg.RootFS.DiffIDs, digest.FromBytes(l))
		blob := gz(t, l)
		d := digest.FromBytes(blob)
		s.blobs[d] = blob
		m.Layers = append(m.Layers, ocispec.Descriptor{MediaType: layerType, Digest: d, Size: int64(len(blob))})
	}
	s.RawConfig = marshal(t, cfg)
	m.Config = ocispec.Descriptor{MediaType: configType, Digest: digest.FromBytes(s.RawConfig), Size: int64(len(s.RawConfig))}
	s.RawManifest, s.MediaType, s.Names = marshal(t, m), mediaType, names
	return s
}

func marshal(t testing.TB, v any) []byte {
	t.Helper()
	data, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// add adds a sample.
func add(t testing.TB, s *Store, in sample) *image.Image {
	t.Helper()
	img, err := s.Add(t.Context(), in.Incoming, in.fetch)
	if err != nil {
		t.Fatal(err)
	}
	return img
}

// content reads a file of an image; "-" if it is not there.
func content(t testing.TB, s *Store, img *image.Image, name string) string {
	t.Helper()
	view, err := s.Overlay().View(img.ChainID())
	if err != nil {
		t.Fatal(err)
	}
	defer view.Close()
	f, err := sys.OpenInRoot(view, name, os.O_RDONLY, 0)
	if errors.Is(err, os.ErrNotExist) {
		return "-"
	}
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	data, err := io.ReadAll(f)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// inventory counts what lies in the store.
func inventory(t testing.TB, s *Store) string {
	t.Helper()
	count := func(parts ...string) int {
		entries, err := os.ReadDir(filepath.Join(append([]string{filepath.Dir(s.dir)}, parts...)...))
		if err != nil {
			t.Fatal(err)
		}
		return len(entries)
	}
	return fmt.Sprintf("blobs %d, layers %d, ingest %d, stage %d, active %d", count("image", "blobs", "sha256"),
		count("snapshots", "layers"), count("image", "ingest"), count("snapshots", "stage"), count("snapshots", "active"))
}

const busybox = "docker.io/library/busybox:latest"

// three is an image whose layers depend on each other.
func three(t testing.TB, mediaType string, names ...string) sample {
	return sampleOf(t, mediaType, names,
		tarOf(t, "etc/a", "1", "etc/b", "1", "bin/x", "1"),
		tarOf(t, "etc/.wh.a", "", "etc/c", "2"),
		tarOf(t, "etc/b", "3"))
}

func TestAddAndLookup(t *testing.T) {
	s := open(t)
	in := three(t, ocispec.MediaTypeImageManifest, busybox)
	in.RepoDigests = []string{"docker.io/library/busybox@sha256:" + strings.Repeat("1", 64)}
	img := add(t, s, in)
	for name, want := range map[string]string{"etc/a": "-", "etc/b": "3", "etc/c": "2", "bin/x": "1"} {
		if got := content(t, s, img, name); got != want {
			t.Errorf("%s = %q, want %q", name, got, want)
		}
	}
	id := img.ID.Encoded()
	for _, name := range []string{"busybox", "busybox:latest", "docker.io/busybox", "library/busybox", busybox, id, "sha256:" + id, id[:12], id[:4],
		"busybox@" + img.Manifest.Digest.String(), in.RepoDigests[0], "busybox:other@" + img.Manifest.Digest.String()} {
		got, err := s.Lookup(name)
		if err != nil || got.ID != img.ID {
			t.Errorf("Lookup(%s) = %v, %v", name, got, err)
		}
	}
	for _, name := range []string{"busybox:1", "other", "localhost/busybox", "", "..", "busybox@sha256:" + strings.Repeat("2", 64), "alpine@" + img.Manifest.Digest.String(), strings.Repeat("0", 64)} {
		if got, err := s.Lookup(name); !errors.Is(err, errdefs.ErrNotFound) {
			t.Errorf("Lookup(%s) = %v, %v; want ErrNotFound", name, got, err)
		}
	}
	if diff := cmp.Diff([]string{busybox}, img.Names); diff != "" {
		t.Error(diff)
	}
}

// The parts of an index entry, and nothing twice, whatever is fetched again.
func TestAddAgainFetchesNothing(t *testing.T) {
	s := open(t)
	in := three(t, ocispec.MediaTypeImageManifest, busybox)
	add(t, s, in)
	before := inventory(t, s)
	img, err := s.Add(t.Context(), in.Incoming, func(_ context.Context, job LayerJob) (io.ReadCloser, error) {
		return nil, fmt.Errorf("fetched %s", job.Descriptor.Digest)
	})
	if err != nil {
		t.Fatal(err)
	}
	if missing, err := s.Missing(in.Incoming); err != nil || len(missing) != 0 {
		t.Errorf("Missing = %v, %v", missing, err)
	}
	if after := inventory(t, s); after != before || len(img.Names) != 1 {
		t.Errorf("%s, before it was %s; names %v", after, before, img.Names)
	}
}

func TestUnpackWhatIsThere(t *testing.T) {
	s := open(t)
	img := add(t, s, three(t, ocispec.MediaTypeImageManifest, busybox))
	chains := image.ChainIDs(img.Config.RootFS.DiffIDs)
	for _, id := range slices.Backward(chains) {
		if err := s.Overlay().Remove(id); err != nil {
			t.Fatal(err)
		}
	}
	top, err := s.Unpack(t.Context(), img)
	if err != nil || top != img.ChainID() {
		t.Fatalf("Unpack = %s, %v", top, err)
	}
	if got := content(t, s, img, "etc/b"); got != "3" {
		t.Errorf("etc/b = %q", got)
	}
}

// Whatever is wrong with an image, there is one clear error, nothing is tagged,
// and nothing stays that a second try would trip over.
func TestAddRefuses(t *testing.T) {
	lie := func(f func(in *sample, m *ocispec.Manifest)) func(t *testing.T) sample {
		return func(t *testing.T) sample {
			in := three(t, ocispec.MediaTypeImageManifest, busybox)
			var m ocispec.Manifest
			if err := json.Unmarshal(in.RawManifest, &m); err != nil {
				t.Fatal(err)
			}
			f(&in, &m)
			in.RawManifest = marshal(t, m)
			return in
		}
	}
	swap := func(in *sample, m *ocispec.Manifest, data []byte) { // other bytes under the old digest
		in.blobs[m.Layers[1].Digest] = data
	}
	cases := map[string]struct {
		make func(t *testing.T) sample
		want string
	}{
		"altered layer": {lie(func(in *sample, m *ocispec.Manifest) {
			data := slices.Clone(in.blobs[m.Layers[1].Digest])
			data[len(data)/2] ^= 1
			swap(in, m, data)
		}), "digest mismatch"},
		"truncated layer": {lie(func(in *sample, m *ocispec.Manifest) { swap(in, m, in.blobs[m.Layers[1].Digest][:40]) }), "40 bytes arrived"},
		"layer too long":  {lie(func(in *sample, m *ocispec.Manifest) { swap(in, m, append(in.blobs[m.Layers[1].Digest], "more"...)) }), "longer than the promised"},
		"endless layer": {lie(func(in *sample, m *ocispec.Manifest) {
			swap(in, m, append(in.blobs[m.Layers[1].Digest], make([]byte, 1<<20)...))
		}), "longer than the promised"},
		"size too small":   {lie(func(_ *sample, m *ocispec.Manifest) { m.Layers[1].Size-- }), "longer than the promised"},
		"layer is not tar": {lie(func(in *sample, m *ocispec.Manifest) { swap(in, m, []byte("<html>")) }), "6 bytes arrived"},
		"other diffID": {lie(func(_ *sample, m *ocispec.Manifest) {
			m.Layers[0], m.Layers[1] = m.Layers[1], m.Layers[0]
		}), "content digest mismatch"},
		"other config":                   {lie(func(in *sample, _ *ocispec.Manifest) { in.RawConfig = append(in.RawConfig, ' ') }), "digest mismatch"},
		"layer missing":                  {lie(func(in *sample, m *ocispec.Manifest) { delete(in.blobs, m.Layers[2].Digest) }), "no blob"},
		"fewer layers":                   {lie(func(_ *sample, m *ocispec.Manifest) { m.Layers = m.Layers[:2] }), "2 layers and the config 3"},
		"foreign layer":                  {lie(func(_ *sample, m *ocispec.Manifest) { m.Layers[0].URLs = []string{"http://169.254.169.254/"} }), "outside the registry"},
		"digest as path (CVE-2024-3727)": {lie(func(_ *sample, m *ocispec.Manifest) { m.Layers[0].Digest = "sha256:../../../x" }), "is not a sha256"},
		"layer type":                     {lie(func(_ *sample, m *ocispec.Manifest) { m.Layers[0].MediaType = "text/html" }), "media type"},
		"artifact":                       {lie(func(_ *sample, m *ocispec.Manifest) { m.Config.MediaType = "application/vnd.cncf.helm.config.v1+json" }), "no container image"},
		"negative size":                  {lie(func(_ *sample, m *ocispec.Manifest) { m.Layers[0].Size = -1 }), "out of bounds"},
		"hostile layer": {func(t *testing.T) sample {
			return sampleOf(t, ocispec.MediaTypeImageManifest, []string{busybox}, tarOf(t, "../../x", "x"))
		}, `has a ".."`},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			s := open(t)
			in := c.make(t)
			_, err := s.Add(t.Context(), in.Incoming, in.fetch)
			if err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "\n") {
				t.Fatalf("Add: %v, want %q", err, c.want)
			}
			if all, err := s.List(t.Context()); err != nil || len(all) != 0 {
				t.Errorf("List = %v, %v", all, err)
			}
			good := three(t, ocispec.MediaTypeImageManifest, busybox)
			if img := add(t, s, good); content(t, s, img, "etc/b") != "3" {
				t.Error("a good image cannot be added afterwards")
			}
			if err := s.GC(t.Context()); err != nil {
				t.Fatal(err)
			}
			if got := inventory(t, s); got != "blobs 5, layers 3, ingest 0, stage 0, active 0" {
				t.Error(got)
			}
		})
	}
}

func TestDamagedBlobIsFetchedAgain(t *testing.T) {
	s := open(t)
	in := three(t, ocispec.MediaTypeImageManifest, busybox)
	img := add(t, s, in)
	path, err := s.blobPath(img.Layers[0].Digest)
	if err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	data[len(data)/2] ^= 1
	if err := os.WriteFile(path, data, 0o644); err != nil {
		t.Fatal(err)
	}
	for _, id := range slices.Backward(image.ChainIDs(img.Config.RootFS.DiffIDs)) {
		if err := s.Overlay().Remove(id); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := s.Unpack(t.Context(), img); !errors.Is(err, errdefs.ErrCorrupt) {
		t.Fatalf("Unpack: %v, want ErrCorrupt", err)
	}
	add(t, s, in) // as a new pull does
	if got := content(t, s, img, "bin/x"); got != "1" {
		t.Errorf("bin/x = %q", got)
	}
}

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
	self, err := os.FindProcess(os.Getpid())
	if err == nil {
		err = self.Kill()
	}
	select {} // the signal is on its way
}

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

func TestConcurrentAddDelete(t *testing.T) {
	s := open(t)
	in := three(t, ocispec.MediaTypeImageManifest, busybox)
	errs := make(chan error)
	const n = 6
	for i := range n {
		go func() {
			other, err := Open(filepath.Dir(s.dir)) // as another process would
			for range 5 {
				if err != nil {
					break
				}
				if i%2 == 0 {
					_, err = other.Add(context.Background(), in.Incoming, in.fetch)
				} else if _, err = other.Delete(context.Background(), "busybox", DeleteOptions{}); errors.Is(err, errdefs.ErrNotFound) {
					err = nil
				}
			}
			errs <- err
		}()
	}
	for range n {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
	img := add(t, s, in)
	if got := content(t, s, img, "etc/b"); got != "3" {
		t.Errorf("etc/b = %q", got)
	}
}

// need skips a test when a program is not installed.
func need(t *testing.T, program string) {
	t.Helper()
	if _, err := exec.LookPath(program); err != nil {
		t.Skipf("needs %s", program)
	}
}

// run runs a program and returns its standard output.
func run(t *testing.T, name string, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), name, args...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, errs.String())
	}
	return out.String()
}

func TestSkopeoReadsInPlace(t *testing.T) {
	need(t, "skopeo")
	s := open(t)
	for _, mediaType := range []string{ocispec.MediaTypeImageManifest, image.DockerManifest} {
		img := add(t, s, three(t, mediaType, busybox))
		var seen struct {
			Digest digest.Digest
			Layers []digest.Digest
		}
		out := run(t, "skopeo", "inspect", "oci:"+s.dir+":"+busybox)
		if err := json.Unmarshal([]byte(out), &seen); err != nil {
			t.Fatal(err)
		}
		if seen.Digest != img.Manifest.Digest || len(seen.Layers) != 3 {
			t.Errorf("%s: skopeo sees %+v, it is %+v", mediaType, seen, img.Manifest)
		}
	}
}
