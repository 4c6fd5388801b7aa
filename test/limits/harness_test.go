package limits

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"box/internal/testkit"
	"box/pkg/spec/gen"
)

// groups is where the one hierarchy is mounted.
const groups = "/sys/fs/cgroup"

// container is a bundle and the runtime to run it with. Its first process is the
// busybox of the host.
type container struct {
	t             *testing.T
	runtime, root string
	bundle, id    string
	group         string // directory of its cgroup
	spec          *specs.Spec
}

// newContainer makes a bundle for a command; it skips unless the controllers are
// there to limit it.
func newContainer(t *testing.T, controllers string, args ...string) *container {
	t.Helper()
	needControllers(t, controllers)
	name := "box-limits-" + strings.NewReplacer("/", "-", "_", "-").Replace(strings.ToLower(t.Name()))
	c := &container{t: t, runtime: runtimeBinary(t), root: t.TempDir(), bundle: t.TempDir(), id: name, spec: gen.Runtime()}
	c.group = filepath.Join(parentGroup(t), name)
	s := c.spec
	if uid, gid := os.Geteuid(), os.Getegid(); uid != 0 {
		gen.Rootless(s, uint32(uid), uint32(gid))
		s.Linux.Resources = &specs.LinuxResources{}
	}
	s.Version = "1.0.0" // the oldest runtimes to compare with know no later one
	s.Root.Readonly, s.Process.Terminal = false, false
	s.Process.Args, s.Process.Env = args, []string{"PATH=/bin"}
	s.Linux.CgroupsPath = strings.TrimPrefix(c.group, groups)
	if !hasNamespace(s, specs.CgroupNamespace) {
		s.Linux.Namespaces = append(s.Linux.Namespaces, specs.LinuxNamespace{Type: specs.CgroupNamespace})
	}
	fillRoot(t, filepath.Join(c.bundle, "rootfs"))
	t.Cleanup(c.remove)
	return c
}

// parentGroup is where the groups of containers are made: below the root or, for a
// user, beside his own group, in the one that is delegated to him.
func parentGroup(t *testing.T) string {
	t.Helper()
	if os.Geteuid() == 0 {
		return groups
	}
	text, err := os.ReadFile("/proc/self/cgroup")
	must(t, err)
	_, own, _ := strings.Cut(strings.TrimSpace(string(text)), "::")
	parent := filepath.Join(groups, filepath.Dir(own))
	if unix.Access(parent, unix.W_OK) != nil {
		t.Skipf("needs root, or a delegated cgroup: %s is not", parent)
	}
	return parent
}

// needControllers skips unless all of them can be given to the containers' groups.
func needControllers(t *testing.T, names string) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(parentGroup(t), "cgroup.subtree_control"))
	if err != nil {
		t.Skipf("needs pure cgroup v2: %v", err)
	}
	for _, name := range strings.Fields(names) {
		if !strings.Contains(" "+strings.TrimSpace(string(text))+" ", " "+name+" ") {
			t.Skipf("needs the controller %s for the containers' groups; they have: %s", name, text)
		}
	}
}

// runtimeBinary is the runtime under test.
func runtimeBinary(t *testing.T) string {
	t.Helper()
	if path := os.Getenv("BOX_TEST_RUNTIME"); path != "" {
		return path
	}
	return testkit.Build(t, "./cmd/box-runtime", false)
}

func hasNamespace(s *specs.Spec, kind specs.LinuxNamespaceType) bool {
	for _, n := range s.Linux.Namespaces {
		if n.Type == kind {
			return true
		}
	}
	return false
}

