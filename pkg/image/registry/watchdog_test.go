package registry

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"box/internal/errdefs"
)

// A registry that takes a request and then says nothing, or says half of it, is given
// up, at whatever step; it is not taken for the user's own interruption.
func TestSilentRegistry(t *testing.T) {
	was := stall
	stall = 100 * time.Millisecond
	t.Cleanup(func() { stall = was })
	isHandshake := func(r *http.Request) bool { return r.URL.Path == "/v2/" }
	isManifest := func(r *http.Request) bool { return strings.Contains(r.URL.Path, "/manifests/") }
	for name, is := range map[string]func(*http.Request) bool{"handshake": isHandshake, "manifest": isManifest, "blobs": isBlob} {
		for _, begun := range []bool{false, true} {
			if name == "handshake" && begun {
				continue // its text does not matter
			}
			host, _ := published(t, func(w http.ResponseWriter, r *http.Request, next http.Handler) {
				if r.Method != http.MethodGet || !is(r) {
					next.ServeHTTP(w, r)
					return
				}
				if begun {
					w.Header().Set("Content-Length", "1000")
					w.Write([]byte("{"))
					w.(http.Flusher).Flush()
				}
				select {
				case <-r.Context().Done():
				case <-t.Context().Done():
				}
			})
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
			_, err := newClient(t, Config{}).Pull(ctx, newStore(t), PullRequest{Name: host + "/app:1"})
			cancel()
			if !errors.Is(err, errdefs.ErrUnavailable) || errors.Is(err, context.Canceled) || !strings.Contains(err.Error(), host+": nothing has arrived for 100ms") {
				t.Errorf("%s, begun %t: %v", name, begun, err)
			}
		}
	}
}
