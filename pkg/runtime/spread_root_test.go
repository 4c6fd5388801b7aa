package runtime

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

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

// given is what a program was given: its processors and its timer slack, which are two
// files in one text.
func given(t *testing.T, text string) string {
	t.Helper()
	lines := strings.Split(strings.TrimSpace(text), "\n")
	return processors(t, text) + " and " + lines[len(lines)-1] + " ns"
}

// The runtime stays on one processor while it is alone and lets its own threads wake up
// late (package admit): nobody whom it starts does.
func TestWhoIsStartedHasAllProcessors(t *testing.T) {
	if runtime.NumCPU() < 2 {
		t.Skip("needs two processors")
	}
	const look = "cat /proc/self/status /proc/self/timerslack_ns"
	b := newBench(t, "sleep", "1000")
	note := func(name string) []specs.Hook {
		return []specs.Hook{{Path: "/bin/sh", Args: []string{"sh", "-c", look + " > " + name}, Env: []string{"PATH=/bin"}}}
	}
	host := func(name string) []specs.Hook { return note(b.bundle + "/rootfs/tmp/" + name) }
	b.spec.Hooks = &specs.Hooks{
		CreateRuntime: host("createRuntime"), CreateContainer: host("createContainer"), StartContainer: note("/tmp/startContainer"),
		Poststart: host("poststart"), Poststop: host("poststop"),
	}
	b.save()
	b.do("create", b.id)
	b.do("start", b.id)
	want := given(t, testkit.Text(t, "/proc/self/status")+testkit.Text(t, "/proc/self/timerslack_ns"))
	init := fmt.Sprintf("/proc/%d/", b.state().Pid)
	if got := given(t, testkit.Text(t, init+"status")+testkit.Text(t, init+"timerslack_ns")); got != want {
		t.Errorf("the command has processors %s, want %s", got, want)
	}
	if got := given(t, b.do("exec", b.id, "sh", "-c", look)); got != want {
		t.Errorf("exec: processors %s, want %s", got, want)
	}
	b.do("delete", "--force", b.id)
	for _, name := range []string{"createRuntime", "createContainer", "startContainer", "poststart", "poststop"} {
		if got := given(t, testkit.Text(t, b.bundle+"/rootfs/tmp/"+name)); got != want {
			t.Errorf("%s has processors %s, want %s", name, got, want)
		}
	}
}

// threads counts a process's threads by the processors that they may use.
func threads(t *testing.T, pid int) map[string]int {
	t.Helper()
	files, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/status", pid))
	if err != nil || len(files) == 0 {
		t.Fatalf("threads of %d: %v, %v", pid, files, err)
	}
	count := map[string]int{}
	for _, file := range files {
		if status, err := os.ReadFile(file); err == nil { // else it has just ended
			count[processors(t, string(status))]++
		}
	}
	return count
}

func total(counts map[string]int) (sum int) {
	for _, n := range counts {
		sum += n
	}
	return sum
}

// The verbs that stay use them themselves: the command's terminal should not wait for
// the one processor on which it works. One thread of run may be apart: it holds the mounts,
// and stays beside the one that waits for the command.
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
		apart := 0
		if args[0] == "run" {
			apart = 1
		}
		var got map[string]int
		spread := func() bool { return got[want] > 1 && total(got)-got[want] <= apart }
		for range 1000 { // it spreads when the command has been executed: nobody tells when
			if got = threads(t, cmd.Process.Pid); spread() {
				break
			}
			_, _ = unix.Poll(nil, 5)
		}
		if !spread() {
			t.Errorf("%s: threads by the processors they may use: %v, want all but at most %d with %s", args[0], got, apart, want)
		}
	}
	b.do("delete", "--force", b.id)
}
