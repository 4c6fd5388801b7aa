package registry

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"box/internal/errdefs"
	"box/pkg/image"

	"github.com/pelletier/go-toml/v2"
)

// Config is registries.toml: the fields and their meaning are those of
// containers-registries.conf(5), version 2.
type Config struct {
	Registries []Registry `toml:"registry"`
}

// Registry says how to reach everything that starts with Prefix.
type Registry struct {
	// Prefix is a host, a host with port, either with a path, or "*.domain".
	// The longest one that fits decides. Empty: Location.
	Prefix string `toml:"prefix"`
	// Location replaces the prefix in what is asked for. Empty: Prefix.
	Location string `toml:"location"`
	// Insecure allows plain http and certificates that cannot be verified.
	Insecure bool `toml:"insecure"`
	// Blocked refuses to talk to it.
	Blocked bool `toml:"blocked"`
	// Mirrors are tried first, in order.
	Mirrors []Mirror `toml:"mirror"`
}

// Mirror is a copy of a registry; what it is asked for is Location and the rest
// of the name behind the prefix.
type Mirror struct {
	Location string `toml:"location"`
	Insecure bool   `toml:"insecure"`
}

// maxConfigFile bounds what is read of a configuration file, in bytes.
const maxConfigFile = 4 << 20

// LoadConfig reads registries.toml from the first place that has one:
// $BOX_REGISTRIES_CONF, the user's configuration directory, /etc/box. No file
// at all is an empty configuration.
func LoadConfig() (Config, error) {
	if path := os.Getenv("BOX_REGISTRIES_CONF"); path != "" {
		return readConfig(path)
	}
	places := []string{"/etc/box/registries.toml"}
	if dir, err := os.UserConfigDir(); err == nil {
		places = append([]string{filepath.Join(dir, "box", "registries.toml")}, places...)
	}
	for _, path := range places {
		cfg, err := readConfig(path)
		if !errors.Is(err, fs.ErrNotExist) {
			return cfg, err
		}
	}
	return Config{}, nil
}

// readConfig reads one file. A key that is not known is refused: it would be
// meant, and not happen.
func readConfig(path string) (Config, error) {
	var cfg Config
	data, err := readBounded(path)
	if err != nil {
		return cfg, fmt.Errorf("read registry configuration: %w", err)
	}
	dec := toml.NewDecoder(strings.NewReader(string(data)))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&cfg); err != nil {
		return cfg, errdefs.New(errdefs.ErrInvalid, "read registry configuration %s: %w", path, tomlError(err))
	}
	for i, r := range cfg.Registries {
		if r.Prefix == "" && r.Location == "" {
			return cfg, errdefs.New(errdefs.ErrInvalid, "read registry configuration %s: registry %d has neither prefix nor location", path, i+1)
		}
	}
	return cfg, nil
}

// tomlError says which key is not known; the decoder's own text does not.
func tomlError(err error) error {
	var strict *toml.StrictMissingError
	if !errors.As(err, &strict) || len(strict.Errors) == 0 {
		return err
	}
	first := strict.Errors[0]
	row, _ := first.Position()
	return fmt.Errorf("line %d: key %s is not supported", row, strings.Join(first.Key(), "."))
}

// readBounded reads a small file.
func readBounded(path string) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if info.Size() > maxConfigFile || !info.Mode().IsRegular() {
		return nil, errdefs.New(errdefs.ErrInvalid, "%s: not a regular file of at most %d bytes", path, maxConfigFile)
	}
	return os.ReadFile(path)
}

// endpoint is one place to ask for a repository.
type endpoint struct {
	host       string // host[:port], as in a URL
	repository string
	insecure   bool // plain http and unverified certificates are allowed
	mirror     bool
}

// String names the endpoint in messages.
func (e endpoint) String() string { return e.host + "/" + e.repository }

// endpoints are the places to ask for a reference, in order: mirrors, then the
// registry itself.
func (c Config) endpoints(ref image.Reference) ([]endpoint, error) {
	name := ref.Name()
	best, rest, found := c.match(name)
	if !found {
		return []endpoint{newEndpoint(name, false, false)}, nil
	}
	if best.Blocked {
		return nil, errdefs.New(errdefs.ErrInvalid, "registry %s is blocked by the registry configuration", ref.Registry)
	}
	var all []endpoint
	for _, m := range best.Mirrors {
		all = append(all, newEndpoint(m.Location+rest, m.Insecure, true))
	}
	if best.Location != "" && !strings.HasPrefix(best.Prefix, "*.") {
		name = best.Location + rest
	}
	return append(all, newEndpoint(name, best.Insecure, false)), nil
}

// match finds the entry with the longest prefix of name, and what of the name
// follows that prefix.
func (c Config) match(name string) (best Registry, rest string, found bool) {
	longest := -1
	for _, r := range c.Registries {
		prefix := r.Prefix
		if prefix == "" {
			prefix = r.Location
		}
		after, ok := cutPrefix(name, prefix)
		if ok && len(prefix) > longest {
			best, rest, found, longest = r, after, true, len(prefix)
		}
	}
	return best, rest, found
}

// cutPrefix cuts a prefix that ends at a "/", or a "*.domain" that covers the host.
func cutPrefix(name, prefix string) (rest string, ok bool) {
	if domain, wild := strings.CutPrefix(prefix, "*"); wild {
		host, rest, _ := strings.Cut(name, "/")
		return "/" + rest, strings.HasPrefix(domain, ".") && strings.HasSuffix(host, domain)
	}
	rest, ok = strings.CutPrefix(name, prefix)
	return rest, ok && (rest == "" || rest[0] == '/')
}

// newEndpoint splits host and repository. Docker Hub answers under another name
// than the one that images carry.
func newEndpoint(name string, insecure, mirror bool) endpoint {
	host, repository, _ := strings.Cut(name, "/")
	if host == "docker.io" {
		host = "index.docker.io"
	}
	return endpoint{host: host, repository: repository, insecure: insecure || isLoopback(host), mirror: mirror}
}
