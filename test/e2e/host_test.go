package e2e

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/moby/sys/capability"

	"box/test/baseimage"
)

// host is a place to run box in: a data root and a run root of its own, and
// the mirror as docker.io.
type host struct {
	t             *testing.T
	dir           string
	root, runRoot string
	env           []string
	bridges       []string        // that its containers had
	ids           map[string]bool // of its containers, as far as they were seen
}

// newHost makes a host and sees to it that nothing of it is left at the end.
func newHost(t *testing.T, images ...string) *host {
	t.Helper()
	requireRoot(t)
	require(t, "docker-registry")
	addr, err := mirror.serve(images...)
	if err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp("", "bx")
	if err != nil {
		t.Fatal(err)
	}
	h := &host{t: t, dir: dir, root: filepath.Join(dir, "data"), runRoot: filepath.Join(dir, "run"), ids: map[string]bool{}}
	conf := filepath.Join(dir, "registries.toml")
	if err := baseimage.WriteRegistries(conf, addr); err != nil {
		t.Fatal(err)
	}
	h.env = append(os.Environ(),
		"PATH="+programs+":"+os.Getenv("PATH"), "HOME="+filepath.Join(dir, "home"),
		"BOX_ROOT="+h.root, "BOX_RUNROOT="+h.runRoot, "BOX_REGISTRIES_CONF="+conf)
	t.Cleanup(h.end)
	return h
}

// end removes all containers and looks for what they have left.
func (h *host) end() {
	h.note()
	for _, id := range strings.Fields(h.try("ps", "-aq").stdout) {
		h.try("rm", "-f", "-v", id)
	}
	h.nothingLeft()
	if err := os.RemoveAll(h.dir); err != nil {
		h.t.Errorf("something is still in use: %v", err)
	}
}

// nothingLeft is called when no container is left. The kernel ends namespaces,
// and the last monitor the bridge, a moment after the last process: it looks
// again for a while before it calls something a leak.
func (h *host) nothingLeft() {
	h.t.Helper()
	var left []string
	for range 200 {
		if left = h.traces(); len(left) == 0 {
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
	for _, line := range left {
		h.t.Errorf("left behind: %s", line)
	}
}

// result is one finished command.
type result struct {
	stdout, stderr string
	code           int
}

func (r result) String() string {
	return fmt.Sprintf("exit code %d\nstdout: %s\nstderr: %s", r.code, r.stdout, r.stderr)
}

// run runs any program on the host.
func (h *host) run(stdin io.Reader, name string, args ...string) result {
	h.t.Helper()
	if name == "box" {
		name = filepath.Join(programs, "box")
	}
	cmd := exec.Command(name, args...)
	var stdout, stderr bytes.Buffer
	cmd.Env, cmd.Stdin, cmd.Stdout, cmd.Stderr = h.env, stdin, &stdout, &stderr
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		h.t.Fatalf("%s %s: %v", name, strings.Join(args, " "), err)
	}
	return result{stdout.String(), stderr.String(), cmd.ProcessState.ExitCode()}
}

// try runs box whatever comes of it.
func (h *host) try(args ...string) result {
	h.t.Helper()
	return h.run(nil, "box", args...)
}

// box runs box, which must work, and returns what it printed.
func (h *host) box(args ...string) string {
	h.t.Helper()
	r := h.try(args...)
	if r.code != 0 {
		h.t.Fatalf("box %s: %s", strings.Join(args, " "), r)
	}
	return strings.TrimSuffix(r.stdout, "\n")
}

// fails runs box, which must end with code and say each of the words.
func (h *host) fails(code int, words []string, args ...string) {
	h.t.Helper()
	r := h.try(args...)
	if r.code != code {
		h.t.Errorf("box %s: want exit code %d, got %s", strings.Join(args, " "), code, r)
	}
	for _, w := range words {
		if !strings.Contains(r.stderr, w) {
			h.t.Errorf("box %s: %q is not in the message:\n%s", strings.Join(args, " "), w, r.stderr)
		}
	}
}

// fetch gets a page, waiting for the server to listen.
func (h *host) fetch(url string) string {
	h.t.Helper()
	client := http.Client{Timeout: 5 * time.Second}
	var err error
	for end := time.Now().Add(time.Minute); time.Now().Before(end); {
		var resp *http.Response
		if resp, err = client.Get(url); err == nil {
			body, readErr := io.ReadAll(resp.Body)
			_ = resp.Body.Close()
			if readErr == nil && resp.StatusCode == http.StatusOK {
				return string(body)
			}
			err = fmt.Errorf("%s %v", resp.Status, readErr)
		}
		time.Sleep(50 * time.Millisecond)
	}
	h.t.Errorf("fetch %s: %v\n%s", url, err, h.try("ps", "-a").stdout)
	for _, name := range strings.Fields(h.try("ps", "-a", "--format", "{{.Names}}").stdout) {
		h.t.Logf("logs of %s: %s", name, h.try("logs", name))
	}
	h.t.FailNow()
	return ""
}

// hostAddress is the host's own address, as others reach it.
func hostAddress(t *testing.T) string {
	t.Helper()
	// Connecting a UDP socket sends nothing; it only asks for the route.
	c, err := net.Dial("udp4", "198.51.100.1:9")
	if err == nil {
		defer c.Close()
		return c.LocalAddr().(*net.UDPAddr).IP.String()
	}
	t.Skip("the host has no IPv4 route to the outside")
	return ""
}

func requireRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	// crun raises RLIMIT_MEMLOCK for its device program, come what may.
	held, err := capability.NewPid2(0)
	if err == nil {
		err = held.Load()
	}
	if err != nil {
		t.Fatal(err)
	}
	if filepath.Base(os.Getenv("BOX_RUNTIME")) == "crun" && !held.Get(capability.EFFECTIVE, capability.CAP_SYS_RESOURCE) {
		t.Skip("crun needs CAP_SYS_RESOURCE, which root has not got here")
	}
}

func require(t *testing.T, names ...string) {
	t.Helper()
	for _, name := range names {
		if _, err := exec.LookPath(name); err != nil {
			t.Skipf("needs %s: run scripts/test-deps.sh", name)
		}
	}
}
