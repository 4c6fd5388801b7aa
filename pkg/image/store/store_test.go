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
	for _, name := range []string{
		"busybox", "busybox:latest", "docker.io/busybox", "library/busybox", busybox, id, "sha256:" + id, id[:12], id[:4],
		"busybox@" + img.Manifest.Digest.String(), in.RepoDigests[0], "busybox:other@" + img.Manifest.Digest.String(),
	} {
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
