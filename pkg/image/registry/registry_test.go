package registry

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"box/internal/errdefs"
	"box/pkg/image"
	"box/pkg/image/store"

	"github.com/google/go-containerregistry/pkg/authn"
	ggcr "github.com/google/go-containerregistry/pkg/registry"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// newStore opens a fresh store; it needs root for the snapshots.
func newStore(t *testing.T) *store.Store {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("needs root: overlay mounts and device nodes")
	}
	st, err := store.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	return st
}

// newClient is a client without any configuration of the machine.
func newClient(t *testing.T, cfg Config) *Client {
	t.Helper()
	creds, err := readCredentials(filepath.Join(t.TempDir(), "config.json"))
	if err != nil {
		t.Fatal(err)
	}
	return &Client{config: cfg, creds: creds}
}

// makeImage puts an image of one layer with the given files into the store.
func makeImage(t *testing.T, st *store.Store, name string, files ...string) *image.Image {
	t.Helper()
	var buf bytes.Buffer
	tw := tar.NewWriter(&buf)
	for _, f := range files {
		if err := tw.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: f, Size: int64(len(f)), Mode: 0o644}); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(tw, f); err != nil {
			t.Fatal(err)
		}
	}
	if err := tw.Close(); err != nil {
		t.Fatal(err)
	}
	img, err := st.Import(t.Context(), &buf, store.ImportOptions{Name: name})
	if err != nil {
		t.Fatal(err)
	}
	return img
}

// serve serves a handler on loopback and returns host:port.
func serve(t *testing.T, h http.Handler) string {
	t.Helper()
	srv := httptest.NewServer(h)
	t.Cleanup(srv.Close)
	return strings.TrimPrefix(srv.URL, "http://")
}

// quiet is a registry in memory that does not log.
func quiet() http.Handler { return ggcr.New(ggcr.Logger(log.New(io.Discard, "", 0))) }

// events records what a progress is told.
type events struct {
	mu   sync.Mutex
	seen []string
}

func (e *events) add(s string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.seen = append(e.seen, s)
}
func (e *events) Start(string, int64)  { e.add("start") }
func (e *events) Update(string, int64) {}
func (e *events) Done(_, state string) { e.add(state) }
func (e *events) String() string       { return strings.Join(e.seen, ", ") }

func TestPushPullRoundTrip(t *testing.T) {
	host := serve(t, quiet())
	c, ctx := newClient(t, Config{}), t.Context()
	from, to := newStore(t), newStore(t)
	name := host + "/me/app:1"
	img := makeImage(t, from, name, "hello", "world")
	var pushed events
	d, err := c.Push(ctx, from, PushRequest{Name: name, Progress: &pushed})
	if err != nil {
		t.Fatal(err)
	}
	if pushed.String() != "start, Pushed" {
		t.Errorf("push told %s", &pushed)
	}
	pushed = events{}
	if again, err := c.Push(ctx, from, PushRequest{Name: name, Progress: &pushed}); err != nil || again != d || pushed.String() != "start, Layer already exists" {
		t.Errorf("second push = %s, %v; told %s", again, err, &pushed)
	}
	var pulled events
	got, err := c.Pull(ctx, to, PullRequest{Name: name, Progress: &pulled})
	if err != nil {
		t.Fatal(err)
	}
	if got.ID != img.ID || got.Manifest.Digest != d || pulled.String() != "start, Pull complete" {
		t.Errorf("pulled %s %s, want %s %s; told %s", got.ID, got.Manifest.Digest, img.ID, d, &pulled)
	}
	pulled = events{}
	if got, err = c.Pull(ctx, to, PullRequest{Name: host + "/me/app@" + d.String(), Progress: &pulled}); err != nil || got.ID != img.ID || pulled.String() != "start, Already exists" {
		t.Errorf("pull by digest = %v, %v; told %s", got, err, &pulled)
	}
	// Into another repository of the same registry nothing is sent.
	if err := to.Tag(ctx, got, host+"/other/app:2"); err != nil {
		t.Fatal(err)
	}
	if second, err := c.Push(ctx, to, PushRequest{Name: host + "/other/app:2"}); err != nil || second != d {
		t.Errorf("push to another repository = %s, %v; want %s", second, err, d)
	}
}

