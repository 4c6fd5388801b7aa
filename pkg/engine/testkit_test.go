package engine

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"testing"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sys/unix"

	"box/internal/testkit"
	"box/pkg/image"
	"box/pkg/image/store"
	"box/pkg/network"
	"box/pkg/ocirt"
)

// A fixture is an engine on directories of its own, with a busybox image.
type fixture struct {
	*Engine
	t     testing.TB
	image *image.Image
}

// programs builds box-monitor (and box-runtime) once for all tests.
var programs = sync.OnceValues(func() (string, error) {
	dir, remove, err := testkit.Scratch()
	if err != nil {
		return "", err
	}
	removePrograms = remove
	names := []string{"./cmd/box-monitor"}
	if os.Getenv("BOX_RUNTIME") == "" {
		names = append(names, "./cmd/box-runtime")
	}
	return dir, testkit.Compile(dir+"/", names...)
})

// removePrograms removes what programs has built, if it has.
var removePrograms = func() error { return nil }

func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "drive" {
		os.Exit(drive(os.Args[2:]))
	}
	if os.Geteuid() == 0 && os.Getenv(inOwnNetwork) == "" {
		if err := enterOwnNetwork(); err != nil {
			fmt.Fprintln(os.Stderr, "tests run in the host's network:", err)
		}
	}
	code := m.Run()
	if err := removePrograms(); err != nil {
		fmt.Fprintln(os.Stderr, "clear up:", err)
	}
	os.Exit(code)
}

const inOwnNetwork = "BOX_TEST_OWN_NETWORK"

// enterOwnNetwork starts this program again in a network namespace of its own,
// so that bridges and rules of the tests are not the host's. All threads of a
// program are in it only if it is executed there.
func enterOwnNetwork() error {
	runtime.LockOSThread()
	ns, err := network.NewNamespace()
	if err != nil {
		return err
	}
	if err := unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET); err != nil {
		return err
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	return unix.Exec(self, os.Args, append(os.Environ(), inOwnNetwork+"=1"))
}

// runtimeName is the runtime under test: BOX_RUNTIME=runc or crun runs the
// same tests on another one.
func runtimeName(t testing.TB, bin string) string {
	name := os.Getenv("BOX_RUNTIME")
	if name == "" {
		return filepath.Join(bin, "box-runtime")
	}
	path, err := ocirt.Find(name)
	if err != nil {
		t.Skipf("BOX_RUNTIME: %v", err)
	}
	return path
}

func requireRoot(t testing.TB) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: mounts, namespaces and control groups")
	}
	if _, err := os.Stat(busybox); err != nil {
		t.Skipf("needs Debian's busybox-static: %v", err)
	}
}

const busybox = "/bin/busybox"

// newFixture makes an engine, and checks after the test that it has left
// nothing behind.
func newFixture(t testing.TB) *fixture {
	t.Helper()
	requireRoot(t)
	bin, err := programs()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	c := Config{
		Root:    filepath.Join(dir, "root"),
		RunRoot: filepath.Join(dir, "run"),
		Runtime: runtimeName(t, bin),
		Monitor: filepath.Join(bin, "box-monitor"),
	}
	e, err := Open(c)
	if err != nil {
		t.Fatal(err)
	}
	f := &fixture{Engine: e, t: t}
	f.image = f.makeImage(nil)
	t.Cleanup(f.checkLeaks)
	return f
}

// makeImage makes an image of busybox with the given changes to its config.
func (f *fixture) makeImage(change func(*image.Config, string)) *image.Image {
	f.t.Helper()
	images, err := f.images()
	if err != nil {
		f.t.Fatal(err)
	}
	active, err := images.Overlay().Prepare("seed", "")
	if err != nil {
		f.t.Fatal(err)
	}
	root := active.Upper()
	f.fillRoot(root)
	conf := image.Config{Platform: ocispec.Platform{Architecture: runtime.GOARCH, OS: "linux"}}
	conf.Config.Env = []string{"PATH=/bin", "FROM_IMAGE=yes"}
	conf.Config.Cmd = []string{"sh"}
	if change != nil {
		change(&conf, root)
	}
	layer, err := images.CommitLayer(f.t.Context(), active)
	if err != nil {
		f.t.Fatal(err)
	}
	conf.RootFS = ocispec.RootFS{Type: "layers"}
	conf.RootFS.DiffIDs = append(conf.RootFS.DiffIDs, layer.DiffID)
	data, err := json.Marshal(conf)
	if err != nil {
		f.t.Fatal(err)
	}
	img, err := images.AddBuilt(f.t.Context(), store.Built{Config: data, Layers: []store.BuiltLayer{layer}, Names: []string{"docker.io/library/busybox:latest"}})
	if err != nil {
		f.t.Fatal(err)
	}
	return img
}

