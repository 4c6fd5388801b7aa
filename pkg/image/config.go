package image

import (
	"encoding/json"
	"strings"
	"time"

	"box/internal/errdefs"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// MaxConfig is the largest image configuration that is read, in bytes. Docker
// Hub's largest are some 50 KiB; without a bound a registry fills the memory
// (CVE-2023-25153).
const MaxConfig = 8 << 20

// Config is an image configuration: the OCI one (image spec, config.md) and the
// fields that Docker adds to it.
type Config struct {
	Created *time.Time `json:"created,omitempty"`
	Author  string     `json:"author,omitempty"`
	ocispec.Platform
	Config  RunConfig         `json:"config"`
	RootFS  ocispec.RootFS    `json:"rootfs"`
	History []ocispec.History `json:"history,omitempty"`
}

// RunConfig says how a container of the image runs.
type RunConfig struct {
	ocispec.ImageConfig
	Healthcheck *Healthcheck `json:"Healthcheck,omitempty"`
	OnBuild     []string     `json:"OnBuild,omitempty"`
	Shell       []string     `json:"Shell,omitempty"`
}

// Healthcheck is Docker's HEALTHCHECK. Durations are nanoseconds in JSON; zero
// means the default.
type Healthcheck struct {
	Test          []string      `json:",omitempty"` // NONE, CMD or CMD-SHELL first
	Interval      time.Duration `json:",omitempty"`
	Timeout       time.Duration `json:",omitempty"`
	StartPeriod   time.Duration `json:",omitempty"`
	StartInterval time.Duration `json:",omitempty"`
	Retries       int           `json:",omitempty"`
}

// ParseConfig reads and checks an image configuration. Its diffIDs are valid
// digests afterwards, and its environment has only NAME=VALUE entries: an entry
// without a value must never be filled from the host (CVE-2026-57231).
func ParseConfig(raw []byte) (Config, error) {
	var c Config
	if len(raw) > MaxConfig {
		return c, errdefs.New(errdefs.ErrInvalid, "image config: %d bytes, at most %d are read", len(raw), MaxConfig)
	}
	if err := json.Unmarshal(raw, &c); err != nil {
		return c, errdefs.New(errdefs.ErrInvalid, "image config: %w", err)
	}
	if err := checkRootFS(c.RootFS); err != nil {
		return c, err
	}
	for _, env := range c.Config.Env {
		if i := strings.IndexByte(env, '='); i < 1 || strings.Contains(env, "\x00") {
			return c, errdefs.New(errdefs.ErrInvalid, "image config: environment entry %q is not NAME=VALUE", env)
		}
	}
	return c, nil
}

// checkRootFS checks type, number and form of the diffIDs.
func checkRootFS(fs ocispec.RootFS) error {
	if fs.Type != "" && fs.Type != "layers" {
		return errdefs.New(errdefs.ErrUnsupported, "image config: rootfs type %q, only layers is known", fs.Type)
	}
	if len(fs.DiffIDs) > MaxLayers {
		return errdefs.New(errdefs.ErrInvalid, "image config: %d layers, at most %d can be joined", len(fs.DiffIDs), MaxLayers)
	}
	for i, id := range fs.DiffIDs {
		if err := CheckDigest(id); err != nil {
			return errdefs.New(errdefs.ErrInvalid, "image config: diff id %d: %w", i, err)
		}
	}
	return nil
}

// CheckDigest accepts sha256 and sha512 digests in their canonical form, and
// nothing else: a digest becomes a path and a URL (CVE-2024-3727).
func CheckDigest(d digest.Digest) error {
	alg, hex, ok := strings.Cut(string(d), ":")
	want := map[string]int{"sha256": 64, "sha512": 128}[alg]
	if !ok || want == 0 || len(hex) != want || strings.Trim(hex, "0123456789abcdef") != "" {
		return errdefs.New(errdefs.ErrInvalid, "%q is not a sha256 or sha512 digest", d)
	}
	return nil
}
