package engines

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"box/internal/testkit/vm"
)

// The tests of this file have the engines write containers to disk and read them back. What
// is done then is the engine's own choice of flags, mounts and streams: criu and the
// runtime's part alone are tested in pkg/runtime.

// requireCriu skips where criu is missing, and outside of the test VM, with whose kernel
// Debian's works.
func requireCriu(t *testing.T) {
	t.Helper()
	if os.Getenv(vm.InsideVariable) == "" {
		t.Skip("needs the test VM, whose kernel criu works with: make engines-vm FOCUS=checkpoint")
	}
	check := exec.Command(requireProgram(t, "criu"), "check")
	check.Dir = t.TempDir() // it may leave a log there
	if out, err := check.CombinedOutput(); err != nil {
		t.Skipf("needs a criu that works with this kernel: %v\n%s", err, bytes.TrimSpace(out))
	}
}

// quoteCriu repeats, when a test has failed, what criu's logs say of errors: engines tell
// but the path. It is to be called when the engine is there, whose directories go with it.
func quoteCriu(t *testing.T) {
	t.Helper()
	t.Cleanup(func() {
		for _, root := range []string{os.Getenv(dirVar), "/run"} {
			_ = filepath.WalkDir(root, func(path string, e os.DirEntry, err error) error {
				if t.Failed() && err == nil && strings.HasSuffix(e.Name(), ".log") && regexp.MustCompile("dump|restore").MatchString(e.Name()) {
					text, err := os.ReadFile(path)
					errors := regexp.MustCompile("(?m)^.*Error.*$").FindAllString(string(text), 10)
					t.Logf("%s: %v\n%s", path, err, strings.Join(errors, "\n"))
				}
				return nil
			})
		}
	})
}

// counting is a command that counts, on its output and in the file /tmp/n, and ends on
// SIGTERM with 5. Each time that it is started, not restored, /tmp/began has a line more.
const counting = "trap 'exit 5' TERM; echo began | tee -a /tmp/began; i=0; while :; do i=$((i+1)); echo $i; echo $i >/tmp/n; sleep 0.1; done"

// inside runs a command in a container, and returns what it printed.
type inside func(args ...string) string

// counts waits until a container has counted further than from, and returns how far.
func (run inside) counts(t *testing.T, from int) (n int) {
	t.Helper()
	eventually(t, "it counts further than "+strconv.Itoa(from), func() bool {
		n, _ = strconv.Atoi(strings.TrimSpace(run("cat", "/tmp/n"))) // not there yet, or just being written
		return n > from
	})
	return n
}

// goesOn checks that a container has not been started anew, and counts on.
func (run inside) goesOn(t *testing.T, from int) int {
	t.Helper()
	n := run.counts(t, from)
	if began := run("cat", "/tmp/began"); began != "began\n" {
		t.Errorf("restored, it was started anew: %q", began)
	}
	return n
}

// inside is how to run commands in one of the engine's containers.
func (c client) inside(name string) inside {
	return func(args ...string) string { return c.try(append([]string{"exec", name}, args...)...).stdout }
}

// restored checks what of a container must be as before: its limits, its address, its
// streams, and how it ends.
func (c client) restored(name string, from int) {
	c.t.Helper()
	run := c.inside(name)
	n := run.goesOn(c.t, from)
	c.holds(name, ".State.Running", "true")
	c.limited(name, memoryLimit, "67108864", "67108864")
	inScope(c.t, c.inspect(name, ".State.Pid"))
	c.prints("1\n1", "exec", name, "sh", "-c", "ip -o -4 addr show eth0 | grep -c inet; ip -o link show lo | grep -c LOWER_UP")
	c.logged(name, strconv.Itoa(n)) // restored, it writes to where it wrote
	c.do("pause", name)
	c.do("unpause", name)
	run.counts(c.t, n)
}

// ends checks that a restored container hears signals, and that its engine hears of its end.
func (c client) ends(name string) {
	c.t.Helper()
	c.do("stop", "-t", "100", name)
	c.holds(name, ".State.ExitCode", "5")
	c.do("rm", name)
}

func TestCheckpointDocker(t *testing.T) {
	requireCriu(t)
	eachRuntime(t, func(t *testing.T, rt runtimeUnderTest) {
		d := newDocker(t, rt, "--experimental", "--exec-opt", "native.cgroupdriver="+driver())
		quoteCriu(t)
		run := d.inside("counter")
		d.do("run", "-d", "--name", "counter", "--memory", "64m", "--memory-swap", "64m", imageRef, "sh", "-c", counting)
		n := run.counts(t, 0)
		d.do("checkpoint", "create", "--leave-running", "counter", "running")
		d.holds("counter", ".State.Running", "true")
		n = run.goesOn(t, n)
		d.do("checkpoint", "create", "counter", "stopped")
		d.becomes("counter", ".State.Running", "false")
		d.do("start", "--checkpoint", "stopped", "counter")
		d.restored("counter", n)
		d.ends("counter")
	})
}

func TestCheckpointPodman(t *testing.T) {
	requireCriu(t)
	eachRuntime(t, func(t *testing.T, rt runtimeUnderTest) {
		p := newPodman(t, rt)
		quoteCriu(t)
		run := p.inside("counter")
		p.do("run", "-d", "--name", "counter", "--memory", "64m", "--memory-swap", "64m", imageRef, "sh", "-c", counting)
		n := run.counts(t, 0)
		p.do("container", "checkpoint", "counter")
		p.holds("counter", ".State.Checkpointed", "true")
		p.do("container", "restore", "counter")
		p.restored("counter", n)
		n = run.counts(t, n)

		archive := t.TempDir() + "/archive.tar"
		p.do("container", "checkpoint", "--compress", "none", "--export", archive, "counter")
		p.do("rm", "counter")
		p.do("container", "restore", "--import", archive) // runc loses the group of one with another name
		p.restored("counter", n)
		p.ends("counter")
	})
}

// TestCheckpointContainerd: what ctr calls a checkpoint is an image, with the files of the
// container, too, which another is made of.
func TestCheckpointContainerd(t *testing.T) {
	requireCriu(t)
	eachRuntime(t, func(t *testing.T, rt runtimeUnderTest) {
		c := newContainerd(t, rt)
		quoteCriu(t)
		execs := 0
		in := func(id string) inside {
			return func(args ...string) string {
				execs++
				return c.try(append([]string{"tasks", "exec", "--exec-id", "x" + strconv.Itoa(execs), id}, args...)...).stdout
			}
		}
		feltCtr{ctrd: c}.start("counter", counting, limits{memory: 64 * mebibyte})
		n := in("counter").counts(t, 0)
		c.do("tasks", "checkpoint", "--image-path", t.TempDir()+"/images", "counter")
		n = in("counter").goesOn(t, n)
		c.do("containers", "checkpoint", "--rw", "--image", "--task", "counter", "localhost/checkpoint:1")
		in("counter").goesOn(t, n)
		c.remove("counter")

		c.do("containers", "restore", "--rw", "--live", "again", "localhost/checkpoint:1")
		in("again").goesOn(t, n)
		if got := memoryLimit.value(t, feltCtr{ctrd: c}.pid("again")); got != "67108864" {
			t.Errorf("memory limit %q", got)
		}
		if code := (feltCtr{ctrd: c}).stop("again"); code != "5" {
			t.Errorf("stopped with %s, want 5", code)
		}
		c.do("containers", "delete", "again")
	})
}
