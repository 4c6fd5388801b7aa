package registry

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

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
func (e *events) String() string       { return strings.Join(e.list(), ", ") }

// list is what has been told so far.
func (e *events) list() []string {
	e.mu.Lock()
	defer e.mu.Unlock()
	return append([]string(nil), e.seen...)
}

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

// Asked for a platform, a registry that has one image only for another gets a no.
func TestOtherPlatform(t *testing.T) {
	host, _ := published(t, func(w http.ResponseWriter, r *http.Request, next http.Handler) { next.ServeHTTP(w, r) })
	other, err := image.ParsePlatform("linux/s390x")
	if err != nil {
		t.Fatal(err)
	}
	_, err = newClient(t, Config{}).Pull(t.Context(), newStore(t), PullRequest{Name: host + "/app:1", Platform: &other})
	if !errors.Is(err, errdefs.ErrNotFound) || !strings.Contains(err.Error(), "no image for platform linux/s390x; there is: ") {
		t.Errorf("Pull: %v", err)
	}
}