// rewrite is a registry whose answers a test alters.
type rewrite struct {
	http.Handler
	alter func(w http.ResponseWriter, r *http.Request, next http.Handler)
}

func (rw rewrite) ServeHTTP(w http.ResponseWriter, r *http.Request) { rw.alter(w, r, rw.Handler) }

// published serves an image and returns host, digest and the registry itself.
func published(t *testing.T, alter func(w http.ResponseWriter, r *http.Request, next http.Handler)) (string, digest.Digest) {
	t.Helper()
	inner := quiet()
	plain := serve(t, inner)
	from := newStore(t)
	makeImage(t, from, plain+"/app:1", strings.Repeat("some content ", 10), "b")
	d, err := newClient(t, Config{}).Push(t.Context(), from, PushRequest{Name: plain + "/app:1"})
	if err != nil {
		t.Fatal(err)
	}
	return serve(t, rewrite{inner, alter}), d
}

// isBlob reports whether a request is for the big blob, the layer.
func isBlob(r *http.Request) bool { return strings.Contains(r.URL.Path, "/blobs/") }

// record runs a handler aside and returns what it has answered.
func record(r *http.Request, next http.Handler) *httptest.ResponseRecorder {
	rec := httptest.NewRecorder()
	next.ServeHTTP(rec, r)
	return rec
}

// answer sends a recorded answer with another body.
func answer(w http.ResponseWriter, rec *httptest.ResponseRecorder, body []byte) {
	for k, v := range rec.Header() {
		if k != "Content-Length" {
			w.Header()[k] = v
		}
	}
	w.WriteHeader(rec.Code)
	_, _ = w.Write(body) // the client may have hung up
}

// A registry that does wrong gives one clear error of the right class, and the
// store is as before.
func TestEvilRegistry(t *testing.T) {
	manifest := func(f func(body []byte, w http.ResponseWriter) []byte) func(http.ResponseWriter, *http.Request, http.Handler) {
		return func(w http.ResponseWriter, r *http.Request, next http.Handler) {
			rec := record(r, next)
			body := rec.Body.Bytes()
			if strings.Contains(r.URL.Path, "/manifests/") {
				body = f(body, w)
			}
			answer(w, rec, body)
		}
	}
	blob := func(f func([]byte) []byte) func(http.ResponseWriter, *http.Request, http.Handler) {
		return func(w http.ResponseWriter, r *http.Request, next http.Handler) {
			rec := record(r, next)
			body := rec.Body.Bytes()
			if isBlob(r) && body[0] != '{' { // not the configuration
				body = f(body)
			}
			answer(w, rec, body)
		}
	}
	edit := func(f func(m map[string]any)) func(body []byte, w http.ResponseWriter) []byte {
		return func(body []byte, _ http.ResponseWriter) []byte {
			var m map[string]any
			_ = json.Unmarshal(body, &m)
			f(m)
			out, _ := json.Marshal(m)
			return out
		}
	}
	status := func(code int) func(http.ResponseWriter, *http.Request, http.Handler) {
		return func(w http.ResponseWriter, r *http.Request, _ http.Handler) {
			if r.URL.Path != "/v2/" {
				http.Error(w, `{"errors":[{"code":"X","message":"the registry's words"}]}`, code)
			}
		}
	}
	cases := map[string]struct {
		alter func(http.ResponseWriter, *http.Request, http.Handler)
		class error
		want  string
	}{
		"altered layer":      {blob(func(b []byte) []byte { b = bytes.Clone(b); b[len(b)-1] ^= 1; return b }), errdefs.ErrCorrupt, "digest mismatch"},
		"truncated layer":    {blob(func(b []byte) []byte { return b[:len(b)/2] }), errdefs.ErrCorrupt, "promised"},
		"layer too long":     {blob(func(b []byte) []byte { return append(bytes.Clone(b), "more"...) }), errdefs.ErrCorrupt, "longer than the promised"},
		"manifest of 5 MiB":  {manifest(func(b []byte, _ http.ResponseWriter) []byte { return append(b, bytes.Repeat([]byte(" "), 5<<20)...) }), errdefs.ErrInvalid, "larger than"},
		"manifest and index": {manifest(edit(func(m map[string]any) { m["manifests"] = []any{} })), errdefs.ErrInvalid, "at once"},
		"manifest is HTML":   {manifest(func([]byte, http.ResponseWriter) []byte { return []byte("<html>login</html>") }), errdefs.ErrInvalid, "manifest"},
		"digest as path": {manifest(edit(func(m map[string]any) {
			m["layers"].([]any)[0].(map[string]any)["digest"] = "sha256:../../../../etc/passwd" //nolint:forcetypeassert
		})), errdefs.ErrInvalid, "not a sha256"},
		"config of 100 MiB": {manifest(edit(func(m map[string]any) {
			m["config"].(map[string]any)["size"] = 100 << 20 //nolint:forcetypeassert
		})), errdefs.ErrInvalid, "out of bounds"},
		"not found":    {status(404), errdefs.ErrNotFound, "not found"},
		"unauthorized": {status(401), errdefs.ErrUnauthorized, "not authorized"},
		"forbidden":    {status(403), errdefs.ErrUnauthorized, "the registry's words"},
		"no platform": {manifest(func([]byte, http.ResponseWriter) []byte {
			return []byte(`{"schemaVersion":2,"mediaType":"` + ocispec.MediaTypeImageIndex + `","manifests":[{"mediaType":"` + ocispec.MediaTypeImageManifest + `","size":2,"digest":"sha256:` + strings.Repeat("1", 64) + `","platform":{"os":"plan9","architecture":"mips"}}]}`)
		}), errdefs.ErrInvalid, ""},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			host, _ := published(t, c.alter)
			st := newStore(t)
			_, err := newClient(t, Config{}).Pull(t.Context(), st, PullRequest{Name: host + "/app:1"})
			if !errors.Is(err, c.class) || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "\n") {
				t.Errorf("Pull: %v; want %v with %q", err, c.class, c.want)
			}
			if !strings.HasPrefix(fmt.Sprint(err), "pull "+host+"/app:1: ") {
				t.Errorf("the error does not name the image: %v", err)
			}
			if all, err := st.List(t.Context()); err != nil || len(all) > 0 {
				t.Errorf("in the store: %v, %v", all, err)
			}
		})
	}
}

