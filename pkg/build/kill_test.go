package build

import (
	"bufio"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"box/pkg/build/solve"
	"box/pkg/image/store"
	"box/pkg/network"
	"box/pkg/ocirt"
)

// helperEnv makes the test binary a build of its own, to be killed or to run in
// other namespaces: its value is the data root, run root, context and runtime.
const helperEnv = "BOX_BUILD_TEST_HELPER"

// TestHelperBuild is no test: it is the other process of TestKilledBuild and
// TestNetwork.
func TestHelperBuild(t *testing.T) {
	args := strings.Split(os.Getenv(helperEnv), "|")
	if len(args) != 5 {
		t.Skip("runs only for other tests")
	}
	st, err := store.Open(args[0])
	if err != nil {
		t.Fatal(err)
	}
	env := Env{Root: args[0], RunRoot: args[1], Store: st, Runtime: ocirt.Runtime{Path: args[3], Root: filepath.Join(args[1], "runtime")}}
	req := Request{Context: args[2], Network: args[4], NoCache: true, Progress: func(e Event) {
		if e.Kind == solve.Output {
			os.Stdout.WriteString("OUT " + e.Text)
		}
	}}
	if req.Network == "default" {
		m, err := network.Open(env.Root, env.RunRoot)
		if err != nil {
			t.Fatal(err)
		}
		env.Network = m
	}
	if _, err := Build(context.Background(), req, env); err != nil {
		t.Fatal(err)
	}
}

// helper prepares a build in another process.
func (w *world) helper(network string, wrap ...string) *exec.Cmd {
	args := append(wrap, os.Args[0], "-test.run=^TestHelperBuild$", "-test.v")
	cmd := exec.CommandContext(w.t.Context(), args[0], args[1:]...)
	cmd.Env = append(os.Environ(), helperEnv+"="+strings.Join([]string{w.env.Root, w.env.RunRoot, w.dir, w.env.Runtime.Path, network}, "|"))
	return cmd
}

// TestKilledBuild kills a build in the middle of each kind of step and checks
// that the next one clears up and works.
func TestKilledBuild(t *testing.T) {
	w := newWorld(t)
	w.put("f", "x")
	mark := uniqueSleep()
	w.put("Dockerfile", "FROM busybox\nCOPY f /\nRUN echo here; sleep "+mark+" & echo there; sleep "+mark+"\n")
	for range 3 {
		cmd := w.helper("none")
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		waitFor(t, out, "OUT there")
		if err := cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		_ = cmd.Wait() // killed
		w.sweepAll()
		w.nothingLeft()
		if left := processesWith(t, "sleep\x00"+mark); left != 0 {
			t.Errorf("%d processes of the killed build live on", left)
		}
	}
	if r := w.build("FROM busybox\nCOPY f /\nRUN cat /f\n"); r.Image == nil || w.output() != "x" {
		t.Errorf("output %q", w.output())
	}
}

// TestKilledAnywhere kills builds at moments spread over the whole of a build.
func TestKilledAnywhere(t *testing.T) {
	w := newWorld(t)
	w.put("f", "x")
	mark := uniqueSleep()
	w.put("Dockerfile", "FROM busybox\nCOPY f /\nRUN sleep 0.01; sleep "+mark+" & true\nRUN sleep "+mark+"\n")
	const rounds = 25
	for i := range rounds {
		ctx, cancel := context.WithTimeout(t.Context(), time.Duration(i)*8*time.Millisecond)
		cmd := w.helper("none")
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		<-ctx.Done()
		cancel()
		if err := cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		_ = cmd.Wait() // killed
		w.sweepAll()
		if w.nothingLeft(); t.Failed() {
			t.Fatalf("killed after %d ms", i*8)
		}
		if left := processesWith(t, "sleep\x00"+mark); left != 0 {
			t.Fatalf("killed after %d ms: %d processes live on", i*8, left)
		}
	}
	if r := w.build("FROM busybox\nCOPY f /\nRUN cat /f\n"); r.Image == nil || w.output() != "x" {
		t.Errorf("output %q", w.output())
	}
}

