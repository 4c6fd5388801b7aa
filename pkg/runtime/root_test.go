package runtime

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"box/internal/testkit"
	"box/pkg/cgroups"
	"box/pkg/spec/gen"
)

// The tests in *_root_test.go run the real command on real bundles. This file is
// what they stand on: one binary, one root file system, and a look at what is left
// behind.

// bench is a state root with one bundle.
type bench struct {
	t      *testing.T
	binary string
	root   string
	bundle string
	id     string
	spec   *specs.Spec
}

// buildOnce builds the command, unless BOX_TEST_RUNTIME names one that is built already:
// in the test VM a build would take minutes.
var buildOnce = sync.OnceValues(func() (string, error) {
	if built := os.Getenv("BOX_TEST_RUNTIME"); built != "" {
		return built, nil
	}
	dir, remove, err := testkit.Scratch()
	if err != nil {
		return "", err
	}
	removeBuilt = remove
	binary := filepath.Join(dir, "box-runtime")
	return binary, testkit.Compile(binary, "./cmd/box-runtime")
})

// removeBuilt removes what buildOnce has built, if it has.
var removeBuilt = func() error { return nil }

func TestMain(m *testing.M) {
	code := m.Run()
	if err := removeBuilt(); err != nil {
		fmt.Fprintln(os.Stderr, "clear up:", err)
	}
	os.Exit(code)
}

// newBench makes a bundle whose command is given. It skips without root.
func newBench(t *testing.T, args ...string) *bench {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: starts containers")
	}
	binary, err := buildOnce()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	b := &bench{t: t, binary: binary, root: dir + "/state", bundle: dir + "/bundle", spec: gen.Runtime()}
	b.id = fmt.Sprintf("box-test-%d-%s", os.Getpid(), strings.NewReplacer("/", "-", " ", "-").Replace(strings.ToLower(t.Name())))
	fillRoot(t, b.bundle+"/rootfs")
	b.spec.Root.Readonly = false
	b.spec.Process.Terminal = false
	b.spec.Process.Args = args
	b.spec.Process.Env = []string{"PATH=/bin"}
	t.Cleanup(b.nothingLeft)
	return b
}

// fillRoot makes a root file system of busybox.
func fillRoot(t *testing.T, dir string) {
	t.Helper()
	path, err := exec.LookPath("busybox")
	if err != nil {
		t.Skip("needs busybox (package busybox-static)")
	}
	for _, d := range []string{"bin", "dev", "etc", "proc", "sys", "tmp"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(dir+"/bin/busybox", data, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, applet := range []string{"sh", "cat", "echo", "sleep", "id", "ls", "env", "true", "tty", "kill", "hostname", "readlink"} {
		if err := os.Symlink("busybox", dir+"/bin/"+applet); err != nil {
			t.Fatal(err)
		}
	}
}

// save writes the spec into the bundle.
func (b *bench) save() {
	b.t.Helper()
	data, err := json.Marshal(b.spec)
	if err != nil {
		b.t.Fatal(err)
	}
	if err := os.WriteFile(b.bundle+"/config.json", data, 0o600); err != nil {
		b.t.Fatal(err)
	}
}

// command is a call of box-runtime.
func (b *bench) command(args ...string) *exec.Cmd {
	cmd := exec.Command(b.binary, append([]string{"--root", b.root}, args...)...)
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
func (b *bench) try(args ...string) result { b.t.Helper(); return finish(b.t, b.command(args...)) }

func (b *bench) do(args ...string) string {
	b.t.Helper()
	r := b.try(args...)
	if r.code != 0 {
		b.t.Fatalf("box-runtime %s: exit %d\n%s", strings.Join(args, " "), r.code, r.err)
	}
	return r.out
}

// run saves the spec and runs the container in the foreground.
func (b *bench) run(flags ...string) result {
	b.t.Helper()
	b.save()
	return b.try(append(append([]string{"run"}, flags...), b.id)...)
}

// state is the container's state; nil if it does not exist.
func (b *bench) state() *State {
	b.t.Helper()
	r := b.try("state", b.id)
	if r.code != 0 {
		return nil
	}
	var st State
	if err := json.Unmarshal([]byte(r.out), &st); err != nil {
		b.t.Fatal(err)
	}
	return &st
}

func (b *bench) expectStatus(want Status) *State {
	b.t.Helper()
	st := b.state()
	if st == nil || st.Status != want {
		b.t.Fatalf("state = %+v, want %s", st, want)
	}
	return st
}

// waitGone waits until a process is dead.
func waitGone(t *testing.T, pid int) {
	t.Helper()
	fd, err := unix.PidfdOpen(pid, 0)
	if err == unix.ESRCH {
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	for {
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 30_000)
		if err == unix.EINTR {
			continue
		}
		if err != nil || n == 0 {
			t.Fatalf("process %d is still alive (%v)", pid, err)
		}
		return
	}
}

// nothingLeft checks that the test's containers are gone with all they had.
func (b *bench) nothingLeft() {
	mount, err := cgroups.Root()
	if err != nil {
		b.t.Fatal(err)
	}
	testkit.CheckContainerGone(b.t, b.root, mount+"/"+b.id, b.root, b.bundle)
}

// killGroup makes a command the leader of a process group, so that a test can end
// it with everything that it has started outside of containers.
func killGroup(cmd *exec.Cmd) { cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} }

// shell runs a command on the host, in the bundle, and another one at the end.
func (b *bench) shell(before, after string) {
	b.t.Helper()
	run := func(line string) {
		cmd := exec.Command("sh", "-c", line)
		cmd.Dir = b.bundle
		if out, err := cmd.CombinedOutput(); err != nil {
			b.t.Errorf("%s: %v\n%s", line, err, out)
		}
	}
	run(before)
	b.t.Cleanup(func() { run(after) })
}
