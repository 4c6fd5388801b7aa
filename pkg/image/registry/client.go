package registry

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"

	"box/internal/errdefs"
	"box/pkg/image"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
	"github.com/opencontainers/go-digest"
)

// Client talks to registries as one user on one machine is configured to.
type Client struct {
	config Config
	creds  *Credentials
}

// Open reads registries.toml and Docker's config.json.
func Open() (*Client, error) {
	cfg, err := LoadConfig()
	if err != nil {
		return nil, err
	}
	creds, err := LoadCredentials()
	if err != nil {
		return nil, err
	}
	return &Client{config: cfg, creds: creds}, nil
}

// Progress is told how far layers have come. It is called from several
// goroutines at once. The id is the first 12 digits of a layer's digest.
type Progress interface {
	// Start names a layer and its size in bytes, before anything of it moves.
	Start(id string, total int64)
	// Update says how many bytes have been moved.
	Update(id string, done int64)
	// Done ends a layer; state is one of the words below.
	Done(id, state string)
}

// The words for how a layer has ended; they are Docker's.
const (
	StateExists = "Already exists"
	StatePulled = "Pull complete"
	StatePushed = "Pushed"
	StateThere  = "Layer already exists"
)

// silent is the Progress of those who do not want one.
type silent struct{}

func (silent) Start(string, int64)  {}
func (silent) Update(string, int64) {}
func (silent) Done(string, string)  {}

// shortID is how a blob is called in progress reports.
func shortID(d digest.Digest) string { return d.Encoded()[:12] }

// registryOf is the endpoint in go-containerregistry's words.
func registryOf(e endpoint) (name.Registry, error) {
	var opts []name.Option
	if e.insecure {
		opts = append(opts, name.Insecure)
	}
	reg, err := name.NewRegistry(e.host, opts...)
	if err != nil {
		return reg, errdefs.New(errdefs.ErrInvalid, "registry %q: %w", e.host, err)
	}
	return reg, nil
}

// session is an authenticated connection to one repository of one endpoint.
type session struct {
	endpoint
	scheme string
	http   *http.Client
	guard  *guard
}

// close gives up the connections that are kept for the next request.
func (s *session) close() { s.guard.inner.CloseIdleConnections() }

// open shakes hands with an endpoint for one repository.
func (c *Client) open(ctx context.Context, e endpoint, actions string) (*session, error) {
	auth, err := c.creds.find(ctx, e.host)
	if err != nil {
		return nil, err
	}
	return openAs(ctx, e, auth, []string{"repository:" + e.repository + ":" + actions})
}

// openAs shakes hands with given credentials.
func openAs(ctx context.Context, e endpoint, auth authn.Authenticator, scopes []string) (*session, error) {
	reg, err := registryOf(e)
	if err != nil {
		return nil, err
	}
	g := newGuard(e)
	watch := newWatchdog(ctx)
	defer watch.stop()
	// Retried is what the network, not the answer, has spoilt.
	rt, err := transport.NewWithContext(watch.ctx, reg, auth, transport.NewRetry(g), scopes)
	if err != nil {
		g.inner.CloseIdleConnections()
		return nil, watch.explain(e, err)
	}
	return &session{endpoint: e, scheme: reg.Scheme(), http: &http.Client{Transport: rt}, guard: g}, nil
}

// get asks for something of the repository. The transport below puts the right
// scheme into the URL: the handshake has found out which one the registry speaks.
func (s *session) get(ctx context.Context, kind, id string, header http.Header) (*http.Response, error) {
	url := fmt.Sprintf("%s://%s/v2/%s/%s/%s", s.scheme, s.host, s.repository, kind, id)
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, fmt.Errorf("registry %s: %w", s.host, err)
	}
	for key, values := range header {
		req.Header[key] = values
	}
	resp, err := s.http.Do(req)
	if err != nil {
		return nil, explain(s.endpoint, err)
	}
	if err := transport.CheckError(resp, http.StatusOK, http.StatusPartialContent, http.StatusRequestedRangeNotSatisfiable); err != nil {
		resp.Body.Close()
		return nil, explain(s.endpoint, err)
	}
	return resp, nil
}