// sweepAll sweeps until nothing is left to sweep: a child that the killed build
// was just starting has its locks until it ends, and a control group may be
// busy for a moment.
func (w *world) sweepAll() {
	w.t.Helper()
	senv, err := w.env.open()
	if err != nil {
		w.t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(w.t.Context(), time.Minute)
	defer cancel()
	for {
		dirs, err := filepath.Glob(filepath.Join(w.env.RunRoot, "containers", "build-*"))
		if err != nil {
			w.t.Fatal(err)
		}
		for _, d := range dirs {
			if strings.HasSuffix(d, ".gone") {
				continue // half removed: there is no lock any more
			}
			lock, err := senv.Records.LockContext(ctx, filepath.Base(d))
			if err != nil {
				w.t.Fatal(err)
			}
			if err := lock.Abandon(); err != nil {
				w.t.Fatal(err)
			}
		}
		if err := Sweep(ctx, w.env); err != nil {
			w.t.Fatal(err)
		}
		if len(dirs) == 0 {
			return
		}
	}
}

// waitFor reads until a line begins with prefix.
func waitFor(t *testing.T, out interface{ Read([]byte) (int, error) }, prefix string) {
	t.Helper()
	var all []string
	for sc := bufio.NewScanner(out); sc.Scan(); {
		all = append(all, sc.Text())
		if strings.HasPrefix(strings.TrimPrefix(sc.Text(), "OUT "), strings.TrimPrefix(prefix, "OUT ")) {
			return
		}
	}
	t.Fatalf("the build ended before %q:\n%s", prefix, strings.Join(all, "\n"))
}

// uniqueSleep is a duration by which the processes of this test are known: other
// test programs may run on the same host.
func uniqueSleep() string { return strconv.Itoa(100000 + os.Getpid()) }

// processesWith counts processes by a part of their command line.
func processesWith(t *testing.T, part string) int {
	t.Helper()
	files, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, f := range files {
		text, err := os.ReadFile(f)
		if err == nil && strings.Contains(string(text), part) {
			n++
		}
	}
	return n
}

// TestNetwork runs a step with a network, on a host of its own.
func TestNetwork(t *testing.T) {
	w := newWorld(t)
	unshare, err := exec.LookPath("unshare")
	if err != nil {
		t.Skip("unshare is not installed (Debian: util-linux)")
	}
	w.put("Dockerfile", "FROM busybox\nRUN ip -4 addr show eth0 | grep inet && cat /etc/hosts && test -s /etc/resolv.conf\n")
	out, err := w.helper("default", unshare, "-n").CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if !strings.Contains(string(out), "inet ") || !strings.Contains(string(out), hostnameInHosts) {
		t.Errorf("output:\n%s", out)
	}
}

const hostnameInHosts = "\tbox-build"

// TestStaleSnapshotIsSwept imitates a reboot: the run directory is gone, the
// snapshot is not.
func TestStaleSnapshotIsSwept(t *testing.T) {
	w := newWorld(t)
	if _, err := w.env.Store.Overlay().Prepare("build-0123456789abcdef", ""); err != nil {
		t.Fatal(err)
	}
	if _, err := w.env.Store.Overlay().Prepare("somebody-elses", ""); err != nil {
		t.Fatal(err)
	}
	if err := Sweep(t.Context(), w.env); err != nil {
		t.Fatal(err)
	}
	actives, err := w.env.Store.Overlay().Actives()
	if err != nil || len(actives) != 1 || actives[0] != "somebody-elses" {
		t.Errorf("snapshots %q: %v", actives, err)
	}
	if err := w.env.Store.Overlay().RemoveActive("somebody-elses"); err != nil {
		t.Fatal(err)
	}
}

// TestHalfRemovedDirectoryIsSwept imitates a build killed while it removed a
// run directory.
func TestHalfRemovedDirectoryIsSwept(t *testing.T) {
	w := newWorld(t)
	if err := os.MkdirAll(filepath.Join(w.env.RunRoot, "containers", "build-0123456789abcdef.gone", "rootfs"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := Sweep(t.Context(), w.env); err != nil {
		t.Fatal(err)
	}
}

// TestLeftoverOfALivingBuildStays checks that Sweep leaves alone what is in use.
func TestLeftoverOfALivingBuildStays(t *testing.T) {
	w := newWorld(t)
	senv, err := w.env.open()
	if err != nil {
		t.Fatal(err)
	}
	lock, err := senv.Records.TryLock("build-0123456789abcdef")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.env.Store.Overlay().Prepare("build-0123456789abcdef", ""); err != nil {
		t.Fatal(err)
	}
	if err := Sweep(t.Context(), w.env); err != nil {
		t.Fatal(err)
	}
	if _, err := w.env.Store.Overlay().Active("build-0123456789abcdef"); err != nil {
		t.Error("the snapshot of a living build was swept")
	}
	if err := lock.Abandon(); err != nil {
		t.Fatal(err)
	}
	if err := Sweep(t.Context(), w.env); err != nil {
		t.Fatal(err)
	}
}