func TestPinnedDigestIsBinding(t *testing.T) {
	host, _ := published(t, func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		if strings.Contains(r.URL.Path, "/manifests/sha256:") { // whatever is asked for, it is "1"
			r.URL.Path = "/v2/app/manifests/1"
		}
		next.ServeHTTP(w, r)
	})
	pinned := "sha256:" + strings.Repeat("1", 64)
	for _, name := range []string{"/app@" + pinned, "/app:1@" + pinned} {
		_, err := newClient(t, Config{}).Pull(t.Context(), newStore(t), PullRequest{Name: host + name})
		if !errors.Is(err, errdefs.ErrCorrupt) || !strings.Contains(err.Error(), "digest mismatch") {
			t.Errorf("%s: %v, want a digest mismatch", name, err)
		}
	}
}

// A connection that breaks goes on where it broke, whether the registry knows
// ranges or not.
func TestBrokenConnectionGoesOn(t *testing.T) {
	for _, ranges := range []bool{true, false} {
		t.Run(fmt.Sprintf("ranges=%t", ranges), func(t *testing.T) {
			var mu sync.Mutex
			asked := []string{}
			host, _ := published(t, func(w http.ResponseWriter, r *http.Request, next http.Handler) {
				from := r.Header.Get("Range")
				r.Header.Del("Range")
				rec := record(r, next)
				body := rec.Body.Bytes()
				if !isBlob(r) || body[0] == '{' {
					answer(w, rec, body)
					return
				}
				mu.Lock()
				asked = append(asked, from)
				first := len(asked) == 1
				mu.Unlock()
				start := 0
				if ranges && from != "" {
					_, _ = fmt.Sscanf(from, "bytes=%d-", &start)
					rec.Code = http.StatusPartialContent
				}
				if first {
					w.Header().Set("Content-Length", fmt.Sprint(len(body)))
					_, _ = w.Write(body[:len(body)/2])
					_ = http.NewResponseController(w).Flush()
					panic(http.ErrAbortHandler) // hang up
				}
				answer(w, rec, body[start:])
			})
			if _, err := newClient(t, Config{}).Pull(t.Context(), newStore(t), PullRequest{Name: host + "/app:1"}); err != nil {
				t.Fatal(err)
			}
			if len(asked) != 2 || asked[0] != "" || !strings.HasPrefix(asked[1], "bytes=") {
				t.Errorf("ranges asked for: %q", asked)
			}
		})
	}
}

