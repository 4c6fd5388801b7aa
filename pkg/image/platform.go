package image

import (
	"cmp"
	"runtime"
	"slices"
	"strings"

	"box/internal/errdefs"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Host is the platform that containers run on here.
func Host() ocispec.Platform {
	return Normalize(ocispec.Platform{OS: "linux", Architecture: runtime.GOARCH})
}

// ParsePlatform reads "os/arch[/variant]", "arch" or "os" as --platform takes it.
func ParsePlatform(s string) (ocispec.Platform, error) {
	words := strings.Split(strings.ToLower(s), "/")
	for _, w := range words {
		if w == "" || strings.Trim(w, "abcdefghijklmnopqrstuvwxyz0123456789_.-") != "" {
			return ocispec.Platform{}, errdefs.New(errdefs.ErrInvalid, "platform %q: want os/arch or os/arch/variant", s)
		}
	}
	p := Host()
	switch {
	case len(words) == 1 && words[0] == "linux":
	case len(words) == 1:
		p = ocispec.Platform{OS: "linux", Architecture: words[0]}
	case len(words) == 2:
		p = ocispec.Platform{OS: words[0], Architecture: words[1]}
	case len(words) == 3:
		p = ocispec.Platform{OS: words[0], Architecture: words[1], Variant: words[2]}
	default:
		return p, errdefs.New(errdefs.ErrInvalid, "platform %q: want os/arch or os/arch/variant", s)
	}
	return Normalize(p), nil
}

// Normalize brings the spellings that are in use to one form: uname's names to
// Go's, and the variant that an architecture has by default made explicit (arm)
// or left out (arm64, amd64), as image indexes do.
func Normalize(p ocispec.Platform) ocispec.Platform {
	p.OS, p.Architecture, p.Variant = strings.ToLower(p.OS), strings.ToLower(p.Architecture), strings.ToLower(p.Variant)
	switch p.Architecture {
	case "x86_64", "x86-64":
		p.Architecture = "amd64"
	case "aarch64":
		p.Architecture = "arm64"
	case "i386", "i686":
		p.Architecture = "386"
	case "armhf":
		p.Architecture, p.Variant = "arm", "v7"
	case "armel":
		p.Architecture, p.Variant = "arm", "v6"
	}
	switch {
	case p.Architecture == "arm64" && (p.Variant == "v8" || p.Variant == "8"):
		p.Variant = ""
	case p.Architecture == "amd64" && p.Variant == "v1":
		p.Variant = ""
	case p.Architecture == "arm" && p.Variant == "":
		p.Variant = "v7"
	}
	return p
}

// FormatPlatform writes a platform as os/arch[/variant].
func FormatPlatform(p ocispec.Platform) string {
	s := p.OS + "/" + p.Architecture
	if p.Variant != "" {
		s += "/" + p.Variant
	}
	return s
}

// Select finds the manifest for a platform in an index. An exact match wins;
// else, among those of the same system and architecture, the highest variant
// that is not above the wanted one, since a later CPU runs earlier code.
// Entries without a platform and attestations ("unknown/unknown") never match.
// The error lists what there is, but not all of the thousands that a hostile index
// may have.
func Select(idx ocispec.Index, want ocispec.Platform) (ocispec.Descriptor, error) {
	want = Normalize(want)
	best := -1
	var have []string
	for i, m := range idx.Manifests {
		if m.Platform == nil || !IsManifest(m.MediaType) {
			continue
		}
		p := Normalize(*m.Platform)
		if word := FormatPlatform(p); p.OS != "unknown" && isListed(word, have) {
			have = append(have, word)
		}
		if p.OS != want.OS || p.Architecture != want.Architecture || p.Variant > want.Variant {
			continue
		}
		if best < 0 || p.Variant > Normalize(*idx.Manifests[best].Platform).Variant {
			best = i
		}
	}
	if best < 0 {
		return ocispec.Descriptor{}, errdefs.New(errdefs.ErrNotFound, "no image for platform %s; there are: %s", FormatPlatform(want), cmp.Or(strings.Join(have, ", "), "none"))
	}
	return idx.Manifests[best], nil
}

// listed is how many platforms an error tells of; Docker's largest official images
// have less.
const listed = 20

// isListed reports whether a platform of an index is worth a word in an error: it
// is a new one, and a word that can be shown.
func isListed(word string, have []string) bool {
	_, err := ParsePlatform(word)
	return err == nil && len(word) <= 40 && len(have) < listed && !slices.Contains(have, word)
}
