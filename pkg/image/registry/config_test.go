package registry

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"box/internal/errdefs"
	"box/pkg/image"
)

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

func ExampleConfig() {
	cfg := Config{Registries: []Registry{{Prefix: "docker.io", Mirrors: []Mirror{{Location: "mirror.example.com/hub"}}}}}
	ref, err := image.ParseReference("busybox")
	if err != nil {
		fmt.Println(err)
		return
	}
	places, err := cfg.endpoints(ref)
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, e := range places {
		fmt.Println(e)
	}
	// Output:
	// mirror.example.com/hub/library/busybox
	// index.docker.io/library/busybox
}
