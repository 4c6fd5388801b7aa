package registry

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

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
	for _, s := range seen.list() {
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
	for _, s := range seen.list() {
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

// TestEndlessAnswers: what a registry says beside content has an end, even if the
// registry does not come to it.
func TestEndlessAnswers(t *testing.T) {
	for name, code := range map[string]int{"refusal": http.StatusUnauthorized, "handshake": http.StatusOK, "failure": http.StatusForbidden} {
		t.Run(name, func(t *testing.T) {
			sent := make(chan int64, 16)
			srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if code == http.StatusOK && r.URL.Path != "/v2/" {
					http.NotFound(w, r)
					return
				}
				w.WriteHeader(code)
				n, page := int64(0), make([]byte, 64<<10)
				for n < 64*answerLimit { // a client that has no bound takes it all
					k, err := w.Write(page)
					if n += int64(k); err != nil {
						break
					}
				}
				sent <- n
			}))
			defer srv.Close()
			host := strings.TrimPrefix(srv.URL, "http://")
			if _, err := newClient(t, Config{}).Pull(t.Context(), newStore(t), PullRequest{Name: host + "/app:1"}); err == nil {
				t.Fatal("the pull succeeded")
			}
			if n := <-sent; n >= 64*answerLimit {
				t.Errorf("%d bytes were taken", n)
			}
		})
	}
}
