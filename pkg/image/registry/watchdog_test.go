package registry

import (
	"context"
	"errors"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
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

// A password that gets no answer is not waited for, either.
func TestSilentLogin(t *testing.T) {
	was := stall
	stall = 100 * time.Millisecond
	t.Cleanup(func() { stall = was })
	host := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("WWW-Authenticate", "Basic")
		if r.Header.Get("Authorization") == "" {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		w.Header().Set("Content-Length", "1000")
		w.WriteHeader(http.StatusInternalServerError)
		_ = http.NewResponseController(w).Flush()
		select {
		case <-r.Context().Done():
		case <-t.Context().Done():
		}
	}))
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	err := newClient(t, Config{}).Login(ctx, host, "user", "password")
	if !errors.Is(err, errdefs.ErrUnavailable) || !strings.Contains(err.Error(), host+": nothing has arrived for 100ms") {
		t.Error(err)
	}
}

// A registry that hangs up cannot be reached, at whatever step it does so.
func TestRegistryHangsUp(t *testing.T) {
	for name, is := range map[string]func(*http.Request) bool{
		"handshake": func(r *http.Request) bool { return r.URL.Path == "/v2/" },
		"manifest":  func(r *http.Request) bool { return strings.Contains(r.URL.Path, "/manifests/") },
	} {
		host, _ := published(t, func(w http.ResponseWriter, r *http.Request, next http.Handler) {
			if is(r) {
				panic(http.ErrAbortHandler)
			}
			next.ServeHTTP(w, r)
		})
		_, err := newClient(t, Config{}).Pull(t.Context(), newStore(t), PullRequest{Name: host + "/app:1"})
		if !errors.Is(err, errdefs.ErrUnavailable) || !strings.Contains(err.Error(), ": registry "+host+": ") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// What a registry without ranges sends once more is something that arrives: to skip it
// may take longer than the dog waits.
func TestSlowSkipIsNoSilence(t *testing.T) {
	was := stall
	stall = 500 * time.Millisecond
	t.Cleanup(func() { stall = was })
	var asked atomic.Int32
	host, _ := published(t, func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		r.Header.Del("Range")
		rec := record(r, next)
		body := rec.Body.Bytes()
		if !isBlob(r) || body[0] == '{' {
			answer(w, rec, body)
			return
		}
		w.Header().Set("Content-Length", strconv.Itoa(len(body)))
		last := len(body) - 1
		if asked.Add(1) == 1 { // hang up before the last byte
			_, _ = w.Write(body[:last])
			_ = http.NewResponseController(w).Flush()
			panic(http.ErrAbortHandler)
		}
		for i := range 20 {
			_, _ = w.Write(body[last*i/20 : last*(i+1)/20])
			_ = http.NewResponseController(w).Flush()
			select {
			case <-r.Context().Done():
			case <-time.After(50 * time.Millisecond):
			}
		}
		_, _ = w.Write(body[last:])
	})
	if _, err := newClient(t, Config{}).Pull(t.Context(), newStore(t), PullRequest{Name: host + "/app:1"}); err != nil {
		t.Error(err)
	}
	if n := asked.Load(); n != 2 {
		t.Errorf("asked for the layer %d times, want 2", n)
	}
}
