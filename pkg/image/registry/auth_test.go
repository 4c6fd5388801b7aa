package registry

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"box/internal/errdefs"

	"github.com/google/go-containerregistry/pkg/authn"
)

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
