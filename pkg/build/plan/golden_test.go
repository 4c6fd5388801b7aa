package plan

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"box/internal/errdefs"
	"box/pkg/build/dockerfile"
	"box/pkg/image"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go/v1"
)

var update = flag.Bool("update", false, "write the golden files anew")

const corpus = "../testdata/plans"

// bases are the images that exist in the tests.
var bases = map[string]string{
	"busybox": `{"architecture":"amd64","os":"linux","config":{"Env":["PATH=/bin:/usr/bin"],"Cmd":["sh"]},"rootfs":{"type":"layers","diff_ids":[]}}`,
	"node:14": `{"architecture":"amd64","os":"linux","config":{"Env":["PATH=/usr/local/bin:/usr/bin:/bin","NODE_VERSION=14.21.3"],"Entrypoint":["docker-entrypoint.sh"],"Cmd":["node"]},"rootfs":{"type":"layers","diff_ids":[]}}`,
	"nopath":  `{"architecture":"amd64","os":"linux","config":{"User":"app","WorkingDir":"srv"},"rootfs":{"type":"layers","diff_ids":[]}}`,
	"onbuild": `{"architecture":"amd64","os":"linux","config":{"Env":["PATH=/bin"],"OnBuild":["COPY . /app","RUN make -C /app $FLAG","ENV MADE=yes"]},"rootfs":{"type":"layers","diff_ids":[]}}`,
	"badenv":  `{"architecture":"amd64","os":"linux","config":{"Env":["HOME"]},"rootfs":{"type":"layers","diff_ids":[]}}`,
}

func resolve(_ context.Context, ref ImageRef) (*Base, error) {
	doc, ok := bases[ref.Name]
	if !ok {
		return nil, errdefs.New(errdefs.ErrNotFound, "image %s: not found", ref.Name)
	}
	config, err := image.ParseConfig([]byte(doc))
	if err != nil {
		return nil, err
	}
	return &Base{Name: "docker.io/library/" + ref.Name, ID: digest.FromString(ref.Name + ref.Platform), Config: &config}, nil
}

func testOptions() Options {
	amd64 := v1.Platform{OS: "linux", Architecture: "amd64"}
	return Options{Platform: amd64, BuildPlatform: amd64}
}

// planCase plans one directory of the corpus; options.json beside the
// Dockerfile overrides the options.
func planCase(t *testing.T, dir string) string {
	t.Helper()
	opts := testOptions()
	if text, err := os.ReadFile(filepath.Join(dir, "options.json")); err == nil {
		if err := json.Unmarshal(text, &opts); err != nil {
			t.Fatal(err)
		}
	}
	text, err := os.ReadFile(filepath.Join(dir, "Dockerfile"))
	if err != nil {
		t.Fatal(err)
	}
	p, err := planText(string(text), opts)
	if err != nil {
		return "error: " + err.Error() + hintLine(err)
	}
	return p.String()
}

func hintLine(err error) string {
	if h := errdefs.Hint(err); h != "" {
		return "\nhint: " + h + "\n"
	}
	return "\n"
}

func planText(text string, opts Options) (*Plan, error) {
	file, err := dockerfile.Parse("Dockerfile", []byte(text))
	if err != nil {
		return nil, err
	}
	return New(context.Background(), file, opts, resolve)
}