// secret is what must not be seen by others.
var secret = authn.FromConfig(authn.AuthConfig{Username: "me", Password: "s3cret"})

// snoop is another host; it notes every secret that reaches it.
func snoop(t *testing.T) (string, *events) {
	t.Helper()
	var e events
	return serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(io.LimitReader(r.Body, 1000))
		if hasCredentials(r) || strings.Contains(string(body), "s3cret") || strings.Contains(r.URL.String(), "s3cret") {
			e.add(r.Method + " " + r.URL.Path)
		}
		e.add("asked")
		http.NotFound(w, r)
	})), &e
}

// Wherever a registry sends us, its credentials do not come along
// (CVE-2020-15157, CVE-2026-48978, CVE-2026-49349, CVE-2026-50151).
func TestCredentialsStayWithTheRegistry(t *testing.T) {
	other, seen := snoop(t)
	cases := map[string]func(w http.ResponseWriter, r *http.Request){
		"redirected blob": func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "http://"+other+"/blob", http.StatusTemporaryRedirect)
		},
		"redirected manifest": func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "http://"+other+"/manifest", http.StatusFound)
		},
		"redirect with user": func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "http://me:s3cret@"+other+"/", http.StatusFound)
		},
		"realm elsewhere": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("WWW-Authenticate", `Bearer realm="http://`+other+`/token",service="x"`)
			w.WriteHeader(http.StatusUnauthorized)
		},
	}
	for name, h := range cases {
		t.Run(name, func(t *testing.T) {
			host := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if _, _, ok := r.BasicAuth(); !ok && name != "realm elsewhere" {
					w.Header().Set("WWW-Authenticate", `Basic realm="x"`)
					w.WriteHeader(http.StatusUnauthorized)
					return
				}
				if r.URL.Path == "/v2/" && name != "realm elsewhere" {
					return
				}
				h(w, r)
			}))
			c := newClient(t, Config{})
			if err := c.creds.Save(t.Context(), host, "me", "s3cret"); err != nil {
				t.Fatal(err)
			}
			if _, err := c.Pull(t.Context(), newStore(t), PullRequest{Name: host + "/app:1"}); err == nil {
				t.Error("the pull succeeded")
			}
		})
	}
	for _, s := range seen.seen {
		if s != "asked" {
			t.Errorf("the other host got credentials: %s", s)
		}
	}
}

// An upload Location on another host gets the layer at most, never the secret.
func TestUploadLocationElsewhere(t *testing.T) {
	other, seen := snoop(t)
	host := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _, ok := r.BasicAuth()
		switch {
		case !ok:
			w.Header().Set("WWW-Authenticate", `Basic realm="x"`)
			w.WriteHeader(http.StatusUnauthorized)
		case r.Method == http.MethodPost:
			w.Header().Set("Location", "http://"+other+"/upload")
			w.WriteHeader(http.StatusAccepted)
		case r.Method == http.MethodHead:
			w.WriteHeader(http.StatusNotFound)
		}
	}))
	c, st := newClient(t, Config{}), newStore(t)
	if err := c.creds.Save(t.Context(), host, "me", "s3cret"); err != nil {
		t.Fatal(err)
	}
	makeImage(t, st, host+"/app:1", "x")
	if _, err := c.Push(t.Context(), st, PushRequest{Name: host + "/app:1"}); err == nil {
		t.Error("the push succeeded")
	}
	for _, s := range seen.seen {
		if s != "asked" {
			t.Errorf("the other host got credentials: %s", s)
		}
	}
}

