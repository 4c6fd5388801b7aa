package runtime

import (
	"bufio"
	"encoding/json"
	"os"
	"strings"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"box/internal/testkit"
)

func TestUpdate(t *testing.T) {
	b := newBench(t, "sleep", "1000")
	first := int64(20)
	b.spec.Linux.Resources = &specs.LinuxResources{Pids: &specs.LinuxPids{Limit: &first}}
	switch r := b.run("--detach"); {
	case strings.Contains(r.err, "controller pids"):
		t.Skip("needs the pids controller: ", r.err)
	case r.code != 0:
		t.Fatal(r.err)
	}
	defer b.do("delete", "--force", b.id)
	dir, _ := groupOf(t, b.state().Pid)
	expect := func(after, want string) {
		t.Helper()
		if got := testkit.Text(t, dir+"/pids.max"); got != want+"\n" {
			t.Errorf("after %s: pids.max = %q, want %s", after, got, want)
		}
	}
	expect("run", "20")
	b.do("update", b.id, "--pids-limit", "30")
	expect("a flag", "30")
	b.do("update", "--cpu-share", "200", b.id)
	expect("another limit's update", "30")
	if err := os.WriteFile(b.bundle+"/limits.json", []byte(`{"pids":{"limit":40}}`), 0o600); err != nil {
		t.Fatal(err)
	}
	b.do("update", "-r", "limits.json", b.id)
	expect("a file", "40")
	stdin := b.command("update", "--resources", "-", b.id)
	stdin.Stdin = strings.NewReader(`{"pids":{"limit":-1}}`)
	if r := finish(t, stdin); r.code != 0 {
		t.Error(r.err)
	}
	expect("stdin", "max")
	pid := b.state().Pid
	b.do("kill", b.id, "KILL")
	waitGone(t, pid)
	if r := b.try("update", "--pids-limit", "1", b.id); r.code != 1 || !strings.Contains(r.err, "container not running") {
		t.Errorf("update of a stopped container: %+v", r)
	}
}

func TestEvents(t *testing.T) {
	b := newBench(t, "sleep", "1000")
	if r := b.run("--detach"); r.code != 0 {
		t.Fatal(r.err)
	}
	defer b.do("delete", "--force", b.id)
	check := func(line string) {
		t.Helper()
		if !strings.HasPrefix(line, `{"type":"stats","id":"`+b.id+`","data":{"cpu":`) || !strings.Contains(line, `"network_interfaces":null`) {
			t.Errorf("not runc's form: %s", line)
		}
		var e struct {
			Data struct{ Pids struct{ Current int } }
		}
		if err := json.Unmarshal([]byte(line), &e); err != nil || e.Data.Pids.Current != 1 {
			t.Errorf("%v: %s", err, line)
		}
	}
	check(b.do("events", "--stats", b.id))

	events := b.command("events", "--interval", "20ms", b.id)
	out, err := events.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := events.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	for range 3 {
		if !lines.Scan() {
			t.Fatal("events ended early")
		}
		check(lines.Text())
	}
	pid := b.state().Pid
	b.do("kill", b.id, "KILL")
	waitGone(t, pid)
	for lines.Scan() { // it ends with the container
	}
	if err := events.Wait(); err != nil {
		t.Errorf("events: %v", err)
	}
	if r := b.try("events", "--stats", b.id); r.code != 1 || !strings.Contains(r.err, "is not running") {
		t.Errorf("events of a stopped container: %+v", r)
	}
}
