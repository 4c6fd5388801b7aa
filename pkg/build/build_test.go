package build

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"box/internal/errdefs"
	"box/pkg/build/dockerfile"
	"box/pkg/build/solve"

	"github.com/google/go-cmp/cmp"
)

// TestRunCopyAndCache walks through the life of a Dockerfile: built, built
// again, changed.
func TestRunCopyAndCache(t *testing.T) {
	w := newWorld(t)
	w.put("package.json", "{}")
	w.put("app.js", "1")
	text := "FROM busybox\nWORKDIR /app\nCOPY package*.json ./\nRUN echo installed $(cat package.json) > installed\nCOPY . .\nCMD [\"sh\"]\n"
	first := w.build(text)
	if first.Ran != 4 || first.Cached != 0 {
		t.Errorf("ran %d, cached %d", first.Ran, first.Cached)
	}
	again := w.build(text)
	if again.Ran != 0 || again.Cached != 4 {
		t.Errorf("second build: ran %d, cached %d", again.Ran, again.Cached)
	}
	if again.Image.ID != first.Image.ID || again.Image.Manifest.Digest != first.Image.Manifest.Digest {
		t.Error("an unchanged build gave another image")
	}
	w.put("app.js", "2")
	third := w.build(text)
	if third.Ran != 1 || third.Cached != 3 {
		t.Errorf("after a change of app.js: ran %d, cached %d", third.Ran, third.Cached)
	}
	if d := cmp.Diff([]string{"file app.js changed"}, w.misses()); d != "" {
		t.Error(d)
	}
	if d := cmp.Diff([]string{"app/ 0755 0:0", "app/app.js 0644 0:0", "app/package.json 0644 0:0"}, w.layer(third.Image)); d != "" {
		t.Error(d)
	}
	// A touched file is the same file.
	if err := os.Chtimes(filepath.Join(w.dir, "app.js"), third.Image.Created(), third.Image.Created()); err != nil {
		t.Fatal(err)
	}
	if r := w.build(text); r.Ran != 0 || r.Image.ID != third.Image.ID {
		t.Errorf("after touch: ran %d", r.Ran)
	}
}

// TestRunEnvironment checks what a command sees.
func TestRunEnvironment(t *testing.T) {
	w := newWorld(t)
	t.Setenv("HOST_SECRET", "x")
	w.build("FROM busybox\nARG A=1\nENV E=2\nUSER app\nWORKDIR /w\nRUN id && pwd && env | sort && hostname && stat -c '%U %a' /w\n")
	want := "uid=1000(app) gid=1001(staff) groups=1001(staff),1002(extra)\n/w\n" +
		"A=1\nE=2\nHOME=/home/app\nPATH=/bin\nPWD=/w\nSHLVL=1\nbox-build\napp 755\n"
	if d := cmp.Diff(want, w.output()); d != "" {
		t.Error(d)
	}
}

// TestLayerHoldsOnlyChanges checks that nothing of the container's own gets
// into a layer: neither mount points nor the files mounted on them.
func TestLayerHoldsOnlyChanges(t *testing.T) {
	w := newWorld(t)
	r := w.build("FROM busybox\nRUN cat /etc/resolv.conf /etc/hosts > /dev/null && ls /proc/self /sys /dev/shm > /dev/null && echo x > /made && rm /lnk\n")
	if d := cmp.Diff([]string{".wh.lnk 0000 0:0", "made 0644 0:0"}, w.layer(r.Image)); d != "" {
		t.Error(d)
	}
	r = w.build("FROM busybox\nRUN true\n")
	if got := w.layer(r.Image); len(got) != 0 {
		t.Errorf("a command that does nothing made %q", got)
	}
}

// TestFailingRun checks error, exit code and last lines, and that what was
// built before the failure stays cached.
func TestFailingRun(t *testing.T) {
	w := newWorld(t)
	text := "FROM busybox\nRUN echo one > /one\nRUN echo first; echo last; exit 7\nRUN echo never\n"
	_, err := w.try(t.Context(), text, nil)
	var run *RunError
	if !errors.As(err, &run) || run.ExitCode != 7 {
		t.Fatalf("error: %v", err)
	}
	want := "Dockerfile:3: process \"/bin/sh -c echo first; echo last; exit 7\" did not complete successfully: exit code: 7; its last lines:\n" +
		"    first\n    last\n  1 | FROM busybox\n  2 | RUN echo one > /one\n> 3 | RUN echo first; echo last; exit 7\n  4 | RUN echo never"
	if d := cmp.Diff(want, err.Error()); d != "" {
		t.Error(d)
	}
	w.nothingLeft()
	if r := w.build(strings.Replace(text, "exit 7", "exit 0", 1)); r.Cached != 1 || r.Ran != 2 {
		t.Errorf("after the repair: ran %d, cached %d", r.Ran, r.Cached)
	}
	for script, code := range map[string]int{`["/nosuch"]`: 127, `["/etc/passwd"]`: 126} {
		_, err := w.try(t.Context(), "FROM busybox\nRUN "+script+"\n", nil)
		if !errors.As(err, &run) || run.ExitCode != code {
			t.Errorf("%s: %v, want exit code %d", script, err, code)
		}
	}
}