func TestGuard(t *testing.T) {
	request := func(method, url string, header ...string) *http.Request {
		req := httptest.NewRequest(method, url, nil)
		for i := 0; i < len(header); i += 2 {
			req.Header.Set(header[i], header[i+1])
		}
		return req
	}
	auth := []string{"Authorization", "Basic x"}
	form := []string{"Content-Type", "application/x-www-form-urlencoded"}
	secure, plain := endpoint{host: "registry.example.co.uk"}, endpoint{host: "localhost:5000", insecure: true}
	for _, c := range []struct {
		e   endpoint
		req *http.Request
		ok  bool
	}{
		{secure, request("GET", "https://registry.example.co.uk/v2/", auth...), true},
		{secure, request("GET", "https://registry.example.co.uk:443/v2/", auth...), true},
		{secure, request("GET", "https://auth.example.co.uk/token", auth...), true},
		{secure, request("POST", "https://auth.example.co.uk/token", form...), true},
		{secure, request("GET", "https://evil.co.uk/token", auth...), false},
		{secure, request("POST", "https://evil.co.uk/token", form...), false},
		{secure, request("GET", "https://evil.co.uk/token"), true},
		{secure, request("GET", "https://storage.example.com/blob", "Cookie", "a=b"), false},
		{secure, request("GET", "https://registry.example.co.uk.evil.com/", auth...), false},
		{secure, request("GET", "http://registry.example.co.uk/v2/"), false},
		{secure, request("GET", "http://registry.example.co.uk/v2/", auth...), false},
		{secure, request("GET", "ftp://registry.example.co.uk/v2/"), false},
		{plain, request("GET", "http://localhost:5000/v2/", auth...), true},
		{plain, request("GET", "http://localhost:5001/v2/", auth...), false},
		{plain, request("GET", "http://localhost:5001/v2/"), true},
		{plain, request("GET", "https://localhost/v2/", auth...), false},
	} {
		if err := newGuard(c.e).check(c.req); (err == nil) != c.ok {
			t.Errorf("%s: %s %s %v: %v, want ok %t", c.e.host, c.req.Method, c.req.URL, c.req.Header, err, c.ok)
		}
	}
}

func TestGuardAddresses(t *testing.T) {
	for _, c := range []struct {
		host, address string
		ok            bool
	}{
		{"registry.example.com", "93.184.216.34:443", true},
		{"registry.example.com", "127.0.0.1:80", false},
		{"registry.example.com", "[::ffff:127.0.0.1]:80", false},
		{"registry.example.com", "[::1]:80", false},
		{"registry.example.com", "10.1.2.3:443", false},
		{"registry.example.com", "0.0.0.0:443", false},
		{"registry.example.com", "169.254.169.254:80", false},
		{"registry.example.com", "[fe80::1]:80", false},
		{"localhost:5000", "127.0.0.1:80", true},
		{"10.0.0.1:5000", "10.0.0.2:80", true},
		{"localhost:5000", "169.254.169.254:80", false},
	} {
		if err := newGuard(endpoint{host: c.host}).checkAddress(c.address); (err == nil) != c.ok {
			t.Errorf("%s to %s: %v, want ok %t", c.host, c.address, err, c.ok)
		}
	}
}

func TestRegistryDown(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	host := l.Addr().String()
	l.Close()
	_, err = newClient(t, Config{}).Pull(t.Context(), newStore(t), PullRequest{Name: host + "/app"})
	if !errors.Is(err, errdefs.ErrUnavailable) || !strings.Contains(fmt.Sprint(err), host+": connect: connection refused") {
		t.Errorf("Pull: %v", err)
	}
}

func TestPlainHTTPAndBadCertificateAreExplained(t *testing.T) {
	tls := httptest.NewTLSServer(quiet())
	t.Cleanup(tls.Close)
	host := strings.TrimPrefix(tls.URL, "https://")
	// The loopback address counts as insecure; by another name it does not.
	e := endpoint{host: host, repository: "app"}
	_, err := openAs(t.Context(), e, authn.Anonymous, nil)
	if !errors.Is(err, errdefs.ErrUnavailable) || !strings.Contains(errdefs.Hint(err), "certs.d") {
		t.Errorf("unknown certificate: %v (%s)", err, errdefs.Hint(err))
	}
	e = endpoint{host: serve(t, quiet()), repository: "app"}
	_, err = openAs(t.Context(), e, authn.Anonymous, nil)
	if err == nil || !strings.Contains(errdefs.Hint(err), "insecure = true") {
		t.Errorf("plain http: %v (%s)", err, errdefs.Hint(err))
	}
	e.host, e.insecure = host, true
	if _, err = openAs(t.Context(), e, authn.Anonymous, nil); err != nil {
		t.Errorf("insecure = true: %v", err)
	}
}