// small gets a document of at most limit bytes and its media type.
func (s *session) small(ctx context.Context, kind, id string, header http.Header, limit int64) ([]byte, string, error) {
	watch := newWatchdog(ctx)
	defer watch.stop()
	resp, err := s.get(watch.ctx, kind, id, header)
	if err != nil {
		return nil, "", watch.explain(s.endpoint, err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, "", errdefs.New(errdefs.ErrUnavailable, "registry %s: unexpected answer %s", s.host, resp.Status)
	}
	data, err := io.ReadAll(&watched{io.LimitReader(resp.Body, limit+1), watch})
	if err != nil {
		return nil, "", watch.explain(s.endpoint, err)
	}
	if int64(len(data)) > limit {
		return nil, "", errdefs.New(errdefs.ErrInvalid, "registry %s: %s %s is larger than the %d bytes that are read", s.host, kind, id, limit)
	}
	return data, resp.Header.Get("Content-Type"), nil
}

// verified is small, checked against a digest and, if it is known, a size.
func (s *session) verified(ctx context.Context, kind string, d digest.Digest, size int64, header http.Header, limit int64) ([]byte, string, error) {
	data, mediaType, err := s.small(ctx, kind, d.String(), header, limit)
	if err != nil {
		return nil, "", err
	}
	if size >= 0 && int64(len(data)) != size {
		return nil, "", errdefs.New(errdefs.ErrCorrupt, "registry %s: %s %s: %d bytes arrived, %d were promised", s.host, kind, d, len(data), size)
	}
	if got := d.Algorithm().FromBytes(data); got != d {
		return nil, "", errdefs.New(errdefs.ErrCorrupt, "registry %s: %s %s: digest mismatch: what arrived is %s", s.host, kind, d, got)
	}
	return data, mediaType, nil
}

// Login checks user and password against a registry and keeps them. An empty
// host is Docker Hub.
func (c *Client) Login(ctx context.Context, host, user, password string) error {
	e, host, err := c.loginEndpoint(host)
	if err != nil {
		return err
	}
	if user == "" || password == "" || strings.ContainsAny(user, ":\n") {
		return errdefs.New(errdefs.ErrInvalid, "login to %s: user name and password must be given, the name without a colon", host)
	}
	auth := authn.FromConfig(authn.AuthConfig{Username: user, Password: password})
	if err := ping(ctx, e, auth); err != nil {
		return loginError(host, err)
	}
	return c.creds.Save(ctx, host, user, password)
}

// loginError says that it was the password, not the want of one.
func loginError(host string, err error) error {
	if errors.Is(err, errdefs.ErrUnauthorized) {
		return errdefs.New(errdefs.ErrUnauthorized, "login to %s: user name or password is wrong", host)
	}
	return fmt.Errorf("login to %s: %w", host, err)
}

// ping asks for /v2/ with credentials, which a registry grants to whom it knows.
func ping(ctx context.Context, e endpoint, auth authn.Authenticator) error {
	s, err := openAs(ctx, e, auth, nil)
	if err != nil {
		return err
	}
	defer s.close()
	watch := newWatchdog(ctx)
	defer watch.stop()
	req, err := http.NewRequestWithContext(watch.ctx, http.MethodGet, fmt.Sprintf("%s://%s/v2/", s.scheme, s.host), nil)
	if err != nil {
		return fmt.Errorf("registry %s: %w", e.host, err)
	}
	resp, err := s.http.Do(req)
	if err != nil {
		return watch.explain(e, err)
	}
	defer resp.Body.Close()
	return watch.explain(e, transport.CheckError(resp, http.StatusOK))
}

// Logout forgets the credentials for a registry and reports whether there were
// any. An empty host is Docker Hub.
func (c *Client) Logout(ctx context.Context, host string) (bool, error) {
	_, host, err := c.loginEndpoint(host)
	if err != nil {
		return false, err
	}
	return c.creds.Erase(ctx, host)
}

// loginEndpoint is the registry that a user means, which may be written as a URL,
// and the name its credentials go by.
func (c *Client) loginEndpoint(host string) (endpoint, string, error) {
	host = strings.TrimSuffix(strings.TrimPrefix(strings.TrimPrefix(host, "https://"), "http://"), "/")
	switch host {
	case "", "index.docker.io", "index.docker.io/v1", "registry-1.docker.io":
		host = "docker.io"
	}
	if strings.ContainsAny(host, "/@?#") {
		return endpoint{}, host, errdefs.New(errdefs.ErrInvalid, "registry %q: want host[:port]", host)
	}
	all, err := c.config.endpoints(image.Reference{Registry: host})
	if err != nil {
		return endpoint{}, host, err
	}
	e := all[len(all)-1] // the last one is no mirror
	if _, err := registryOf(e); err != nil {
		return endpoint{}, host, err
	}
	return e, e.host, nil // pull and push look credentials up by this name
}
