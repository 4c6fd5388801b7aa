package store

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"box/internal/errdefs"
	"box/pkg/image"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// save saves images and returns the archive.
func save(t *testing.T, s *Store, format Format, names ...string) []byte {
	t.Helper()
	var buf bytes.Buffer
	if err := s.Save(t.Context(), &buf, names, format); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

func TestSaveLoadRoundTrip(t *testing.T) {
	from := open(t)
	img := add(t, from, three(t, ocispec.MediaTypeImageManifest, busybox, "localhost:5000/a/b:1"))
	add(t, from, sampleOf(t, image.DockerManifest, []string{"docker.io/library/other:1"}, tarOf(t, "f", "x")))
	for _, format := range []Format{FormatDocker, FormatOCI} {
		for name, wrap := range map[string]func([]byte) []byte{"plain": slices.Clone[[]byte], "gzip": func(b []byte) []byte { return gz(t, b) }} {
			t.Run(string(format)+" "+name, func(t *testing.T) {
				data := save(t, from, format, "busybox", img.ID.Encoded()[:12], "other:1")
				if again := save(t, from, format, "busybox", img.ID.Encoded()[:12], "other:1"); !bytes.Equal(data, again) {
					t.Error("saving twice gives different archives")
				}
				to := open(t)
				all, err := to.Load(t.Context(), bytes.NewReader(wrap(data)))
				if err != nil {
					t.Fatal(err)
				}
				if len(all) != 2 || all[0].ID != img.ID || all[0].Manifest.Digest != img.Manifest.Digest {
					t.Fatalf("loaded %+v", all)
				}
				if diff := cmp.Diff(img.Names, all[0].Names); diff != "" {
					t.Error(diff)
				}
				if got := content(t, to, all[0], "etc/b"); got != "3" {
					t.Errorf("etc/b = %q", got)
				}
				if err := to.GC(t.Context()); err != nil {
					t.Fatal(err)
				}
				if got := inventory(t, to); !strings.HasSuffix(got, "layers 4, ingest 0, stage 0, active 0") {
					t.Error(got)
				}
			})
		}
	}
}

func TestSaveRefuses(t *testing.T) {
	s := open(t)
	if err := s.Save(t.Context(), io.Discard, []string{"nosuch"}, FormatDocker); !errors.Is(err, errdefs.ErrNotFound) {
		t.Errorf("missing image: %v", err)
	}
	if err := s.Save(t.Context(), io.Discard, nil, FormatDocker); !errors.Is(err, errdefs.ErrInvalid) {
		t.Errorf("no image: %v", err)
	}
	if err := s.Save(t.Context(), io.Discard, []string{"x"}, "zip"); !errors.Is(err, errdefs.ErrUnsupported) {
		t.Errorf("format: %v", err)
	}
}

// Others read what we save, and we read what they save.
func TestArchivesOfOthers(t *testing.T) {
	need(t, "skopeo")
	from := open(t)
	img := add(t, from, three(t, ocispec.MediaTypeImageManifest, busybox))
	dir := t.TempDir()
	ours := filepath.Join(dir, "ours.tar")
	if err := os.WriteFile(ours, save(t, from, FormatDocker, "busybox"), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, source := range []string{"docker-archive:" + ours, "oci-archive:" + ours} {
		for _, target := range []string{"docker-archive", "oci-archive"} {
			theirs := filepath.Join(dir, strings.NewReplacer(":", "_", "/", "_").Replace(source+target))
			run(t, "skopeo", "copy", "--insecure-policy", source, target+":"+theirs+":"+busybox)
			f, err := os.Open(theirs)
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			to := open(t)
			all, err := to.Load(t.Context(), f)
			if err != nil {
				t.Fatalf("%s to %s: %v", source, target, err)
			}
			if len(all) != 1 || !slices.Equal(all[0].Names, []string{busybox}) || content(t, to, all[0], "etc/b") != "3" {
				t.Errorf("%s to %s: loaded %+v", source, target, all)
			}
			if strings.HasPrefix(source, "oci") && all[0].ID != img.ID {
				t.Errorf("%s to %s: id is %s, was %s", source, target, all[0].ID, img.ID)
			}
		}
	}
}

// A docker-archive as Docker wrote it before 25: layers in directories, equal
// layers as symlinks, the list last.
func TestLoadOldDockerArchive(t *testing.T) {
	s := open(t)
	one, two := tarOf(t, "a", "1"), tarOf(t, "b", "2")
	cfg := marshal(t, image.Config{Platform: image.Host(), RootFS: ocispec.RootFS{Type: "layers", DiffIDs: []digest.Digest{digest.FromBytes(one), digest.FromBytes(two), digest.FromBytes(one)}}})
	list := marshal(t, []legacyEntry{{Config: "abc.json", RepoTags: []string{"old:1"}, Layers: []string{"x/layer.tar", "y/layer.tar", "z/layer.tar"}}})
	data := archiveOf(t,
		tar.Header{Name: "x/layer.tar", Typeflag: tar.TypeReg}, one, tar.Header{Name: "y/layer.tar", Typeflag: tar.TypeReg}, two,
		tar.Header{Name: "z/layer.tar", Typeflag: tar.TypeSymlink, Linkname: "../x/layer.tar"}, nil,
		tar.Header{Name: "abc.json", Typeflag: tar.TypeReg}, cfg, tar.Header{Name: "manifest.json", Typeflag: tar.TypeReg}, list)
	all, err := s.Load(t.Context(), bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	if len(all) != 1 || all[0].ID != digest.FromBytes(cfg) || content(t, s, all[0], "a") != "1" || content(t, s, all[0], "b") != "2" {
		t.Errorf("loaded %+v", all)
	}
}

// archiveOf makes a tar file of headers and contents in turn.
func archiveOf(t *testing.T, parts ...any) []byte {
	t.Helper()
	var buf bytes.Buffer
	tw := tar.NewWriter(&buf)
	for i := 0; i < len(parts); i += 2 {
		hdr, _ := parts[i].(tar.Header)
		data, _ := parts[i+1].([]byte)
		hdr.Size, hdr.Mode = int64(len(data)), 0o644
		if err := tw.WriteHeader(&hdr); err != nil {
			t.Fatal(err)
		}
		if _, err := tw.Write(data); err != nil {
			t.Fatal(err)
		}
	}
	if err := tw.Close(); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

func TestLoadRefuses(t *testing.T) {
	reg := func(name string) tar.Header { return tar.Header{Name: name, Typeflag: tar.TypeReg} }
	layout := []byte(`{"imageLayoutVersion":"1.0.0"}`)
	good := three(t, ocispec.MediaTypeImageManifest, busybox)
	md := digest.FromBytes(good.RawManifest)
	index := marshal(t, ocispec.Index{Manifests: []ocispec.Descriptor{{MediaType: ocispec.MediaTypeImageManifest, Digest: md, Size: int64(len(good.RawManifest))}}})
	secret := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(secret, []byte("host file"), 0o644); err != nil {
		t.Fatal(err)
	}
	cases := map[string]struct {
		data  []byte
		class error
	}{
		"not an archive":    {[]byte(strings.Repeat("<html>", 200)), errdefs.ErrCorrupt},
		"empty list":        {archiveOf(t, reg("manifest.json"), []byte(`[]`)), errdefs.ErrInvalid},
		"empty layout":      {archiveOf(t, reg("oci-layout"), layout, reg("index.json"), []byte(`{"schemaVersion":2,"manifests":[]}`)), errdefs.ErrInvalid},
		"no list":           {tarOf(t, "etc/passwd", "x"), errdefs.ErrInvalid},
		"config missing":    {archiveOf(t, reg("manifest.json"), []byte(`[{"Config":"a.json","Layers":[]}]`)), errdefs.ErrInvalid},
		"config outside":    {archiveOf(t, reg("manifest.json"), []byte(`[{"Config":"`+secret+`","Layers":[]}]`)), errdefs.ErrInvalid},
		"config by link":    {archiveOf(t, reg("manifest.json"), []byte(`[{"Config":"a","Layers":[]}]`), tar.Header{Name: "a", Typeflag: tar.TypeSymlink, Linkname: secret}, nil), errdefs.ErrInvalid},
		"link loop":         {archiveOf(t, reg("manifest.json"), []byte(`[{"Config":"a","Layers":[]}]`), tar.Header{Name: "a", Typeflag: tar.TypeSymlink, Linkname: "a"}, nil), errdefs.ErrInvalid},
		"list is not JSON":  {archiveOf(t, reg("manifest.json"), []byte(`[{]`)), errdefs.ErrInvalid},
		"blob is a symlink": {archiveOf(t, reg("oci-layout"), layout, reg("index.json"), index, tar.Header{Name: blobName(md), Typeflag: tar.TypeSymlink, Linkname: secret}, nil), errdefs.ErrInvalid},
		"blob is other":     {archiveOf(t, reg("oci-layout"), layout, reg("index.json"), index, reg(blobName(md)), []byte(`{}`)), errdefs.ErrCorrupt},
		"layer missing":     {archiveOf(t, reg("oci-layout"), layout, reg("index.json"), index, reg(blobName(md)), good.RawManifest, reg(blobName(digest.FromBytes(good.RawConfig))), good.RawConfig), errdefs.ErrInvalid},
		"bad tag":           {archiveOf(t, reg("manifest.json"), []byte(`[{"Config":"a","RepoTags":["../x"],"Layers":[]}]`), reg("a"), []byte(`{"rootfs":{"type":"layers"}}`)), errdefs.ErrInvalid},
		"truncated":         {tarOf(t, "manifest.json", strings.Repeat("x", 5000))[:2000], errdefs.ErrCorrupt},
		"image and index":   {archiveOf(t, reg("oci-layout"), layout, reg("index.json"), confused(t), reg(blobName(digest.FromBytes(confusion))), confusion), errdefs.ErrInvalid},
		"long name":         {archiveOf(t, reg(strings.Repeat("x/", maxLoadName)+"x"), []byte("x")), errdefs.ErrInvalid},
		"long link":         {archiveOf(t, tar.Header{Name: "a", Typeflag: tar.TypeSymlink, Linkname: strings.Repeat("x", maxLoadName+1)}, nil), errdefs.ErrInvalid},
		"env from the host": {archiveOf(t, reg("manifest.json"), []byte(`[{"Config":"a","Layers":[]}]`), reg("a"), []byte(`{"config":{"Env":["SECRET"]},"rootfs":{"type":"layers"}}`)), errdefs.ErrInvalid},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			s := open(t)
			_, err := s.Load(t.Context(), bytes.NewReader(c.data))
			if !errors.Is(err, c.class) {
				t.Errorf("Load: %v, want %v", err, c.class)
			}
			if got := inventory(t, s); !strings.HasSuffix(got, "layers 0, ingest 0, stage 0, active 0") {
				t.Error(got)
			}
		})
	}
}

// confusion could be read as an image and as an index (CVE-2021-41190).
var confusion = []byte(`{"schemaVersion":2,"config":{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"sha256:` + strings.Repeat("1", 64) + `","size":2},"layers":[],"manifests":[]}`)

// confused is an index.json that names it.
func confused(t *testing.T) []byte {
	return marshal(t, ocispec.Index{Manifests: []ocispec.Descriptor{{MediaType: ocispec.MediaTypeImageManifest, Digest: digest.FromBytes(confusion), Size: int64(len(confusion))}}})
}

func TestImport(t *testing.T) {
	s := open(t)
	rootfs := tarOf(t, "bin/sh", "#!", "etc/passwd", "root:x:0:0::/:/bin/sh")
	var cfg image.Config
	cfg.Config.Cmd = []string{"/bin/sh"}
	for name, data := range map[string][]byte{"plain": rootfs, "gzip": gz(t, rootfs)} {
		img, err := s.Import(t.Context(), bytes.NewReader(data), ImportOptions{Name: "imported", Config: cfg, Message: "from a test"})
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if img.Config.RootFS.DiffIDs[0] != digest.FromBytes(rootfs) || content(t, s, img, "bin/sh") != "#!" || img.Config.Config.Cmd[0] != "/bin/sh" {
			t.Errorf("%s: %+v", name, img)
		}
		if img.Config.OS != "linux" || img.Config.Architecture == "" || !slices.Equal(img.Names, []string{"docker.io/library/imported:latest"}) {
			t.Errorf("%s: %+v", name, img.Config)
		}
	}
	if _, err := s.Import(t.Context(), bytes.NewReader(rootfs), ImportOptions{Name: "Bad"}); !errors.Is(err, errdefs.ErrInvalid) {
		t.Errorf("bad name: %v", err)
	}
	if _, err := s.Import(t.Context(), strings.NewReader("no tar at all, but long enough to be looked at"+strings.Repeat(".", 512)), ImportOptions{}); !errors.Is(err, errdefs.ErrCorrupt) {
		t.Errorf("no archive: %v", err)
	}
}

// The configuration of an image stays byte for byte, with fields nobody knows.
func TestUnknownConfigFieldsStay(t *testing.T) {
	s := open(t)
	layer := tarOf(t, "f", "x")
	in := sampleOf(t, ocispec.MediaTypeImageManifest, []string{busybox}, layer)
	var cfg map[string]any
	if err := json.Unmarshal(in.RawConfig, &cfg); err != nil {
		t.Fatal(err)
	}
	cfg["moby.buildkit.buildinfo.v1"] = "x"
	cfg["config"] = map[string]any{"Healthcheck": map[string]any{"Test": []string{"NONE"}, "Interval": 5}, "OnBuild": []string{"RUN x"}, "Shell": []string{"/bin/bash"}}
	in.RawConfig = marshal(t, cfg)
	var m ocispec.Manifest
	if err := json.Unmarshal(in.RawManifest, &m); err != nil {
		t.Fatal(err)
	}
	m.Config.Digest, m.Config.Size = digest.FromBytes(in.RawConfig), int64(len(in.RawConfig))
	in.RawManifest = marshal(t, m)
	img := add(t, s, in)
	if !bytes.Equal(img.RawConfig, in.RawConfig) || img.Config.Config.Healthcheck == nil || img.Config.Config.Healthcheck.Interval != 5 || img.Config.Config.OnBuild[0] != "RUN x" || img.Config.Config.Shell[0] != "/bin/bash" {
		t.Errorf("config %+v", img.Config.Config)
	}
}

// Another program may write into the layout; what it adds is listed and kept.
func TestForeignEntry(t *testing.T) {
	need(t, "skopeo")
	s := open(t)
	img := add(t, s, three(t, ocispec.MediaTypeImageManifest, busybox))
	run(t, "skopeo", "copy", "--insecure-policy", "oci:"+s.dir+":"+busybox, "oci:"+s.dir+":docker.io/library/copy:1")
	if err := s.GC(t.Context()); err != nil {
		t.Fatal(err)
	}
	got, err := s.Lookup("copy:1")
	if err != nil || got.ID != img.ID || content(t, s, got, "etc/b") != "3" {
		t.Fatalf("Lookup = %+v, %v", got, err)
	}
	if all, err := s.List(t.Context()); err != nil || len(all) != 1 || len(all[0].Names) != 2 {
		t.Errorf("List = %+v, %v", all, err)
	}
}
