package registry

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"box/internal/errdefs"

	"golang.org/x/net/publicsuffix"
)

// guard is the innermost round tripper of every connection to one registry: what
// it lets through is what leaves the machine.
//
// It is here and not in redirect handlers because there are many ways to send a
// client elsewhere (3xx, upload Location, token realm, next links) and each of
// them has leaked credentials in some client: CVE-2020-15157, CVE-2026-48978,
// CVE-2026-49349, CVE-2026-50151.
type guard struct {
	host     string // host[:port] of the registry
	insecure bool
	inner    *http.Transport
}

// newGuard makes the one kind of HTTP client that this package has.
func newGuard(e endpoint) *guard {
	g := &guard{host: e.host, insecure: e.insecure}
	g.inner = &http.Transport{
		Proxy:               http.ProxyFromEnvironment,
		DialContext:         g.dial,
		ForceAttemptHTTP2:   true,
		MaxIdleConnsPerHost: 16,
		IdleConnTimeout:     60 * time.Second,
		TLSHandshakeTimeout: 15 * time.Second,
		// A registry that copies a large upload to its storage answers late.
		ResponseHeaderTimeout: 5 * time.Minute,
		ExpectContinueTimeout: time.Second,
		// Layers are compressed already; a registry that compresses again would
		// change the length under us.
		DisableCompression: true,
		TLSClientConfig:    &tls.Config{RootCAs: extraRoots(e.host), InsecureSkipVerify: e.insecure, MinVersion: tls.VersionTLS12},
	}
	return g
}

// RoundTrip sends the request if it may go where it wants to go.
func (g *guard) RoundTrip(req *http.Request) (*http.Response, error) {
	if err := g.check(req); err != nil {
		if req.Body != nil {
			req.Body.Close() // the contract of RoundTrip
		}
		return nil, err
	}
	resp, err := g.inner.RoundTrip(req)
	if err == nil && !isContent(req, resp) {
		resp.Body = &bounded{ReadCloser: resp.Body, left: answerLimit}
	}
	return resp, err
}

// answerLimit is how much is read of an answer that is no content, in bytes.
const answerLimit = 1 << 20

// isContent reports whether an answer is what was asked for. How much of that is
// read is decided by who knows what it is. All else is read to its end to keep the
// connection, so a registry could hold us for ever by an error that does not end.
func isContent(req *http.Request, resp *http.Response) bool {
	ok := resp.StatusCode == http.StatusOK || resp.StatusCode == http.StatusPartialContent
	return ok && req.Method == http.MethodGet && req.URL.Path != "/v2/"
}

// bounded is a body that fails after so many bytes.
type bounded struct {
	io.ReadCloser
	left int
}

// Read fails when more comes than is wanted.
func (b *bounded) Read(p []byte) (int, error) {
	if b.left == 0 {
		return 0, errdefs.New(errdefs.ErrInvalid, "answer is longer than %d bytes", answerLimit)
	}
	n, err := b.ReadCloser.Read(p[:min(len(p), b.left)])
	b.left -= n
	return n, err
}

// check decides about one request.
func (g *guard) check(req *http.Request) error {
	switch {
	case req.URL.Scheme != "https" && req.URL.Scheme != "http":
		return errdefs.New(errdefs.ErrInvalid, "registry %s: refused to follow it to %s", g.host, req.URL.Redacted())
	case req.URL.Scheme == "http" && !g.insecure:
		err := errdefs.New(errdefs.ErrInvalid, "registry %s: refused to use plain http for %s", g.host, req.URL.Host)
		return errdefs.WithHint(err, "if the registry has no TLS, set insecure = true for %s in registries.toml", g.host)
	case hasCredentials(req) && !g.mayHaveCredentials(req.URL):
		return errdefs.New(errdefs.ErrUnauthorized, "registry %s: refused to send its credentials to %s", g.host, req.URL.Host)
	}
	return nil
}

// hasCredentials reports whether a request carries a secret: a header, or the
// form by which a refresh token or password is exchanged.
func hasCredentials(req *http.Request) bool {
	form := strings.HasPrefix(req.Header.Get("Content-Type"), "application/x-www-form-urlencoded")
	return form || req.Header.Get("Authorization") != "" || req.Header.Get("Cookie") != "" || req.URL.User != nil
}

