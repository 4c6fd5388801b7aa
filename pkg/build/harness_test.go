package build

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"sort"
	"strings"
	"sync"
	"testing"

	"box/internal/testkit"
	"box/pkg/build/solve"
	"box/pkg/image"
	"box/pkg/image/store"
	"box/pkg/ocirt"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sys/unix"
)

// world is a data root with a base image, and a context directory.
type world struct {
	t   *testing.T
	env Env
	dir string // the context

	mu     sync.Mutex
	events []Event
}

// newWorld makes a world; "busybox" is its only image.
func newWorld(t *testing.T) *world {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("snapshots and containers need root")
	}
	root, run := t.TempDir(), t.TempDir()
	st, err := store.Open(root)
	if err != nil {
		t.Fatal(err)
	}
	st.Roots = CacheRoots(root)
	w := &world{t: t, dir: t.TempDir(), env: Env{Root: root, RunRoot: run, Store: st}}
	w.env.Runtime = ocirt.Runtime{Path: runtimePath(t), Root: filepath.Join(run, "runtime")}
	w.addBase("busybox", busyboxFiles(t))
	t.Cleanup(func() { w.nothingLeft() })
	return w
}

// runtimePath finds the runtime for RUN steps: $BOX_RUNTIME, else box-runtime
// built from this checkout.
func runtimePath(t *testing.T) string {
	t.Helper()
	name := os.Getenv("BOX_RUNTIME")
	if name == "" {
		return ownRuntime(t)
	}
	p, err := ocirt.Find(name)
	if err != nil {
		t.Skipf("BOX_RUNTIME: %v", err)
	}
	var fs unix.Statfs_t
	if err := unix.Statfs("/sys/fs/cgroup", &fs); strings.Contains(p, "crun") && (err != nil || fs.Type != unix.CGROUP2_SUPER_MAGIC) {
		t.Skip("crun runs nothing where cgroup v1 and v2 are mixed")
	}
	return p
}

var (
	runtimeOnce   sync.Once
	runtimeDir    string
	runtimeErr    error
	removeRuntime = func() error { return nil } // what ownRuntime has built
)

func ownRuntime(t *testing.T) string {
	t.Helper()
	runtimeOnce.Do(func() {
		var remove func() error
		if runtimeDir, remove, runtimeErr = testkit.Scratch(); runtimeErr != nil {
			return
		}
		removeRuntime = remove
		runtimeErr = testkit.Compile(runtimeDir+"/", "./cmd/box-runtime")
	})
	if runtimeErr != nil {
		t.Fatal(runtimeErr)
	}
	return filepath.Join(runtimeDir, "box-runtime")
}

func TestMain(m *testing.M) {
	code := m.Run()
	if err := removeRuntime(); err != nil {
		fmt.Fprintln(os.Stderr, "clear up:", err)
	}
	os.Exit(code)
}

// file is one file of a base image.
type file struct {
	name, data, link string
	hard             string // the file it is another name of
	mode             int64
	uid              int
}

// busyboxFiles gives a root file system with the host's static busybox.
func busyboxFiles(t *testing.T) []file {
	t.Helper()
	path, err := exec.LookPath("busybox")
	if err != nil {
		t.Skip("busybox is not installed (Debian: busybox-static)")
	}
	bin, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	files := []file{
		{name: "bin/", mode: 0o755},
		{name: "bin/busybox", data: string(bin), mode: 0o755},
		{name: "etc/", mode: 0o755},
		{name: "etc/passwd", data: "root:x:0:0:root:/root:/bin/sh\napp:x:1000:1001::/home/app:/bin/sh\n", mode: 0o644},
		{name: "etc/group", data: "root:x:0:\nstaff:x:1001:\nextra:x:1002:app\n", mode: 0o644},
		{name: "tmp/", mode: 0o1777},
		{name: "home/app/", mode: 0o755, uid: 1000},
		{name: "lnk", link: "home"},
		{name: "abs", link: "/home/app"},
	}
	for _, applet := range strings.Fields("sh cat echo ls stat id env mkdir rm ln chmod chown touch sleep true false test readlink find wc head dd sync pwd mv cp kill ps hostname ip wget nslookup grep date sed sort md5sum setpriv cut tr") {
		files = append(files, file{name: "bin/" + applet, link: "busybox"})
	}
	return files
}