func TestMirrors(t *testing.T) {
	mirror := serve(t, quiet())
	empty := serve(t, quiet())
	st := newStore(t)
	ctx := t.Context()
	makeImage(t, st, mirror+"/hub/library/busybox:1", "x")
	if _, err := newClient(t, Config{}).Push(ctx, st, PushRequest{Name: mirror + "/hub/library/busybox:1"}); err != nil {
		t.Fatal(err)
	}
	cfg := Config{Registries: []Registry{{Prefix: "docker.io", Location: empty, Insecure: true, Mirrors: []Mirror{{Location: empty + "/none"}, {Location: mirror + "/hub"}}}}}
	c, to := newClient(t, cfg), newStore(t)
	img, err := c.Pull(ctx, to, PullRequest{Name: "busybox:1"})
	if err != nil {
		t.Fatal(err)
	}
	if len(img.Names) != 1 || img.Names[0] != "docker.io/library/busybox:1" || !strings.HasPrefix(img.RepoDigests[0], "docker.io/library/busybox@") {
		t.Errorf("pulled %v %v", img.Names, img.RepoDigests)
	}
	_, err = c.Pull(ctx, to, PullRequest{Name: "nosuch"})
	if !errors.Is(err, errdefs.ErrNotFound) || !strings.Contains(err.Error(), mirror) || !strings.HasPrefix(err.Error(), "pull docker.io/library/nosuch:latest: not found: ") {
		t.Errorf("missing everywhere: %v", err)
	}
}