// fillRoot makes a root file system of busybox and of this very program, which
// plays the part of a container that busybox cannot play (see play_test.go).
func fillRoot(t *testing.T, dir string) {
	t.Helper()
	testkit.RequireBinary(t, "busybox")
	busybox, _ := exec.LookPath("busybox")
	for _, d := range []string{"bin", "dev", "proc", "sys", "tmp"} {
		must(t, os.MkdirAll(filepath.Join(dir, d), 0o755))
	}
	for name, source := range map[string]string{"busybox": busybox, "play": "/proc/self/exe"} {
		data, err := os.ReadFile(source)
		must(t, err)
		must(t, os.WriteFile(filepath.Join(dir, "bin", name), data, 0o755))
	}
	for _, applet := range strings.Fields("sh cat dd echo grep mkdir mknod nproc sleep sync tail true") {
		must(t, os.Symlink("busybox", filepath.Join(dir, "bin", applet)))
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// remove deletes the container and looks whether its group is gone.
func (c *container) remove() {
	_ = exec.Command(c.runtime, "--root", c.root, "delete", "--force", c.id).Run()
	if _, err := os.Stat(c.group); err == nil {
		c.t.Errorf("cgroup left behind: %s", c.group)
	}
}

// result is what a call gave.
type result struct {
	out, err string
	status   int
}

// call calls the runtime.
func (c *container) call(args ...string) result {
	c.t.Helper()
	cmd := exec.Command(c.runtime, append([]string{"--root", c.root}, args...)...)
	cmd.Dir = c.bundle
	out, errs, status := testkit.Finish(c.t, cmd)
	return result{out, errs, status}
}

// do is a call that must succeed.
func (c *container) do(args ...string) string {
	c.t.Helper()
	r := c.call(args...)
	if r.status != 0 {
		c.t.Fatalf("%s: status %d: %s", strings.Join(args, " "), r.status, r.err)
	}
	return r.out
}

// file is an open temporary file.
func (c *container) file() *os.File {
	c.t.Helper()
	f, err := os.CreateTemp(c.t.TempDir(), "")
	must(c.t, err)
	c.t.Cleanup(func() { f.Close() })
	return f
}

// text is what a file of file() holds. It is not opened by its name: a runtime gives
// the streams to the container's user, who may be a stranger here.
func (c *container) text(f *os.File) string {
	c.t.Helper()
	data, err := io.ReadAll(io.NewSectionReader(f, 0, 1<<20))
	must(c.t, err)
	return string(data)
}

func (c *container) read(file string) string {
	c.t.Helper()
	data, err := os.ReadFile(file)
	must(c.t, err)
	return string(data)
}

// save writes config.json.
func (c *container) save() {
	c.t.Helper()
	data, err := json.Marshal(c.spec)
	must(c.t, err)
	must(c.t, os.WriteFile(filepath.Join(c.bundle, "config.json"), data, 0o600))
}

// run runs the container in the foreground.
func (c *container) run() result {
	c.t.Helper()
	c.save()
	return c.call("run", c.id)
}

// finish creates and starts the container and waits for its end, so that its group
// can be read until the test is over. It returns the output of the container.
func (c *container) finish() string {
	c.t.Helper()
	c.save()
	pidFile := filepath.Join(c.t.TempDir(), "pid")
	output := c.file()
	create := exec.Command(c.runtime, "--root", c.root, "create", "--bundle", c.bundle, "--pid-file", pidFile, c.id)
	create.Stdout, create.Stderr = output, output
	if err := create.Run(); err != nil {
		c.t.Fatalf("create: %v: %s", err, c.text(output))
	}
	pid, err := strconv.Atoi(c.read(pidFile))
	must(c.t, err)
	fd, err := unix.PidfdOpen(pid, 0)
	must(c.t, err)
	defer unix.Close(fd)
	c.do("start", c.id)
	for {
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 60_000)
		if err == unix.EINTR {
			continue
		}
		if err != nil || n != 1 {
			c.t.Fatalf("the container did not end: %v", err)
		}
		return c.text(output)
	}
}

// counter is one number of a file like memory.events or cpu.stat of the group.
func (c *container) counter(file, key string) int {
	c.t.Helper()
	for line := range strings.Lines(c.read(filepath.Join(c.group, file))) {
		if name, value, _ := strings.Cut(strings.TrimSpace(line), " "); name == key {
			n, err := strconv.Atoi(value)
			must(c.t, err)
			return n
		}
	}
	c.t.Fatalf("%s: no %s in it", file, key)
	return 0
}

// expect compares a file of the group.
func (c *container) expect(file, want string) {
	c.t.Helper()
	if got := strings.TrimSpace(c.read(filepath.Join(c.group, file))); got != want {
		c.t.Errorf("%s is %q, want %q", file, got, want)
	}
}

// String names the result in messages.
func (r result) String() string {
	var b bytes.Buffer
	fmt.Fprintf(&b, "status %d, output %q, errors %q", r.status, r.out, r.err)
	return b.String()
}