// mayHaveCredentials reports whether a host is the registry, or belongs to the
// same owner by its registrable domain (auth.docker.io for index.docker.io).
// Addresses have no owner to compare: only the very same host and port will do.
func (g *guard) mayHaveCredentials(u *url.URL) bool {
	if strings.EqualFold(canonical(u.Host, u.Scheme), canonical(g.host, u.Scheme)) {
		return true
	}
	if u.Scheme != "https" {
		return false
	}
	mine, err1 := publicsuffix.EffectiveTLDPlusOne(hostOnly(g.host))
	theirs, err2 := publicsuffix.EffectiveTLDPlusOne(u.Hostname())
	return err1 == nil && err2 == nil && mine == theirs && !isAddress(u.Hostname()) && !isAddress(hostOnly(g.host))
}

// canonical adds the default port.
func canonical(host, scheme string) string {
	if _, _, err := net.SplitHostPort(host); err == nil {
		return host
	}
	port := "443"
	if scheme == "http" {
		port = "80"
	}
	return net.JoinHostPort(strings.Trim(host, "[]"), port)
}

// hostOnly is the host without port and brackets.
func hostOnly(hostport string) string {
	if host, _, err := net.SplitHostPort(hostport); err == nil {
		return host
	}
	return strings.Trim(hostport, "[]")
}

func isAddress(host string) bool {
	_, err := netip.ParseAddr(host)
	return err == nil
}

// isLoopback reports whether a registry is on this machine by its name, which is
// where Docker, too, allows plain http without being told.
func isLoopback(hostport string) bool {
	host := hostOnly(hostport)
	if host == "localhost" || strings.HasSuffix(host, ".localhost") {
		return true
	}
	addr, err := netip.ParseAddr(host)
	return err == nil && addr.Unmap().IsLoopback()
}

// dial connects. The registry and the configured proxies may be anywhere; what
// the registry sends us to must not be a place that only we can reach. The check
// is made on the address that is connected to, so a name that resolves to
// such an address is caught as well.
func (g *guard) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	d := net.Dialer{Timeout: 30 * time.Second, KeepAlive: 30 * time.Second}
	if !g.isOwn(addr) {
		d.Control = func(_, address string, _ syscall.RawConn) error { return g.checkAddress(address) }
	}
	return d.DialContext(ctx, network, addr)
}

// isOwn reports whether addr is the registry itself or a proxy of the user's.
func (g *guard) isOwn(addr string) bool {
	for _, scheme := range []string{"http", "https"} {
		if addr == canonical(g.host, scheme) {
			return true
		}
		req := &http.Request{URL: &url.URL{Scheme: scheme, Host: g.host}}
		if proxy, err := http.ProxyFromEnvironment(req); err == nil && proxy != nil && addr == canonical(proxy.Host, proxy.Scheme) {
			return true
		}
	}
	return false
}

// checkAddress refuses addresses that mean something only here. A registry on
// the loopback device may send us around there.
func (g *guard) checkAddress(address string) error {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return err
	}
	ip, err := netip.ParseAddr(host)
	if err != nil {
		return err
	}
	ip = ip.Unmap()
	local := ip.IsLoopback() || ip.IsPrivate() || ip.IsUnspecified()
	if ip.IsLinkLocalUnicast() || local && !g.isLocal() {
		return errdefs.New(errdefs.ErrInvalid, "registry %s: refused to follow it to the local address %s", g.host, ip)
	}
	return nil
}

// isLocal reports whether the registry itself is configured by a local address.
func (g *guard) isLocal() bool {
	addr, err := netip.ParseAddr(hostOnly(g.host))
	return isLoopback(g.host) || err == nil && addr.Unmap().IsPrivate()
}

// extraRoots are the system's certificate authorities and those that Docker or
// containers/image have been given for this registry (certs.d/HOST/*.crt); nil
// means only the system's.
func extraRoots(host string) *x509.CertPool {
	var pool *x509.CertPool
	for _, dir := range []string{"/etc/docker/certs.d", "/etc/containers/certs.d"} {
		files, _ := filepath.Glob(filepath.Join(dir, host, "*.crt")) // the pattern is valid
		for _, file := range files {
			pem, err := os.ReadFile(file)
			if err != nil {
				continue // the connection will say what is missing
			}
			if pool == nil {
				if pool, err = x509.SystemCertPool(); err != nil {
					pool = x509.NewCertPool()
				}
			}
			pool.AppendCertsFromPEM(pem)
		}
	}
	return pool
}
