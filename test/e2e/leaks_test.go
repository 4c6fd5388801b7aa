package e2e

import (
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"box/internal/testkit"
)

// Scenario: a container that has ended leaves nothing, whichever network it had
// and however it ended.
func TestNothingLeftAfterRun(t *testing.T) {
	h := newHost(t, "busybox")
	h.box("pull", "-q", "busybox")
	tests := map[string][]string{
		"bridge":        {"run", "--rm", "busybox", "true"},
		"port":          {"run", "--rm", "-p", testkit.FreePort(t) + ":80", "busybox", "true"},
		"none":          {"run", "--rm", "--network", "none", "busybox", "true"},
		"host":          {"run", "--rm", "--network", "host", "busybox", "true"},
		"volume":        {"run", "--rm", "-v", "/data", "busybox", "true"},
		"daemonised":    {"run", "--rm", "busybox", "sh", "-c", "sleep 1000 & true"},
		"failure":       {"run", "--rm", "busybox", "false"},
		"no such thing": {"run", "--rm", "busybox", "nosuch"},
		"no such user":  {"run", "--rm", "-u", "nosuch", "busybox", "true"},
	}
	for name, args := range tests {
		t.Run(name, func(t *testing.T) {
			cid := filepath.Join(t.TempDir(), "cid")
			h.try(append([]string{"run", "--cidfile", cid}, args[1:]...)...)
			if id, err := os.ReadFile(cid); err == nil { // else it was not even made
				h.ids[string(id)] = true
			}
			h.nothingLeft()
		})
	}
}

// Scenario: kill -9 of box, of the monitor or of the container, at any moment,
// leaves nothing that the next command does not clear away.
func TestKillNineLeavesNothing(t *testing.T) {
	h := newHost(t, "busybox")
	h.box("pull", "-q", "busybox")
	port := testkit.FreePort(t)
	rounds := 12
	if testing.Short() {
		rounds = 4
	}
	for _, victim := range []string{"box", "box-monitor", "sleep"} {
		for i := range rounds {
			h.killDuringRun(victim, port, rand.N(40*time.Millisecond))
			for _, id := range strings.Fields(h.box("ps", "-aq")) {
				h.box("rm", "-f", id)
			}
			h.box("run", "--rm", "busybox", "true")
			h.nothingLeft()
			if t.Failed() {
				t.Fatalf("victim %s, round %d", victim, i)
			}
		}
	}
}

// killDuringRun starts a container and kills one of its processes after a
// while. The moment is the point of the test: it is drawn, not waited for.
func (h *host) killDuringRun(victim, port string, after time.Duration) {
	h.t.Helper()
	cmd := exec.Command(filepath.Join(programs, "box"), "run", "--rm", "-p", port+":80", "busybox", "sleep", "31.4159")
	cmd.Env = h.env
	if err := cmd.Start(); err != nil {
		h.t.Fatal(err)
	}
	time.Sleep(after)
	h.note()
	switch victim {
	case "box":
		_ = cmd.Process.Kill() // it may have ended by itself
	default:
		h.killBelow(victim)
	}
	h.note()
	// If the victim was not there yet the container runs: end it by its own
	// command.
	done := make(chan struct{})
	go func() {
		_ = cmd.Wait()
		close(done)
	}()
	for range 100 {
		for _, id := range strings.Fields(h.try("ps", "-q").stdout) {
			h.try("kill", id)
		}
		select {
		case <-done:
			return
		case <-time.After(100 * time.Millisecond): // it may only just be starting
		}
	}
	_ = cmd.Process.Kill()
	h.t.Errorf("box run did not end after %s was killed", victim)
}

// killBelow kills the processes of this host that are called name.
func (h *host) killBelow(name string) {
	for pid, cmdline := range commandLines(h.t) {
		ours := strings.Contains(cmdline, h.dir+"/") && strings.Contains(cmdline, "/"+name+" ")
		if name == "sleep" {
			ours = strings.HasPrefix(cmdline, "sleep 31.4159")
		}
		if !ours {
			continue
		}
		var n int
		if _, err := fmt.Sscan(pid, &n); err == nil {
			_ = unix.Kill(n, unix.SIGKILL) // it may be gone
		}
	}
}

// Scenario: a build that is killed, at any moment, leaves nothing that the next
// command does not clear away, and the next build works.
func TestKilledBuildLeavesNothing(t *testing.T) {
	h := newHost(t, "busybox")
	h.box("pull", "-q", "busybox")
	dir := h.context("FROM busybox\nRUN echo one > /one\nRUN sleep 2.71828\nRUN echo three > /three\n")
	for range 5 {
		cmd := exec.Command(filepath.Join(programs, "box"), "build", "--no-cache", "-t", "x", dir)
		cmd.Env = h.env
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(rand.N(150 * time.Millisecond))
		_ = cmd.Process.Kill() // it sleeps for longer
		_ = cmd.Wait()
		h.box("ps", "-a")
		h.nothingLeft()
		if t.Failed() {
			return
		}
	}
	h.box("build", "-q", "-t", "x", h.context("FROM busybox\nRUN echo works\n"))
}

// Scenario: `make demo` shows its page, a second one takes the first one's
// place, and a busy port is explained.
func TestDemo(t *testing.T) {
	h := newHost(t)
	if filepath.Base(programs) != "bin" {
		t.Skip("the demo runs bin/box: set BOX_BIN, as make test does")
	}
	port := testkit.FreePort(t)
	demo := func(port string) result {
		cmd := append([]string{"PORT=" + port}, "sh", filepath.Join("..", "..", "scripts", "demo.sh"))
		return h.run(nil, "env", cmd...)
	}
	for range 2 {
		if r := demo(port); r.code != 0 || !strings.Contains(r.stdout, "Hello from box") || !strings.Contains(r.stdout, "exec -it hello") {
			t.Fatalf("demo: %s", r)
		}
	}
	if got := h.box("ps", "--format", "{{.Names}}"); got != "hello" {
		t.Errorf("running: %q, want hello alone", got)
	}
	h.box("run", "-d", "--name", "other", "-p", testkit.FreePort(t)+":80", "busybox", "sleep", "1000")
	busy := testkit.FreePort(t)
	h.box("run", "-d", "--name", "busy", "-p", busy+":80", "busybox", "sleep", "1000")
	if r := demo(busy); r.code == 0 || !strings.Contains(r.stderr, "make demo PORT=") {
		t.Errorf("a busy port: %s", r)
	}
	if _, err := os.Stat(filepath.Join(h.root, "image", "index.json")); err != nil {
		t.Error(err)
	}
}
