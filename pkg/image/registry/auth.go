package registry

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"box/internal/atomicfile"
	"box/internal/errdefs"

	"github.com/google/go-containerregistry/pkg/authn"
)

// hubKey is what Docker Hub is called in config.json.
const hubKey = "https://index.docker.io/v1/"

// helperOutput bounds what is read from a credential helper, in bytes.
const helperOutput = 1 << 20

// Credentials is Docker's config.json as far as it concerns credentials. The
// rest of the file is left alone.
type Credentials struct {
	path  string
	all   map[string]json.RawMessage // the whole file
	auths map[string]json.RawMessage // its "auths"
	store string                     // "credsStore"
	per   map[string]string          // "credHelpers"
}

// authEntry is one entry of "auths".
type authEntry struct {
	Auth          string `json:"auth,omitempty"` // base64 of user:password
	Username      string `json:"username,omitempty"`
	Password      string `json:"password,omitempty"`
	IdentityToken string `json:"identitytoken,omitempty"`
	RegistryToken string `json:"registrytoken,omitempty"`
}

// LoadCredentials reads $DOCKER_CONFIG/config.json or ~/.docker/config.json; a
// missing file has no credentials.
func LoadCredentials() (*Credentials, error) {
	dir := os.Getenv("DOCKER_CONFIG")
	if dir == "" {
		home, err := os.UserHomeDir()
		if err != nil {
			return &Credentials{}, nil //nolint:nilerr // no home, no credentials; saving says so
		}
		dir = filepath.Join(home, ".docker")
	}
	return readCredentials(filepath.Join(dir, "config.json"))
}

// readCredentials reads one file.
func readCredentials(path string) (*Credentials, error) {
	c := &Credentials{path: path, all: map[string]json.RawMessage{}, auths: map[string]json.RawMessage{}}
	data, err := readBounded(path)
	if errors.Is(err, fs.ErrNotExist) {
		return c, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read credentials: %w", err)
	}
	if err := json.Unmarshal(data, &c.all); err != nil {
		return nil, errdefs.New(errdefs.ErrInvalid, "read credentials %s: %w", path, err)
	}
	for key, into := range map[string]any{"auths": &c.auths, "credsStore": &c.store, "credHelpers": &c.per} {
		if raw, ok := c.all[key]; ok {
			if err := json.Unmarshal(raw, into); err != nil {
				return nil, errdefs.New(errdefs.ErrInvalid, "read credentials %s: %s: %w", path, key, err)
			}
		}
	}
	if c.auths == nil { // "auths": null
		c.auths = map[string]json.RawMessage{}
	}
	return c, nil
}

// keysOf are the names under which a host may stand in config.json, the one that
// is written first.
func keysOf(host string) []string {
	switch host {
	case "docker.io", "index.docker.io", "registry-1.docker.io":
		return []string{hubKey, "index.docker.io", "docker.io"}
	}
	return []string{host, "https://" + host, "http://" + host, "https://" + host + "/v1/", "https://" + host + "/v2/"}
}

// find returns the credentials for a host; none gives authn.Anonymous.
func (c *Credentials) find(ctx context.Context, host string) (authn.Authenticator, error) {
	for _, key := range keysOf(host) {
		if helper := c.helper(key); helper != "" {
			auth, err := askHelper(ctx, helper, key)
			if err != nil || auth != nil {
				return auth, err
			}
		}
		if raw, ok := c.auths[key]; ok {
			auth, err := decodeAuth(raw)
			if err != nil {
				return nil, errdefs.New(errdefs.ErrInvalid, "read credentials %s: entry %s: %w", c.path, key, err)
			}
			if auth != nil {
				return auth, nil
			}
		}
	}
	return authn.Anonymous, nil
}

// helper is the name of the credential helper in charge of a key, if any.
func (c *Credentials) helper(key string) string {
	if h := c.per[key]; h != "" {
		return h
	}
	return c.store
}

// decodeAuth reads one entry; nil for an empty one, as helpers leave behind.
func decodeAuth(raw json.RawMessage) (authn.Authenticator, error) {
	var e authEntry
	if err := json.Unmarshal(raw, &e); err != nil {
		return nil, err
	}
	cfg := authn.AuthConfig{Username: e.Username, Password: e.Password, IdentityToken: e.IdentityToken, RegistryToken: e.RegistryToken}
	if e.Auth != "" {
		plain, err := base64.StdEncoding.DecodeString(e.Auth)
		if err != nil {
			return nil, errors.New("auth is not base64") // never show what it is
		}
		user, password, ok := strings.Cut(strings.TrimRight(string(plain), "\x00"), ":")
		if !ok {
			return nil, errors.New("auth is not the base64 of user:password")
		}
		cfg.Username, cfg.Password = user, password
	}
	if cfg == (authn.AuthConfig{}) {
		return nil, nil
	}
	return authn.FromConfig(cfg), nil
}

