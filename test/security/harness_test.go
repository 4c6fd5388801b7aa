package security

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"box/internal/testkit"
	"box/pkg/cgroups"
	"box/pkg/spec/gen"
)

// programs are what the tests run: the runtime, and what runs in the containers.
var programs struct {
	dir     string
	remove  func() error // dir; nil if nothing was built
	runtime string
	probe   string
	probe32 string // the same for a 32-bit kernel interface; empty where Go cannot build it
	err     error
}

func TestMain(m *testing.M) {
	if os.Geteuid() == 0 {
		programs.err = buildPrograms()
	}
	code := m.Run()
	if programs.remove != nil {
		if err := programs.remove(); err != nil {
			fmt.Fprintln(os.Stderr, "clear up:", err)
		}
	}
	os.Exit(code)
}

func buildPrograms() (err error) {
	if programs.dir, programs.remove, err = testkit.Scratch(); err != nil {
		return err
	}
	programs.runtime = filepath.Join(programs.dir, "box-runtime")
	if err := testkit.Compile(programs.runtime, "./cmd/box-runtime"); err != nil {
		return err
	}
	for _, p := range []struct {
		file *string
		arch string
	}{
		{&programs.probe, runtime.GOARCH},
		{&programs.probe32, "386"},
	} {
		*p.file = filepath.Join(programs.dir, "probe-"+p.arch)
		cmd := exec.Command("go", "build", "-trimpath", "-ldflags=-s -w", "-o", *p.file, "box/test/security/probe")
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOARCH="+p.arch)
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("build probe for %s: %w\n%s", p.arch, err, out)
		}
	}
	return nil
}

// box is a state root with one bundle, whose root file system has the probe at
// /bin/probe and nothing else but the usual directories.
type box struct {
	t      *testing.T
	dir    string // of the test: state, bundle and what must not be touched lie here
	bundle string
	root   string // of the container
	state  string
	id     string
	spec   *specs.Spec
}

// newBox makes a bundle in which the probe is called with the given words.
func newBox(t *testing.T, words ...string) *box {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: starts containers")
	}
	if err := errors.Join(programs.err, testkit.LookAtSources("test/security/probe")); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	name := strings.NewReplacer("/", "-", " ", "-", "'", "", ",", "").Replace(t.Name())
	b := &box{
		t: t, dir: dir, bundle: dir + "/bundle", root: dir + "/bundle/rootfs", state: dir + "/state",
		id: fmt.Sprintf("security-%d-%s", os.Getpid(), name), spec: gen.Runtime(),
	}
	b.fill(b.root)
	b.spec.Root.Readonly = false
	b.spec.Process.Terminal = false
	b.spec.Process.Env = []string{"PATH=/bin"}
	b.call(words...)
	t.Cleanup(b.nothingLeft)
	return b
}

// call sets the probe's words.
func (b *box) call(words ...string) { b.spec.Process.Args = append([]string{"/bin/probe"}, words...) }

// allow adds capabilities to the sets that root's commands end up with.
func (b *box) allow(names ...string) {
	c := b.spec.Process.Capabilities
	for _, set := range []*[]string{&c.Bounding, &c.Effective, &c.Permitted} {
		*set = append(*set, names...)
	}
}

// fill makes a root file system.
func (b *box) fill(root string) {
	b.t.Helper()
	for _, d := range []string{"bin", "dev", "etc", "proc", "run", "sys", "tmp", "var"} {
		if err := os.MkdirAll(filepath.Join(root, d), 0o755); err != nil {
			b.t.Fatal(err)
		}
	}
	if os.Link(programs.probe, root+"/bin/probe") != nil { // nobody writes to it
		copyFile(b.t, programs.probe, root+"/bin/probe")
	}
}

func copyFile(t *testing.T, from, to string) {
	t.Helper()
	data, err := os.ReadFile(from)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(to, data, 0o755); err != nil {
		t.Fatal(err)
	}
}

// save writes the configuration into the bundle, saveIn into another.
func (b *box) save() { b.t.Helper(); b.saveIn(b.bundle) }

func (b *box) saveIn(bundle string) {
	b.t.Helper()
	data, err := json.Marshal(b.spec)
	if err != nil {
		b.t.Fatal(err)
	}
	if err := os.WriteFile(bundle+"/config.json", data, 0o600); err != nil {
		b.t.Fatal(err)
	}
}

// command is a call of box-runtime.
func (b *box) command(args ...string) *exec.Cmd {
	cmd := exec.Command(programs.runtime, append([]string{"--root", b.state}, args...)...)
	cmd.Dir = b.bundle
	return cmd
}

// result is what a call gave.
type result struct {
	out, err string
	code     int
}

func finish(t *testing.T, cmd *exec.Cmd) result {
	t.Helper()
	out, errs, code := testkit.Finish(t, cmd)
	return result{out, errs, code}
}

// try calls box-runtime; do expects it to succeed.
func (b *box) try(args ...string) result { b.t.Helper(); return finish(b.t, b.command(args...)) }

func (b *box) do(args ...string) string {
	b.t.Helper()
	r := b.try(args...)
	if r.code != 0 {
		b.t.Fatalf("box-runtime %s: exit %d\n%s%s", strings.Join(args, " "), r.code, r.out, r.err)
	}
	return r.out
}

// run saves the configuration and runs the container in the foreground.
func (b *box) run(flags ...string) result {
	b.t.Helper()
	b.save()
	return b.try(append(append([]string{"run"}, flags...), b.id)...)
}

// background runs the container detached; the test's end deletes it.
func (b *box) background() {
	b.t.Helper()
	b.save()
	b.do("run", "--detach", b.id)
	b.t.Cleanup(func() { b.do("delete", "--force", b.id) })
}

// report runs the container and decodes what the probe says.
func report[T any](b *box, flags ...string) T {
	b.t.Helper()
	r := b.run(flags...)
	if r.code != 0 {
		b.t.Fatalf("exit %d\n%s%s", r.code, r.out, r.err)
	}
	return decode[T](b.t, r.out)
}

func decode[T any](t *testing.T, text string) (v T) {
	t.Helper()
	if err := json.Unmarshal([]byte(text), &v); err != nil {
		t.Fatalf("decode %q: %v", text, err)
	}
	return v
}

// nothingLeft checks that the test's containers are gone with all they had.
func (b *box) nothingLeft() {
	mount, err := cgroups.Root()
	if err != nil {
		b.t.Fatal(err)
	}
	testkit.CheckContainerGone(b.t, b.state, mount+"/"+b.id, b.dir)
}

// chown gives a tree to the user and group of that number, and lets them in.
func chown(t *testing.T, root string, id int) {
	t.Helper()
	err := filepath.WalkDir(root, func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return os.Lchown(path, id, id)
	})
	if err != nil {
		t.Fatal(err)
	}
	for dir := filepath.Dir(root); dir != "/"; dir = filepath.Dir(dir) {
		if st, err := os.Stat(dir); err == nil && st.Mode().Perm()&0o011 != 0o011 {
			if err := os.Chmod(dir, st.Mode().Perm()|0o011); err != nil {
				t.Fatal(err)
			}
		}
	}
}