func (f *fixture) fillRoot(root string) {
	for _, dir := range []string{"bin", "etc", "tmp", "proc", "sys", "dev", "root", "home/ann"} {
		if err := os.MkdirAll(filepath.Join(root, dir), 0o755); err != nil {
			f.t.Fatal(err)
		}
	}
	data, err := os.ReadFile(busybox)
	if err != nil {
		f.t.Fatal(err)
	}
	files := map[string]string{
		"etc/passwd": "root:x:0:0:root:/root:/bin/sh\nann:x:1000:1000:Ann:/home/ann:/bin/sh\n",
		"etc/group":  "root:x:0:\nann:x:1000:\nstaff:x:50:ann\n",
	}
	for name, content := range files {
		if err := os.WriteFile(filepath.Join(root, name), []byte(content), 0o644); err != nil {
			f.t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(root, "bin/busybox"), data, 0o755); err != nil {
		f.t.Fatal(err)
	}
	for _, name := range []string{"sh", "true", "false", "cat", "echo", "sleep", "env", "id", "ls", "hostname", "kill", "stty", "wget", "nc", "httpd", "ip", "head", "dd", "yes", "seq", "pwd", "test", "mkdir", "touch", "stat", "grep", "tr", "wc", "ps", "usleep"} {
		if err := os.Symlink("busybox", filepath.Join(root, "bin", name)); err != nil {
			f.t.Fatal(err)
		}
	}
}

// sh is a container without network that runs a shell script.
func (f *fixture) sh(script string) CreateOptions {
	return CreateOptions{Image: f.image, Cmd: []string{"sh", "-c", script}, Network: NetworkNone}
}

// output collects what a container writes.
type output struct {
	file *os.File // to be handed over
	done chan struct{}
	buf  bytes.Buffer
}

func (f *fixture) output() *output {
	r, w, err := os.Pipe()
	if err != nil {
		f.t.Fatal(err)
	}
	o := &output{file: w, done: make(chan struct{})}
	go func() {
		defer close(o.done)
		_, _ = o.buf.ReadFrom(r)
		_ = r.Close()
	}()
	return o
}

// text waits for the end of the output: for that nobody may hold its file.
func (o *output) text() string {
	_ = o.file.Close()
	<-o.done
	return o.buf.String()
}

// run runs a container attached and returns its exit code and output.
func (f *fixture) run(o CreateOptions) (code int, stdout, stderr string) {
	f.t.Helper()
	out, errs := f.output(), f.output()
	o.AutoRemove = true
	_, s, err := f.Run(f.t.Context(), o, Stdio{Stdout: out.file, Stderr: errs.file})
	if err != nil {
		f.t.Fatalf("run %v: %v", o.Cmd, err)
	}
	code, err = s.Wait(f.t.Context())
	if err != nil {
		f.t.Fatalf("wait: %v", err)
	}
	return code, out.text(), errs.text()
}

// checkLeaks removes what the test has made and looks for anything left.
func (f *fixture) checkLeaks() {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	list, err := f.List(ctx, true)
	if err != nil {
		f.t.Error(err)
	}
	for _, r := range list {
		if err := f.Remove(ctx, r.ID, RemoveOptions{Force: true, Volumes: true}); err != nil {
			f.t.Errorf("remove %s: %v", r.Name, err)
		}
	}
	f.checkNothingLeft()
}

// checkNothingLeft looks at everything that a container can leave behind.
func (f *fixture) checkNothingLeft() {
	f.t.Helper()
	f.checkEmpty(filepath.Join(f.config.RunRoot, "containers"))
	f.checkEmpty(filepath.Join(f.config.RunRoot, "runtime"))
	f.checkEmpty(filepath.Join(f.config.Root, "snapshots", "active"))
	f.checkEmpty(filepath.Join(f.config.Root, "volumes"))
	f.checkEmpty(filepath.Join(f.config.Root, "containers", ".names"))
	if ids, err := f.records.IDs(); err != nil || len(ids) > 0 {
		f.t.Errorf("containers left: %v %v", ids, err)
	}
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil || bytes.Contains(mounts, []byte(f.config.Root)) || bytes.Contains(mounts, []byte(f.config.RunRoot)) {
		f.t.Errorf("mounts left (%v)", err)
	}
}

func (f *fixture) checkEmpty(dir string) {
	f.t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		f.t.Error(err)
	}
	for _, e := range entries {
		f.t.Errorf("left behind: %s", filepath.Join(dir, e.Name()))
	}
}

// checkCgroupGone looks for the container's groups in every hierarchy.
func (f *fixture) checkCgroupGone(id string) {
	f.t.Helper()
	for _, pattern := range []string{"/sys/fs/cgroup", "/sys/fs/cgroup/*"} {
		if left, _ := filepath.Glob(pattern + cgroupPath(id)); len(left) > 0 {
			f.t.Errorf("control groups left: %v", left)
		}
	}
}