func tarOf(t *testing.T, files []file) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, f := range files {
		h := &tar.Header{Name: f.name, Mode: f.mode, Size: int64(len(f.data)), Uid: f.uid, Gid: f.uid, Typeflag: tar.TypeReg, Linkname: f.link}
		switch {
		case f.link != "":
			h.Typeflag = tar.TypeSymlink
		case f.hard != "":
			h.Typeflag, h.Linkname = tar.TypeLink, f.hard
		case strings.HasSuffix(f.name, "/"):
			h.Typeflag = tar.TypeDir
		}
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, f.data); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// addBase puts an image of one layer into the store.
func (w *world) addBase(name string, files []file) *image.Image {
	w.t.Helper()
	layer := tarOf(w.t, files)
	desc, err := w.env.Store.Ingest(w.t.Context(), bytes.NewReader(layer), "", -1)
	if err != nil {
		w.t.Fatal(err)
	}
	desc.MediaType = v1.MediaTypeImageLayer
	config := image.Config{Platform: image.Host(), RootFS: v1.RootFS{Type: "layers", DiffIDs: []digest.Digest{desc.Digest}}}
	config.Config.Env = []string{"PATH=/bin"}
	config.Config.Cmd = []string{"sh"}
	config.History = []v1.History{{CreatedBy: "made by the test"}}
	text, err := json.Marshal(config)
	if err != nil {
		w.t.Fatal(err)
	}
	img, err := w.env.Store.AddBuilt(w.t.Context(), store.Built{
		Config: text, Names: []string{name},
		Layers: []store.BuiltLayer{{Descriptor: desc, DiffID: desc.Digest, ChainID: desc.Digest}},
	})
	if err != nil {
		w.t.Fatal(err)
	}
	return img
}

// put writes a file of the context.
func (w *world) put(name, data string) {
	w.t.Helper()
	p := filepath.Join(w.dir, name)
	if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
		w.t.Fatal(err)
	}
	if err := os.WriteFile(p, []byte(data), 0o644); err != nil {
		w.t.Fatal(err)
	}
}

// try builds a Dockerfile without network.
func (w *world) try(ctx context.Context, text string, change func(*Request)) (*Result, error) {
	w.t.Helper()
	w.mu.Lock()
	w.events = nil
	w.mu.Unlock()
	req := Request{Context: w.dir, Text: []byte(text), Network: "none", Progress: func(e Event) {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.events = append(w.events, e)
	}}
	if change != nil {
		change(&req)
	}
	return Build(ctx, req, w.env)
}

// build builds a Dockerfile that must succeed.
func (w *world) build(text string) *Result {
	w.t.Helper()
	r, err := w.try(w.t.Context(), text, nil)
	if err != nil {
		w.t.Fatalf("build: %v\n%s", err, w.output())
	}
	return r
}

// output is all that the commands of the last build wrote.
func (w *world) output() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	var b strings.Builder
	for _, e := range w.events {
		if e.Kind == solve.Output {
			b.WriteString(e.Text)
		}
	}
	return b.String()
}

// misses gives the reasons with which steps of the last build began.
func (w *world) misses() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	var out []string
	for _, e := range w.events {
		if e.Kind == solve.Started {
			out = append(out, e.Text)
		}
	}
	return out
}

// layer lists the top layer of an image: one line for each entry of its tar.
func (w *world) layer(img *image.Image) []string {
	w.t.Helper()
	return w.layerAt(img, len(img.Layers)-1)
}

func (w *world) layerAt(img *image.Image, i int) []string {
	w.t.Helper()
	f, err := w.env.Store.Blob(img.Layers[i].Digest)
	if err != nil {
		w.t.Fatal(err)
	}
	defer f.Close()
	var out []string
	for r := tar.NewReader(f); ; {
		h, err := r.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			w.t.Fatal(err)
		}
		out = append(out, describe(h))
	}
	sort.Strings(out)
	return out
}

func describe(h *tar.Header) string {
	s := fmt.Sprintf("%s %04o %d:%d", h.Name, h.Mode&0o7777, h.Uid, h.Gid)
	if h.Linkname != "" {
		s += " -> " + h.Linkname
	}
	return s
}

// nothingLeft checks that the builds of the test have cleaned up: no snapshot
// in work, no run directory, no container, no mount.
func (w *world) nothingLeft() {
	actives, err := w.env.Store.Overlay().Actives()
	if err != nil || len(actives) > 0 {
		w.t.Errorf("snapshots are left: %v %v", actives, err)
	}
	for _, dir := range []string{filepath.Join(w.env.RunRoot, "containers"), w.env.Runtime.Root} {
		entries, err := os.ReadDir(dir)
		if err != nil && !os.IsNotExist(err) {
			w.t.Error(err)
		}
		for _, e := range entries {
			if e.IsDir() && !strings.HasPrefix(e.Name(), ".") {
				w.t.Errorf("%s is left in %s", e.Name(), dir)
			}
		}
	}
	for _, pattern := range []string{"/sys/fs/cgroup/box-", "/sys/fs/cgroup/*/box-"} {
		groups, err := filepath.Glob(pattern + solve.IDPrefix(w.env.RunRoot) + "*")
		if err != nil || len(groups) > 0 {
			w.t.Errorf("control groups are left: %v %v", groups, err)
		}
	}
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil || strings.Contains(string(mounts), w.env.Root) || strings.Contains(string(mounts), w.env.RunRoot) {
		w.t.Errorf("a mount is left: %v", err)
	}
}
