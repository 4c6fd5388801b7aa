package registry

import (
	"context"
	"encoding/json"
	"errors"
	"net"
	"os"
	"os/exec"
	"testing"
	"time"

	"box/internal/errdefs"
	"box/pkg/image/store"

	"github.com/opencontainers/go-digest"
)

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