// TestResultThatCannotBeKept: a step has not succeeded when its result could not be written
// down, and the next build knows nothing of it.
func TestResultThatCannotBeKept(t *testing.T) {
	w := newWorld(t)
	results := filepath.Join(w.env.Root, "build", "results")
	text := "FROM busybox\nRUN echo > /one\n"
	_, err := w.try(t.Context(), text, func(r *Request) {
		next := r.Progress
		r.Progress = func(e Event) {
			if e.Kind == solve.Started {
				if err := os.Rename(results, results+".away"); err != nil {
					t.Error(err)
				}
			}
			next(e)
		}
	})
	if !errors.Is(err, os.ErrNotExist) {
		t.Errorf("build: %v", err)
	}
	if last := w.events[len(w.events)-1]; last.Kind != solve.Failed {
		t.Errorf("the last event is %+v, want a failure", last)
	}
	if err := os.Rename(results+".away", results); err != nil {
		t.Fatal(err)
	}
	w.build(text)
	if d := cmp.Diff([]string{""}, w.misses()); d != "" {
		t.Error(d)
	}
}

// TestBadInput checks the errors that a user can cause, and that each names
// what is wrong and where.
func TestBadInput(t *testing.T) {
	w := newWorld(t)
	w.put("ignored", "x")
	w.put(".dockerignore", "ignored\n")
	for _, c := range []struct {
		text, want string
		class      error
	}{
		{"FROM nosuch\n", "Dockerfile:1: image nosuch:latest for linux/", errdefs.ErrNotFound},
		{"FROM busybox\nCOPY missing /\n", "Dockerfile:2: missing: not found in the build context", errdefs.ErrNotFound},
		{"FROM busybox\nCOPY ignored /\n", "Dockerfile:2: ignored: not found in the build context: it is excluded by .dockerignore", errdefs.ErrNotFound},
		{"FROM busybox AS b\nFROM busybox\nCOPY --from=b /missing /\n", `Dockerfile:3: missing: not found in "b"`, errdefs.ErrNotFound},
		{"FROM busybox\nCOPY --chown=nobody2 .dockerignore /\n", "Dockerfile:2: --chown=nobody2: ", nil},
		{"FROM busybox\nUSER nosuch\nRUN true\n", "Dockerfile:3: ", nil},
		{"FROM busybox\nCOPY .dockerignore /etc\nCOPY . /etc/passwd\n", "Dockerfile:3: /etc/passwd is there and is no directory", errdefs.ErrInvalid},
		{"FROM busybox\nRUN --network=host true\n", "Dockerfile:2: RUN --network=host is not permitted", errdefs.ErrInvalid},
	} {
		_, err := w.try(t.Context(), c.text, nil)
		if err == nil || !strings.HasPrefix(err.Error(), c.want) || c.class != nil && !errors.Is(err, c.class) {
			t.Errorf("%q:\n got %v\nwant %s", c.text, err, c.want)
		}
	}
	images, err := w.env.Store.List(t.Context())
	if err != nil || len(images) != 1 {
		t.Errorf("%d images after failed builds: %v", len(images), err)
	}
}

// TestDockerfileLookup checks which file is read, and that it is a regular one
// inside the context.
func TestDockerfileLookup(t *testing.T) {
	w := newWorld(t)
	noText := func(r *Request) { r.Text = nil }
	if _, err := w.try(t.Context(), "", noText); !errors.Is(err, errdefs.ErrNotFound) || errdefs.Hint(err) == "" {
		t.Errorf("no Dockerfile: %v", err)
	}
	w.put("dockerfile", "FROM nosuch\n")
	var at *dockerfile.Error
	if _, err := w.try(t.Context(), "", noText); !errors.As(err, &at) || at.File != "dockerfile" {
		t.Errorf("dockerfile: %v", err)
	}
	w.put("Dockerfile", "FROM busybox\nCOPY a /\n")
	w.put("Dockerfile.dockerignore", "a\n")
	w.put("a", "")
	if _, err := w.try(t.Context(), "", noText); err == nil || !strings.Contains(err.Error(), "excluded") {
		t.Errorf("Dockerfile.dockerignore: %v", err)
	}
	// A link out of the context must not be followed (CVE-2022-4122).
	outside := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(outside, []byte("SECRET\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"Dockerfile", ".dockerignore"} {
		p := filepath.Join(w.dir, name)
		_ = os.Remove(p)
		if err := os.Symlink(outside, p); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Remove(filepath.Join(w.dir, "dockerfile")); err != nil {
		t.Fatal(err)
	}
	if _, err := w.try(t.Context(), "", noText); err == nil || strings.Contains(err.Error(), "SECRET") {
		t.Errorf("a link out of the context: %v", err)
	}
	_, err := w.try(t.Context(), "", func(r *Request) { r.Text, r.Dockerfile = nil, "/dev/zero" })
	if err == nil || !strings.Contains(err.Error(), "not a regular file") {
		t.Errorf("a device: %v", err)
	}
}
