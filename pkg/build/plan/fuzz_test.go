package plan

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"box/pkg/build/dockerfile"
)

// FuzzPlan looks for panics, and for graphs that break the package's promises.
func FuzzPlan(f *testing.F) {
	files, err := filepath.Glob(filepath.Join(corpus, "*", "Dockerfile"))
	if err != nil {
		f.Fatal(err)
	}
	for _, name := range files {
		text, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(string(text))
	}
	f.Fuzz(func(t *testing.T, text string) {
		file, err := dockerfile.Parse("Dockerfile", []byte(text))
		if err != nil {
			return
		}
		if _, err := Images(file, testOptions()); err != nil && !strings.HasPrefix(err.Error(), "Dockerfile") {
			t.Fatalf("images: %v", err)
		}
		p, err := New(t.Context(), file, testOptions(), resolve)
		if err != nil {
			return
		}
		check(t, p)
	})
}

// check verifies the invariants of the package doc.
func check(t *testing.T, p *Plan) {
	t.Helper()
	seen := map[string]bool{}
	for i, o := range p.Ops {
		if o.Index != i || seen[o.Def.String()] || o.Def != o.define() {
			t.Fatalf("op %d: index %d, definition %s", i, o.Index, o.Def)
		}
		seen[o.Def.String()] = true
		for _, in := range o.Inputs() {
			if in.Index >= i {
				t.Fatalf("op %d needs op %d", i, in.Index)
			}
		}
		if c := o.Copy; c != nil {
			for _, src := range append([]string{strings.TrimPrefix(c.Dest, "/")}, c.Sources...) {
				if strings.HasPrefix(src, "/") || src == ".." || strings.HasPrefix(src, "../") || strings.Contains(src, "/../") {
					t.Fatalf("op %d: path %q", i, src)
				}
			}
		}
	}
	if p.String() == "" || p.Result == nil || p.Config == nil {
		t.Fatal("an incomplete plan")
	}
}
