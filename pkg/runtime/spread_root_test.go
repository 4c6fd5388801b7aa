package runtime

import (
	"fmt"
	"path/filepath"
	"regexp"
	"runtime"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"box/internal/testkit"
)

// processors is what a text of /proc/PID/status says of the processors that may be used.
func processors(t *testing.T, status string) string {
	t.Helper()
	m := regexp.MustCompile(`(?m)^Cpus_allowed:\s*(\S+)$`).FindStringSubmatch(status)
	if m == nil {
		t.Fatalf("no processors in %q", status)
	}
	return m[1]
}

// The runtime stays on one processor while it is alone (package admit): nobody whom it
// starts may.
func TestWhoIsStartedHasAllProcessors(t *testing.T) {
	if runtime.NumCPU() < 2 {
		t.Skip("needs two processors")
	}
	b := newBench(t, "sleep", "1000")
	note := func(name string) []specs.Hook {
		return []specs.Hook{{Path: "/bin/sh", Args: []string{"sh", "-c", "cat /proc/self/status > " + name}, Env: []string{"PATH=/bin"}}}
	}
	host := func(name string) []specs.Hook { return note(b.bundle + "/rootfs/tmp/" + name) }
	b.spec.Hooks = &specs.Hooks{
		CreateRuntime: host("createRuntime"), CreateContainer: host("createContainer"), StartContainer: note("/tmp/startContainer"),
		Poststart: host("poststart"), Poststop: host("poststop"),
	}
	b.save()
	b.do("create", b.id)
	b.do("start", b.id)
	want := processors(t, testkit.Text(t, "/proc/self/status"))
	for _, status := range []string{"/proc/1/status", "/proc/self/status"} {
		if got := processors(t, b.do("exec", b.id, "cat", status)); got != want {
			t.Errorf("%s: processors %s, want %s", status, got, want)
		}
	}
	b.do("delete", "--force", b.id)
	for _, name := range []string{"createRuntime", "createContainer", "startContainer", "poststart", "poststop"} {
		if got := processors(t, testkit.Text(t, b.bundle+"/rootfs/tmp/"+name)); got != want {
			t.Errorf("%s may use processors %s, want %s", name, got, want)
		}
	}
}

// The verbs that stay use them themselves: the command's terminal should not wait for
// the one processor on which it works.
func TestWhoStaysHasAllProcessors(t *testing.T) {
	if runtime.NumCPU() < 2 {
		t.Skip("needs two processors")
	}
	b := newBench(t, "sh", "-c", "echo up; exec sleep 1000")
	b.save()
	want := processors(t, testkit.Text(t, "/proc/self/status"))
	for _, args := range [][]string{{"run", b.id}, {"exec", b.id, "sh", "-c", "echo up; exec sleep 1000"}, {"events", "--interval", "1s", b.id}} {
		cmd := b.command(args...)
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			_ = cmd.Process.Kill()
			_ = cmd.Wait()
		})
		if _, err := out.Read(make([]byte, 1)); err != nil { // it is up
			t.Fatal(err)
		}
		threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/status", cmd.Process.Pid))
		if err != nil || len(threads) == 0 {
			t.Fatalf("threads of %s: %v, %v", args[0], threads, err)
		}
		for _, thread := range threads {
			if got := processors(t, testkit.Text(t, thread)); got != want {
				t.Errorf("%s: a thread may use processors %s, want %s", args[0], got, want)
			}
		}
	}
	b.do("delete", "--force", b.id)
}