// TestGolden plans every Dockerfile of the corpus and compares the graph with
// the one that was looked at and found right.
func TestGolden(t *testing.T) {
	dirs, err := filepath.Glob(filepath.Join(corpus, "*"))
	if err != nil || len(dirs) < 10 {
		t.Fatalf("corpus has %d cases: %v", len(dirs), err)
	}
	for _, dir := range dirs {
		t.Run(filepath.Base(dir), func(t *testing.T) {
			got := planCase(t, dir)
			if again := planCase(t, dir); again != got {
				t.Fatalf("planned twice, got two graphs:\n%s", cmp.Diff(got, again))
			}
			golden := filepath.Join(dir, "plan.golden")
			if *update {
				if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(string(want), got); d != "" {
				t.Error(d)
			}
		})
	}
}

// TestUnneededStage checks that a stage which the target does not need is not
// even resolved, and that what it holds is not refused.
func TestUnneededStage(t *testing.T) {
	_, err := planText("FROM nosuch AS a\nRUN --mount=type=cache,target=/c x\nFROM busybox\nRUN y\n", testOptions())
	if err != nil {
		t.Fatal(err)
	}
}

// TestDefinitionDigest checks what is and what is not part of a definition.
func TestDefinitionDigest(t *testing.T) {
	def := func(text string, change func(*Options)) digest.Digest {
		opts := testOptions()
		opts.BuildArgs = map[string]string{}
		if change != nil {
			change(&opts)
		}
		p, err := planText(text, opts)
		if err != nil {
			t.Fatal(err)
		}
		return p.Result.Def
	}
	arg := func(k, v string) func(*Options) { return func(o *Options) { o.BuildArgs[k] = v } }
	base := "FROM busybox\nARG V=1\nRUN make\n"
	want := def(base, nil)
	for name, same := range map[string]digest.Digest{
		"comment":    def("# hello\nFROM busybox\n\nARG V=1\nRUN make\n", nil),
		"proxy":      def(base, arg("HTTP_PROXY", "http://p:3128")),
		"label":      def("FROM busybox\nLABEL a=b\nARG V=1\nRUN make\n", nil),
		"stage name": def("FROM busybox AS x\nARG V=1\nRUN make\n", nil),
	} {
		if same != want {
			t.Errorf("%s changed the definition", name)
		}
	}
	for name, other := range map[string]digest.Digest{
		"arg":      def(base, arg("V", "2")),
		"command":  def("FROM busybox\nARG V=1\nRUN make all\n", nil),
		"user":     def("FROM busybox\nARG V=1\nUSER 1\nRUN make\n", nil),
		"cwd":      def("FROM busybox\nARG V=1\nWORKDIR /x\nRUN make\n", nil),
		"base":     def("FROM node:14\nARG V=1\nRUN make\n", nil),
		"declared": def("FROM busybox\nARG V=1\nARG HTTP_PROXY\nRUN make\n", arg("HTTP_PROXY", "http://p:3128")),
	} {
		if other == want {
			t.Errorf("%s did not change the definition", name)
		}
	}
}

// TestImages compares the images found before planning with those that
// planning asks for.
func TestImages(t *testing.T) {
	text := "ARG B=busybox\nFROM $B AS a\nFROM nosuch AS never\nFROM scratch\nCOPY --from=a / /\nCOPY --from=node:14 /x /\nCOPY --from=0 /y /\n"
	file, err := dockerfile.Parse("Dockerfile", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	found, err := Images(file, testOptions())
	if err != nil {
		t.Fatal(err)
	}
	var asked []ImageRef
	_, err = New(context.Background(), file, testOptions(), func(ctx context.Context, ref ImageRef) (*Base, error) {
		asked = append(asked, ref)
		return resolve(ctx, ref)
	})
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(asked, found); d != "" || len(found) != 2 {
		t.Errorf("%d found: %s", len(found), d)
	}
}

// TestErrorsAreClassed checks that callers can tell kinds of errors apart.
func TestErrorsAreClassed(t *testing.T) {
	for text, class := range map[string]error{
		"FROM busybox\nRUN --mount=type=ssh x\n":   errdefs.ErrUnsupported,
		"FROM busybox\nADD https://h/x /\n":        errdefs.ErrUnsupported,
		"FROM nosuch\n":                            errdefs.ErrNotFound,
		"FROM busybox\nEXPOSE x\n":                 errdefs.ErrInvalid,
		"FROM busybox\nCOPY --from=busybox /$ /\n": nil,
	} {
		_, err := planText(text, testOptions())
		if class == nil && err == nil {
			continue
		}
		if class == nil || !errors.Is(err, class) {
			t.Errorf("%q: %v, want class %v", text, err, class)
		}
		var at *dockerfile.Error
		if !errors.As(err, &at) || !strings.HasPrefix(err.Error(), "Dockerfile:") {
			t.Errorf("%q: no line in %q", text, err)
		}
	}
}

func TestMode(t *testing.T) {
	for _, c := range []struct {
		mode string
		perm uint32
		dir  bool
		want uint32
	}{
		{"755", 0o600, false, 0o755},
		{"4755", 0, false, 0o4755},
		{"+x", 0o644, false, 0o755},
		{"u=rwX,go=rX", 0o600, false, 0o644},
		{"u=rwX,go=rX", 0o700, false, 0o755},
		{"u=rwX,go=rX", 0o600, true, 0o755},
		{"go-w", 0o666, false, 0o644},
		{"g=u", 0o640, false, 0o660},
		{"u+s", 0o755, false, 0o4755},
		{"a-x,o+t", 0o755, true, 0o1644},
		{"u+r-w", 0o200, false, 0o400},
	} {
		m, err := ParseMode(c.mode)
		if err != nil {
			t.Errorf("%s: %v", c.mode, err)
			continue
		}
		if got := m.Apply(c.perm, c.dir); got != c.want {
			t.Errorf("%s on %o (dir %v): %o, want %o", c.mode, c.perm, c.dir, got, c.want)
		}
	}
	for _, bad := range []string{"8", "77777", "u", "z+x", "u+q", "u=rw,"} {
		if _, err := ParseMode(bad); err == nil {
			t.Errorf("%q was accepted", bad)
		}
	}
}

func TestSignals(t *testing.T) {
	for s, want := range map[string]bool{
		"SIGTERM": true, "term": true, "9": true, "64": true, "SIGRTMIN": true, "RTMIN+3": true, "SIGRTMAX-2": true,
		"0": false, "65": false, "-1": false, "": false, "SIGNOPE": false, "RTMIN-1": false, "RTMAX+1": false, "RTMIN+99": false, "RTMINx": false,
	} {
		if isSignal(s) != want {
			t.Errorf("%q: %v", s, !want)
		}
	}
}
