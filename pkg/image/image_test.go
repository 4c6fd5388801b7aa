package image

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"box/internal/errdefs"

	"github.com/distribution/reference"
	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/identity"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

const hex1 = "1111111111111111111111111111111111111111111111111111111111111111"

func TestParseReference(t *testing.T) {
	for in, want := range map[string]struct{ full, familiar string }{
		"busybox":                    {"docker.io/library/busybox:latest", "busybox:latest"},
		"busybox:1.36":               {"docker.io/library/busybox:1.36", "busybox:1.36"},
		"index.docker.io/busybox":    {"docker.io/library/busybox:latest", "busybox:latest"},
		"me/app":                     {"docker.io/me/app:latest", "me/app:latest"},
		"localhost/app":              {"localhost/app:latest", "localhost/app:latest"},
		"localhost:5000/a/b:c":       {"localhost:5000/a/b:c", "localhost:5000/a/b:c"},
		"[::1]:5000/a":               {"[::1]:5000/a:latest", "[::1]:5000/a:latest"},
		"quay.io/a/b@sha256:" + hex1: {"quay.io/a/b@sha256:" + hex1, "quay.io/a/b@sha256:" + hex1},
		"a:1@sha256:" + hex1:         {"docker.io/library/a:1@sha256:" + hex1, "a:1@sha256:" + hex1},
		"docker.io/library/a/b":      {"docker.io/library/a/b:latest", "library/a/b:latest"},
		"Registry/app":               {"Registry/app:latest", "Registry/app:latest"},
		"a.b-c__d---e/f":             {"a.b-c__d---e/f:latest", "a.b-c__d---e/f:latest"},
	} {
		ref, err := ParseReference(in)
		if in == "a.b-c__d---e/f" { // a registry by its dot, and not a valid one
			if err == nil {
				t.Errorf("%s: accepted as %s", in, ref)
			}
			continue
		}
		if err != nil || ref.String() != want.full || ref.Familiar() != want.familiar {
			t.Errorf("%s: %s (%s), %v; want %s", in, ref, ref.Familiar(), err, want.full)
		}
	}
}

func TestBadReferences(t *testing.T) {
	for _, in := range []string{
		"", ":", "@", "a:", "a@", "a@sha256:1", "a@md5:" + hex1[:32], "A", "a/B", "a//b", "/a", "a/", "a_-b", "a..b", "a___b", ".a", "a.", "-a",
		"a:.b", "a:-b", "a: b", "a:" + strings.Repeat("x", 129), strings.Repeat("a", 256), hex1, "http://a/b", "a b", "a\nb", "../a", "a/../b",
		"host:port/a", "host:/a", "-host.io/a", "ho_st.io/a", "[::1/a", "docker.io/", "a@sha256:" + strings.ToUpper("a"+hex1[1:]), "a@sha256:../" + hex1[3:],
	} {
		if ref, err := ParseReference(in); !errors.Is(err, errdefs.ErrInvalid) {
			t.Errorf("%q: %s, %v; want ErrInvalid", in, ref, err)
		}
	}
}

// The hand-written parser and Docker's own agree on every string.
func FuzzReference(f *testing.F) {
	for _, s := range []string{"a", "a/b:c", "localhost:5000/a@sha256:" + hex1, "A/b", "[::1]:80/x", "a__b/c--d:E.f-g", "docker.io/a", "x.y/Z", "a:b/c", hex1, "a@sha512:" + hex1 + hex1} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		ours, err := ParseReference(s)
		theirs, terr := reference.ParseDockerRef(s)
		if d, ok := theirs.(reference.Digested); ok && CheckDigest(d.Digest()) != nil {
			t.Skip("an algorithm that only they know")
		}
		if (err == nil) != (terr == nil) {
			t.Fatalf("%q: ours %v, theirs %v", s, err, terr)
		}
		if err != nil {
			return
		}
		want := theirs.String()
		got := ours.String()
		if ours.Digest != "" { // ParseDockerRef drops a tag beside a digest
			got = ours.Name() + "@" + ours.Digest.String()
		}
		if got != want {
			t.Errorf("%q: ours %s, theirs %s", s, got, want)
		}
		again, err := ParseReference(ours.Familiar())
		if err != nil || again != ours {
			t.Errorf("%q: familiar form %s reads back as %s, %v", s, ours.Familiar(), again, err)
		}
	})
}