// helperReply is what a credential helper answers to "get", and takes for "store".
type helperReply struct {
	ServerURL string `json:",omitempty"`
	Username  string
	Secret    string
}

// askHelper asks a credential helper; nil if it knows nothing of the key.
func askHelper(ctx context.Context, helper, key string) (authn.Authenticator, error) {
	out, err := runHelper(ctx, helper, "get", key)
	if err != nil {
		if strings.Contains(err.Error(), "credentials not found") {
			return nil, nil
		}
		return nil, err
	}
	var reply helperReply
	if err := json.Unmarshal(out, &reply); err != nil {
		return nil, errdefs.New(errdefs.ErrInvalid, "credential helper %s: answer is not JSON", helper)
	}
	// A helper answers with a token by this name instead of a user's.
	if reply.Username == "<token>" {
		return authn.FromConfig(authn.AuthConfig{IdentityToken: reply.Secret}), nil
	}
	return authn.FromConfig(authn.AuthConfig{Username: reply.Username, Password: reply.Secret}), nil
}

// runHelper runs docker-credential-NAME (docker/docker-credential-helpers,
// README, "Development"): verb as argument, input on stdin, messages on stdout.
func runHelper(ctx context.Context, helper, verb, input string) ([]byte, error) {
	if strings.ContainsAny(helper, "/\\") || helper == "" {
		return nil, errdefs.New(errdefs.ErrInvalid, "credential helper %q: not a plain name", helper)
	}
	cmd := exec.CommandContext(ctx, "docker-credential-"+helper, verb)
	cmd.Stdin = strings.NewReader(input)
	var out bytes.Buffer
	cmd.Stdout = &capped{buf: &out, left: helperOutput}
	if err := cmd.Run(); err != nil {
		if said := strings.TrimSpace(out.String()); said != "" && verb != "store" {
			err = errors.New(said)
		}
		return nil, fmt.Errorf("credential helper %s: %s: %w", helper, verb, err)
	}
	return out.Bytes(), nil
}

// capped keeps the first bytes and drops the rest.
type capped struct {
	buf  *bytes.Buffer
	left int
}

// Write keeps what still fits.
func (c *capped) Write(p []byte) (int, error) {
	keep := min(len(p), c.left)
	c.buf.Write(p[:keep])
	c.left -= keep
	return len(p), nil
}

// Save keeps user name and password for a host, with the credential helper in
// charge or in the file.
func (c *Credentials) Save(ctx context.Context, host, user, password string) error {
	key := keysOf(host)[0]
	if helper := c.helper(key); helper != "" {
		input, err := json.Marshal(helperReply{ServerURL: key, Username: user, Secret: password})
		if err != nil {
			return fmt.Errorf("save credentials: %w", err)
		}
		_, err = runHelper(ctx, helper, "store", string(input))
		return err
	}
	auth := base64.StdEncoding.EncodeToString([]byte(user + ":" + password))
	entry, err := json.Marshal(authEntry{Auth: auth})
	if err != nil {
		return fmt.Errorf("save credentials: %w", err)
	}
	c.auths[key] = entry
	return c.write()
}

// Erase forgets a host and reports whether anything was known of it.
func (c *Credentials) Erase(ctx context.Context, host string) (bool, error) {
	known := false
	for _, key := range keysOf(host) {
		if helper := c.helper(key); helper != "" {
			if auth, err := askHelper(ctx, helper, key); err == nil && auth != nil {
				known = true
				if _, err := runHelper(ctx, helper, "erase", key); err != nil {
					return known, err
				}
			}
		}
		if _, ok := c.auths[key]; ok {
			known = true
			delete(c.auths, key)
		}
	}
	if !known {
		return false, nil
	}
	return true, c.write()
}

// write replaces the file, readable by its owner alone. A link stays a link:
// people keep this file elsewhere.
func (c *Credentials) write() error {
	if c.path == "" {
		return errdefs.New(errdefs.ErrInvalid, "save credentials: neither HOME nor DOCKER_CONFIG is set")
	}
	auths, err := json.Marshal(c.auths)
	if err != nil {
		return fmt.Errorf("save credentials: %w", err)
	}
	c.all["auths"] = auths
	data, err := json.MarshalIndent(c.all, "", "\t")
	if err != nil {
		return fmt.Errorf("save credentials: %w", err)
	}
	path := c.path
	if real, err := filepath.EvalSymlinks(path); err == nil {
		path = real
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return fmt.Errorf("save credentials: %w", err)
	}
	if err := atomicfile.Write(path, append(data, '\n'), 0o600); err != nil {
		return fmt.Errorf("save credentials: %w", err)
	}
	return nil
}
