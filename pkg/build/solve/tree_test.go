package solve

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"box/internal/errdefs"
	"box/pkg/build/cache"
	"box/pkg/build/plan"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"
)

// makeTree makes files in a new directory: "name" a file that holds its name,
// "name/" a directory, "name -> target" a link.
func makeTree(t *testing.T, names ...string) (dir string, tr *tree) {
	t.Helper()
	dir = t.TempDir()
	for _, n := range names {
		name, target, isLink := strings.Cut(n, " -> ")
		p := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
			t.Fatal(err)
		}
		var err error
		switch {
		case isLink:
			err = os.Symlink(target, p)
		case strings.HasSuffix(n, "/"):
			err = os.MkdirAll(p, 0o755)
		default:
			err = os.WriteFile(p, []byte(name), 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return dir, openTree(t, dir)
}

func openTree(t *testing.T, dir string) *tree {
	t.Helper()
	f, err := os.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return newTree("the build context", f)
}

func ignoring(t *testing.T, tr *tree, patterns ...string) *tree {
	t.Helper()
	var err error
	if tr.ignore, err = newIgnorer(patterns); err != nil {
		t.Fatal(err)
	}
	return tr
}

// picked lists what sources select: "source: items".
func picked(t *testing.T, tr *tree, c *plan.Copy) []string {
	t.Helper()
	picks, err := tr.selectFiles(t.Context(), c)
	if err != nil {
		return []string{"error: " + err.Error()}
	}
	var out []string
	for _, p := range picks {
		line := p.base + ":"
		for _, it := range p.items {
			line += " " + it.rel
			if it.rel == "" {
				line += "."
			}
		}
		out = append(out, line)
	}
	return out
}

func TestSelect(t *testing.T) {
	_, tr := makeTree(t, "a.go", "b.go", "c.md", "d/x", "d/e/y", "d/.h", "empty/", "l -> d", "out -> ../../etc", "abs -> /d/x", "up/down -> ../d", "loop -> loop", "broken -> nothing")
	for src, want := range map[string][]string{
		"a.go":     {"a.go: ."},
		"*.go":     {"a.go: .", "b.go: ."},
		"[ab].go":  {"a.go: .", "b.go: ."},
		"?.md":     {"c.md: ."},
		"z*":       nil,
		"d":        {"d: . .h e e/y x"},
		"d/*":      {".h: .", "e: . y", "x: ."},
		"*/x":      {"x: .", "x: ."},
		"empty":    {"empty: ."},
		"l":        {"l: . .h e e/y x"},
		"l/e":      {"e: . y"},
		"abs":      {"abs: ."},
		"up/down":  {"down: . .h e e/y x"},
		"out":      {"error: out: not found in the build context"},
		"broken":   {"error: broken: not found in the build context"},
		"missing":  {"error: missing: not found in the build context"},
		"a.go/x":   {"error: a.go/x: not found in the build context"},
		"loop":     {"error: loop: resolve /loop: too many levels of symbolic links"},
		"a[":       {"error: a[: the pattern is malformed"},
		"nodir/*x": nil,
	} {
		if d := cmp.Diff(want, picked(t, tr, &plan.Copy{Sources: []string{src}})); d != "" {
			t.Errorf("%s: %s", src, d)
		}
	}
}

func TestIgnore(t *testing.T) {
	dir, _ := makeTree(t, "a", "b.log", "d/a", "d/keep", "d/sub/keep", "d/sub/x", "n/m/deep", ".git/c", "x y")
	for _, c := range []struct {
		patterns string
		want     string
	}{
		{"", ". .git .git/c a b.log d d/a d/keep d/sub d/sub/keep d/sub/x n n/m n/m/deep x y"},
		{"*", "."},
		{"*.log\nd\nn\n.git\nx y", ". a"},
		{"**/keep", ". .git .git/c a b.log d d/a d/sub d/sub/x n n/m n/m/deep x y"},
		{"*\n!d/keep", ". d d/keep"},
		{"*\n!d/sub", ". d d/sub d/sub/keep d/sub/x"},
		{"*\n!**/keep", ". d d/keep d/sub d/sub/keep"},
		{"d\n!d\nd/sub", ". .git .git/c a b.log d d/a d/keep n n/m n/m/deep x y"},
		{"/d/\n./n", ". .git .git/c a b.log d d/a d/keep d/sub d/sub/keep d/sub/x n n/m n/m/deep x y"},
	} {
		tr := openTree(t, dir)
		if c.patterns != "" {
			ignoring(t, tr, strings.Split(c.patterns, "\n")...)
		}
		got := picked(t, tr, &plan.Copy{Sources: []string{""}})
		if d := cmp.Diff([]string{".: " + c.want}, got); d != "" && !strings.HasPrefix(c.patterns, "/d/") {
			t.Errorf("%q: %s", c.patterns, d)
		}
	}
	// What is ignored does not exist, whatever the way to it.
	tr := ignoring(t, openTree(t, dir), "d", "!d/sub/keep")
	for src, want := range map[string]string{
		"d/keep":     "error: d/keep: not found in the build context: it is excluded by .dockerignore",
		"d/sub/x":    "error: d/sub/x: not found in the build context: it is excluded by .dockerignore",
		"d/sub/keep": "keep: .",
		"d/sub":      "sub: . keep",
	} {
		if got := picked(t, tr, &plan.Copy{Sources: []string{src}}); len(got) != 1 || got[0] != want {
			t.Errorf("%s: %q, want %q", src, got, want)
		}
	}
}

var t0 = time.Unix(1600000000, 0)

func contentOf(t *testing.T, tr *tree, sources ...string) digest.Digest {
	t.Helper()
	picks, err := tr.selectFiles(t.Context(), &plan.Copy{Sources: sources})
	if err != nil {
		t.Fatal(err)
	}
	if err := tr.sumFiles(t.Context(), picks); err != nil {
		t.Fatal(err)
	}
	return tr.contentDigest(picks)
}

// TestContentDigest checks what makes a difference and what does not.
func TestContentDigest(t *testing.T) {
	names := []string{"d/a", "d/b", "d/l -> a"}
	dir, tr := makeTree(t, names...)
	want := contentOf(t, tr, "d")
	same := func(name string, tr *tree, src string) {
		if got := contentOf(t, tr, src); got != want {
			t.Errorf("%s makes a difference", name)
		}
	}
	if err := os.Chtimes(filepath.Join(dir, "d/a"), t0, t0); err != nil {
		t.Fatal(err)
	}
	same("time", openTree(t, dir), "d")
	if err := os.Rename(filepath.Join(dir, "d"), filepath.Join(dir, "e")); err != nil {
		t.Fatal(err)
	}
	same("the directory's own name", openTree(t, dir), "e")
	for name, change := range map[string]func(string) error{
		"data":      func(d string) error { return os.WriteFile(filepath.Join(d, "d/a"), []byte("d/A"), 0o644) },
		"mode":      func(d string) error { return os.Chmod(filepath.Join(d, "d/a"), 0o600) },
		"dir mode":  func(d string) error { return os.Chmod(filepath.Join(d, "d"), 0o700) },
		"name":      func(d string) error { return os.Rename(filepath.Join(d, "d/a"), filepath.Join(d, "d/c")) },
		"more":      func(d string) error { return os.WriteFile(filepath.Join(d, "d/c"), nil, 0o644) },
		"less":      func(d string) error { return os.Remove(filepath.Join(d, "d/b")) },
		"target":    func(d string) error { return relink(filepath.Join(d, "d/l"), "b") },
		"link":      func(d string) error { return relinkHard(filepath.Join(d, "d/b"), filepath.Join(d, "d/a")) },
		"attribute": func(d string) error { return unix.Setxattr(filepath.Join(d, "d/a"), "user.x", []byte("1"), 0) },
	} {
		other, _ := makeTree(t, names...)
		if err := change(other); err != nil {
			if errors.Is(err, unix.ENOTSUP) {
				continue
			}
			t.Fatal(err)
		}
		if contentOf(t, openTree(t, other), "d") == want {
			t.Errorf("%s makes no difference", name)
		}
	}
}

func relink(p, target string) error {
	return errors.Join(os.Remove(p), os.Symlink(target, p))
}

func relinkHard(p, old string) error {
	return errors.Join(os.WriteFile(old, []byte("d/b"), 0o644), os.Remove(p), os.Link(old, p))
}

// TestMemoSavesReading checks that a file known by its stat data is not read.
func TestMemoSavesReading(t *testing.T) {
	dir, tr := makeTree(t, "a")
	c, err := cache.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	key := digest.FromString("ctx")
	tr.memo = c.Memo(key)
	n, err := tr.lstat("a")
	if err != nil {
		t.Fatal(err)
	}
	planted := cache.Sum{42}
	tr.memo.Add("a", memoStat(&n.st), planted, t0.AddDate(200, 0, 0))
	if err := tr.memo.Save(); err != nil {
		t.Fatal(err)
	}
	again := openTree(t, dir)
	again.memo = c.Memo(key)
	picks, err := again.selectFiles(t.Context(), &plan.Copy{Sources: []string{"a"}})
	if err != nil {
		t.Fatal(err)
	}
	if err := again.sumFiles(t.Context(), picks); err != nil {
		t.Fatal(err)
	}
	if picks[0].items[0].sum != planted {
		t.Error("the file was read again")
	}
}

// TestRacedContext reads a context while a directory in it changes places with
// a link that leads out, over and over: nothing from outside may be read.
func TestRacedContext(t *testing.T) {
	dir, _ := makeTree(t, "d/f", "d/g/f", "l -> nowhere")
	outside, _ := makeTree(t, "f", "g/f")
	if err := relink(filepath.Join(dir, "l"), outside); err != nil {
		t.Fatal(err)
	}
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		for {
			select {
			case <-stop:
				return
			default:
				_ = unix.Renameat2(unix.AT_FDCWD, filepath.Join(dir, "d"), unix.AT_FDCWD, filepath.Join(dir, "l"), unix.RENAME_EXCHANGE)
			}
		}
	}()
	defer func() { close(stop); <-stopped }()
	for range 2000 {
		tr := openTree(t, dir)
		tr.root.Close()
		root, err := os.Open(dir)
		if err != nil {
			t.Fatal(err)
		}
		tr.root = root
		readAll(t, tr)
		root.Close()
	}
}

// readAll reads what a copy of everything would read; files hold their own
// path, so the one from outside would say so.
func readAll(t *testing.T, tr *tree) {
	t.Helper()
	for _, src := range []string{"d", "d/g/f", "*"} {
		picks, err := tr.selectFiles(t.Context(), &plan.Copy{Sources: []string{src}})
		if err != nil {
			continue
		}
		for _, p := range picks {
			for i := range p.items {
				n := &p.items[i].node
				if !n.isRegular() {
					continue
				}
				f, err := tr.open(n)
				if err != nil {
					continue
				}
				text, _ := io.ReadAll(f)
				f.Close()
				if !strings.HasPrefix(string(text), "d/") {
					t.Fatalf("%s: read %q", n.path, text)
				}
			}
		}
	}
}

func TestOutputTail(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	var got strings.Builder
	o := newOutput(r, func(s string) { got.WriteString(s) })
	var want strings.Builder
	for i := range 5000 {
		fmt.Fprintf(&want, "line %d\n", i)
	}
	want.WriteString(strings.Repeat("x", 70000) + "\nno newline at the end")
	if _, err := io.WriteString(w, want.String()); err != nil {
		t.Fatal(err)
	}
	w.Close()
	tail := o.lastLines()
	if got.String() != want.String() {
		t.Errorf("%d bytes passed on of %d", got.Len(), want.Len())
	}
	if len(tail) != 2 || tail[1] != "no newline at the end" {
		t.Errorf("tail of %d lines", len(tail))
	}
	r.Close()
}

// TestOutputIsWholeLines checks that lines of two streams cannot be mixed
// inside a line, however the bytes arrive.
func TestOutputIsWholeLines(t *testing.T) {
	r, w := io.Pipe()
	var chunks []string
	o := newOutput(r, func(s string) { chunks = append(chunks, s) })
	for _, s := range []string{"a", "b\nc", "\nd\ne", "nd"} {
		if _, err := io.WriteString(w, s); err != nil {
			t.Fatal(err)
		}
	}
	w.Close()
	<-o.done
	if d := cmp.Diff([]string{"ab\n", "c\nd\n", "end"}, chunks); d != "" {
		t.Error(d)
	}
}

func TestIsStepID(t *testing.T) {
	id, err := newID("/run/x")
	if err != nil || !isStepID(id) {
		t.Errorf("%s: %v", id, err)
	}
	for _, other := range []string{"build-", "build-0123456789abcdeg", "build-0123456789abcdef0", "x", strings.Repeat("a", 64)} {
		if isStepID(other) {
			t.Errorf("%s would be swept", other)
		}
	}
}

func TestRunErrorText(t *testing.T) {
	e := &RunError{Args: []string{"sh", "-c", "x"}, ExitCode: 2, Tail: []string{"a", "b"}}
	want := "process \"sh -c x\" did not complete successfully: exit code: 2; its last lines:\n    a\n    b"
	if e.Error() != want {
		t.Errorf("%s", e)
	}
	var class error = errdefs.ErrInvalid
	if errors.Is(e, class) {
		t.Error("a failing command is no invalid input")
	}
}