func TestChainIDs(t *testing.T) {
	diffs := []digest.Digest{digest.FromString("a"), digest.FromString("b"), digest.FromString("c")}
	got := ChainIDs(diffs)
	for i := range diffs {
		if want := identity.ChainID(diffs[:i+1]); got[i] != want {
			t.Errorf("chain %d is %s, want %s", i, got[i], want)
		}
	}
	if len(ChainIDs(nil)) != 0 || (&Image{}).ChainID() != "" {
		t.Error("no layers must give no chain")
	}
}

func TestPlatforms(t *testing.T) {
	for in, want := range map[string]string{
		"linux/amd64": "linux/amd64", "amd64": "linux/amd64", "x86_64": "linux/amd64", "linux/arm64/v8": "linux/arm64", "aarch64": "linux/arm64",
		"linux/arm": "linux/arm/v7", "linux/arm/v6": "linux/arm/v6", "armhf": "linux/arm/v7", "Linux/AMD64": "linux/amd64", "windows/amd64": "windows/amd64",
	} {
		if p, err := ParsePlatform(in); err != nil || FormatPlatform(p) != want {
			t.Errorf("%s: %s, %v; want %s", in, FormatPlatform(p), err, want)
		}
	}
	for _, in := range []string{"", "/", "a/b/c/d", "linux/", "linux/amd 64"} {
		if _, err := ParsePlatform(in); !errors.Is(err, errdefs.ErrInvalid) {
			t.Errorf("%q: %v, want ErrInvalid", in, err)
		}
	}
}

// What an index tells of goes into an error, so it must be short and printable.
func TestSelectListsWhatCanBeShown(t *testing.T) {
	var idx ocispec.Index
	for i := range 10_000 {
		for _, arch := range []string{"same", fmt.Sprint("arch", i), "\x1b[2J", strings.Repeat("x", 1<<10)} {
			idx.Manifests = append(idx.Manifests, ocispec.Descriptor{
				MediaType: ocispec.MediaTypeImageManifest, Digest: digest.FromString("x"), Platform: &ocispec.Platform{OS: "linux", Architecture: arch},
			})
		}
	}
	_, err := Select(idx, Host())
	if err == nil || len(err.Error()) > 500 || strings.Contains(err.Error(), "\x1b") || !strings.Contains(err.Error(), "linux/same, linux/arch0, ") {
		t.Errorf("Select: %v", err)
	}
	if _, err := Select(ocispec.Index{}, Host()); err == nil || !strings.HasSuffix(err.Error(), "there are: none") {
		t.Errorf("Select in an empty index: %v", err)
	}
}

func TestSelect(t *testing.T) {
	entry := func(name, platform string) ocispec.Descriptor {
		d := ocispec.Descriptor{MediaType: ocispec.MediaTypeImageManifest, Digest: digest.FromString(name)}
		words := strings.Split(platform, "/")
		d.Platform = &ocispec.Platform{OS: words[0], Architecture: words[1]}
		if len(words) == 3 {
			d.Platform.Variant = words[2]
		}
		return d
	}
	idx := ocispec.Index{Manifests: []ocispec.Descriptor{
		entry("attestation", "unknown/unknown"), entry("amd64", "linux/amd64"), entry("v3", "linux/amd64/v3"),
		entry("v5", "linux/arm/v5"), entry("v6", "linux/arm/v6"), entry("v7", "linux/arm/v7"), entry("arm64", "linux/arm64/v8"),
		{MediaType: ocispec.MediaTypeImageManifest, Digest: digest.FromString("no platform")},
	}}
	for in, want := range map[string]string{
		"linux/amd64": "amd64", "linux/amd64/v3": "v3", "linux/amd64/v4": "v3", "linux/arm": "v7", "linux/arm/v6": "v6", "linux/arm64": "arm64",
		"linux/s390x": "", "windows/amd64": "", "unknown/unknown2": "", "linux/arm/v4": "",
	} {
		p, err := ParsePlatform(in)
		if err != nil {
			t.Fatal(err)
		}
		d, err := Select(idx, p)
		if want == "" {
			if !errors.Is(err, errdefs.ErrNotFound) || strings.Contains(err.Error(), "unknown/unknown,") {
				t.Errorf("%s: %v, want ErrNotFound", in, err)
			}
			continue
		}
		if err != nil || d.Digest != digest.FromString(want) {
			t.Errorf("%s: %v, %v; want %s", in, d.Platform, err, want)
		}
	}
}