func TestConfig(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "registries.toml")
	t.Setenv("BOX_REGISTRIES_CONF", path)
	if _, err := LoadConfig(); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a file that is named and missing: %v", err)
	}
	text := `
[[registry]]
prefix = "docker.io"
location = "hub.example.com/cache"
[[registry.mirror]]
location = "localhost:5000"
[[registry]]
prefix = "docker.io/library"
location = "docker.io/library"
[[registry]]
location = "plain.example.com:8080"
insecure = true
[[registry]]
prefix = "*.blocked.org"
blocked = true
`
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	cfg, err := LoadConfig()
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{
		"me/app":                   "localhost:5000/me/app hub.example.com/cache/me/app",
		"busybox":                  "index.docker.io/library/busybox",
		"plain.example.com:8080/a": "plain.example.com:8080/a(insecure)",
		"other.org/a":              "other.org/a",
		"127.0.0.1:5000/a":         "127.0.0.1:5000/a(insecure)",
		"a.blocked.org/x":          "error",
		"blocked.org/x":            "blocked.org/x",
	} {
		ref, err := image.ParseReference(name)
		if err != nil {
			t.Fatal(err)
		}
		all, err := cfg.endpoints(ref)
		var words []string
		for _, e := range all {
			word := e.String()
			if e.insecure && e.host != "localhost:5000" {
				word += "(insecure)"
			}
			words = append(words, word)
		}
		if err != nil {
			words = []string{"error"}
		}
		if got := strings.Join(words, " "); got != want {
			t.Errorf("%s: %s, want %s", name, got, want)
		}
	}
	for _, bad := range []string{"[[registry]]\nprefix = 'a'\nmirror-by-digest-only = true\n", "[[registry]]\ninsecure = true\n", "x", "unqualified-search-registries = ['docker.io']"} {
		if err := os.WriteFile(path, []byte(bad), 0o644); err != nil {
			t.Fatal(err)
		}
		if _, err := LoadConfig(); !errors.Is(err, errdefs.ErrInvalid) || !strings.Contains(err.Error(), path) {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

func TestCredentialsFile(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("DOCKER_CONFIG", dir)
	path := filepath.Join(dir, "config.json")
	if err := os.WriteFile(path, []byte(`{"psFormat":"x","auths":{"a.org":{"auth":"bWU6cGE6c3M=","email":"e"},"t.org":{"identitytoken":"tok"},"bad.org":{"auth":"%%"},"null.org":{}}}`), 0o644); err != nil {
		t.Fatal(err)
	}
	c, err := LoadCredentials()
	if err != nil {
		t.Fatal(err)
	}
	ask := func(host string) string {
		auth, err := c.find(t.Context(), host)
		if err != nil {
			return "error " + err.Error()
		}
		cfg, err := auth.Authorization()
		if err != nil {
			t.Fatal(err)
		}
		return cfg.Username + ":" + cfg.Password + cfg.IdentityToken
	}
	for host, want := range map[string]string{"a.org": "me:pa:ss", "t.org": ":tok", "null.org": ":", "other.org": ":"} {
		if got := ask(host); got != want {
			t.Errorf("%s: %s, want %s", host, got, want)
		}
	}
	if got := ask("bad.org"); !strings.HasPrefix(got, "error") || strings.Contains(got, "%%") {
		t.Errorf("bad entry: %s", got)
	}
	if err := c.Save(t.Context(), "docker.io", "hub", "pw"); err != nil {
		t.Fatal(err)
	}
	if c, err = LoadCredentials(); err != nil {
		t.Fatal(err)
	}
	if got := ask("index.docker.io"); got != "hub:pw" {
		t.Errorf("Docker Hub: %s", got)
	}
	data, err := os.ReadFile(path)
	if err != nil || !bytes.Contains(data, []byte(`"psFormat": "x"`)) || !bytes.Contains(data, []byte(`"email": "e"`)) || !bytes.Contains(data, []byte(hubKey)) {
		t.Errorf("file is now %s, %v", data, err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	if known, err := c.Erase(t.Context(), "docker.io"); !known || err != nil {
		t.Errorf("Erase = %t, %v", known, err)
	}
	if known, err := c.Erase(t.Context(), "docker.io"); known || err != nil {
		t.Errorf("second Erase = %t, %v", known, err)
	}
}

func TestCredentialHelper(t *testing.T) {
	dir := t.TempDir()
	script := `#!/bin/sh
read -r in || true
case "$1" in
get) [ "$in" = known.org ] && [ -f ` + dir + `/kept ] && echo '{"Username":"<token>","Secret":"tok"}' && exit
	echo credentials not found in native keychain; exit 1;;
store) echo "$in" > ` + dir + `/kept;;
erase) rm ` + dir + `/kept;;
esac`
	if err := os.WriteFile(filepath.Join(dir, "docker-credential-test"), []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	path := filepath.Join(dir, "config.json")
	if err := os.WriteFile(path, []byte(`{"credHelpers":{"known.org":"test","evil.org":"../test"}}`), 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := readCredentials(path)
	if err != nil {
		t.Fatal(err)
	}
	ctx := t.Context()
	if auth, err := c.find(ctx, "known.org"); err != nil || auth != authn.Anonymous {
		t.Errorf("before: %v, %v", auth, err)
	}
	if err := c.Save(ctx, "known.org", "me", "pw"); err != nil {
		t.Fatal(err)
	}
	kept, _ := os.ReadFile(dir + "/kept")
	if !bytes.Contains(kept, []byte(`"Secret":"pw"`)) {
		t.Errorf("the helper got %s", kept)
	}
	auth, err := c.find(ctx, "known.org")
	if err != nil {
		t.Fatal(err)
	}
	if cfg, _ := auth.Authorization(); cfg.IdentityToken != "tok" {
		t.Errorf("after: %+v", cfg)
	}
	if known, err := c.Erase(ctx, "known.org"); !known || err != nil {
		t.Errorf("Erase = %t, %v", known, err)
	}
	if _, err := c.find(ctx, "evil.org"); !errors.Is(err, errdefs.ErrInvalid) {
		t.Errorf("helper with a slash: %v", err)
	}
	if data, _ := os.ReadFile(path); bytes.Contains(data, []byte("pw")) {
		t.Error("the password is in the file, too")
	}
}

// startRegistry starts Debian's docker-registry on loopback, with a password file
// if user is given, and returns host:port.
func startRegistry(t *testing.T, user, password string) string {
	t.Helper()
	bin, err := exec.LookPath("docker-registry")
	if err != nil {
		t.Skip("needs docker-registry")
	}
	dir := t.TempDir()
	auth := ""
	if user != "" {
		out, err := exec.Command("htpasswd", "-Bbn", user, password).Output()
		if err != nil {
			t.Skipf("needs htpasswd: %v", err)
		}
		if err := os.WriteFile(dir+"/htpasswd", out, 0o600); err != nil {
			t.Fatal(err)
		}
		auth = "auth:\n  htpasswd:\n    realm: test\n    path: " + dir + "/htpasswd\n"
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	host := l.Addr().String()
	l.Close()
	cfg := "version: 0.1\nlog:\n  level: error\nstorage:\n  filesystem:\n    rootdirectory: " + dir + "/data\n  delete:\n    enabled: true\nhttp:\n  addr: " + host + "\n" + auth
	if err := os.WriteFile(dir+"/config.yml", []byte(cfg), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(bin, "serve", dir+"/config.yml")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	waitFor(t, host)
	return host
}

// waitFor waits until somebody listens.
func waitFor(t *testing.T, host string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	for ctx.Err() == nil {
		conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", host)
		if err == nil {
			conn.Close()
			return
		}
		<-time.After(10 * time.Millisecond)
	}
	t.Fatalf("docker-registry does not listen on %s", host)
}

func TestRealRegistry(t *testing.T) {
	for _, user := range []string{"", "me"} {
		t.Run("user="+user, func(t *testing.T) {
			st := newStore(t)
			host := startRegistry(t, user, "s3cret")
			c, ctx := newClient(t, Config{}), t.Context()
			name := host + "/me/app:1"
			img := makeImage(t, st, name, "hello", "world")
			if user != "" {
				logIn(t, c, st, host, name)
			}
			d, err := c.Push(ctx, st, PushRequest{Name: name})
			if err != nil {
				t.Fatal(err)
			}
			if _, err := st.Delete(ctx, name, store.DeleteOptions{}); err != nil {
				t.Fatal(err)
			}
			got, err := c.Pull(ctx, st, PullRequest{Name: name})
			if err != nil {
				t.Fatal(err)
			}
			if got.ID != img.ID || got.Manifest.Digest != d {
				t.Errorf("pulled %s %s, pushed %s %s", got.ID, got.Manifest.Digest, img.ID, d)
			}
			skopeo(t, host, user, d)
			_, err = c.Pull(ctx, st, PullRequest{Name: host + "/me/nosuch"})
			if !errors.Is(err, errdefs.ErrNotFound) {
				t.Errorf("missing image: %v", err)
			}
		})
	}
}

// logIn tries what needs a login without one, then logs in.
func logIn(t *testing.T, c *Client, st *store.Store, host, name string) {
	t.Helper()
	ctx := t.Context()
	if _, err := c.Push(ctx, st, PushRequest{Name: name}); !errors.Is(err, errdefs.ErrUnauthorized) || errdefs.Hint(err) != "box login "+host {
		t.Errorf("push without login: %v (%s)", err, errdefs.Hint(err))
	}
	if _, err := c.Pull(ctx, st, PullRequest{Name: name}); !errors.Is(err, errdefs.ErrUnauthorized) {
		t.Errorf("pull without login: %v", err)
	}
	if err := c.Login(ctx, host, "me", "wrong"); !errors.Is(err, errdefs.ErrUnauthorized) {
		t.Errorf("login with a wrong password: %v", err)
	}
	if len(c.creds.auths) != 0 {
		t.Error("the wrong password was kept")
	}
	if err := c.Login(ctx, host, "me", "s3cret"); err != nil {
		t.Fatal(err)
	}
}

// skopeo asks another client what lies in the registry.
func skopeo(t *testing.T, host, user string, want digest.Digest) {
	t.Helper()
	if _, err := exec.LookPath("skopeo"); err != nil {
		t.Log("skopeo is not installed: not compared")
		return
	}
	args := []string{"inspect", "--tls-verify=false", "docker://" + host + "/me/app:1"}
	if user != "" {
		args = append(args, "--creds="+user+":s3cret")
	}
	out, err := exec.Command("skopeo", args...).Output()
	var seen struct{ Digest digest.Digest }
	if err != nil || json.Unmarshal(out, &seen) != nil || seen.Digest != want {
		t.Errorf("skopeo sees %s, want %s; %v", seen.Digest, want, err)
	}
}