func TestMediaType(t *testing.T) {
	const img, idx = ocispec.MediaTypeImageManifest, ocispec.MediaTypeImageIndex
	for name, c := range map[string]struct {
		doc, said, want string
		class           error
	}{
		"declared twice":    {`{"mediaType":"` + img + `","config":{},"layers":[]}`, img + "; charset=utf-8", img, nil},
		"only outside":      {`{"config":{},"layers":[]}`, DockerManifest, DockerManifest, nil},
		"only by shape":     {`{"config":{},"layers":[]}`, "application/json", img, nil},
		"index by shape":    {`{"manifests":[]}`, "", idx, nil},
		"they disagree":     {`{"mediaType":"` + img + `","config":{},"layers":[]}`, DockerManifest, "", errdefs.ErrInvalid},
		"image said index":  {`{"config":{},"layers":[]}`, idx, "", errdefs.ErrUnsupported},
		"index said image":  {`{"mediaType":"` + img + `","manifests":[]}`, img, "", errdefs.ErrUnsupported},
		"both":              {string(`{"config":{},"layers":[],"manifests":[]}`), img, "", errdefs.ErrInvalid},
		"both, null":        {`{"layers":[],"manifests":null}`, img, "", errdefs.ErrInvalid},
		"odd case":          {`{"config":{},"layers":[],"Manifests":[]}`, img, "", errdefs.ErrInvalid},
		"key twice":         {`{"config":{},"layers":[],"layers":[]}`, img, "", errdefs.ErrInvalid},
		"schema 1":          {`{"schemaVersion":1,"fsLayers":[]}`, "", "", errdefs.ErrUnsupported},
		"not JSON":          {`<html>`, img, "", errdefs.ErrInvalid},
		"array":             {`[]`, img, "", errdefs.ErrInvalid},
		"two documents":     {`{"layers":[]} {"manifests":[]}`, img, "", errdefs.ErrInvalid},
		"unknown":           {`{"mediaType":"application/x","layers":[]}`, "", "", errdefs.ErrUnsupported},
		"larger than 4 MiB": {`{"layers":[],"x":"` + strings.Repeat("x", MaxManifest) + `"}`, img, "", errdefs.ErrInvalid},
	} {
		got, err := MediaType([]byte(c.doc), c.said)
		if got != c.want || !errors.Is(err, c.class) {
			t.Errorf("%s: %q, %v; want %q, %v", name, got, err, c.want, c.class)
		}
	}
}

func TestCheckDigest(t *testing.T) {
	for d, ok := range map[string]bool{
		"sha256:" + hex1: true, "sha512:" + hex1 + hex1: true, "": false, "sha256": false, "sha256:": false, "sha256:" + hex1[1:]: false,
		"sha256:" + hex1 + "/": false, "sha256:../" + hex1[3:]: false, "SHA256:" + hex1: false, "md5:" + hex1[:32]: false, "sha384:" + hex1 + hex1[:32]: false,
	} {
		if err := CheckDigest(digest.Digest(d)); (err == nil) != ok {
			t.Errorf("%q: %v", d, err)
		}
	}
}

// No document from outside may panic.
func FuzzDocuments(f *testing.F) {
	f.Add([]byte(`{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"sha256:` + hex1 + `","size":1},"layers":[{"mediaType":"application/vnd.oci.image.layer.v1.tar","digest":"sha256:` + hex1 + `","size":1}]}`))
	f.Add([]byte(`{"manifests":[{"digest":"sha256:` + hex1 + `","platform":{"os":"linux","architecture":"amd64"}}]}`))
	f.Add([]byte(`{"architecture":"amd64","os":"linux","config":{"Env":["A=b"]},"rootfs":{"type":"layers","diff_ids":["sha256:` + hex1 + `"]}}`))
	f.Fuzz(func(_ *testing.T, data []byte) {
		_, _ = MediaType(data, "")
		_, _ = ParseManifest(data)
		_, _ = ParseConfig(data)
		if idx, err := ParseIndex(data); err == nil {
			_, _ = Select(idx, Host())
		}
	})
}
