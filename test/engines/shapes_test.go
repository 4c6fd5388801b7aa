package engines

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"box/pkg/terminal"
)

// The tests of this file call a runtime as engines do, without an engine: the same
// flags in the same order, from the bundle's directory, as a subreaper. What they
// check is what the engines read back.

// caller is an engine with one bundle.
type caller struct {
	client
	bundle string
	id     string
}

func TestCallers(t *testing.T) {
	eachRuntime(t, func(t *testing.T, rt runtimeUnderTest) {
		// Containers whose creator has ended are ours to wait for, as a shim does.
		if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0) })
		for _, s := range []struct {
			name string
			test func(c *caller)
		}{
			{"shim", shimLife},
			{"shim-terminal", shimTerminal},
			{"shim-update", shimUpdate},
			{"shim-failures", shimFailures},
			{"conmon", conmonLife},
			{"buildkit", buildkitRuns},
			{"buildah", buildahLife},
		} {
			t.Run(s.name, func(t *testing.T) {
				c := newCaller(t, rt, "shape-"+s.name)
				s.test(c)
			})
		}
		nothingLeft(t, engineState{})
	})
}

// newCaller makes a bundle of the image and the runtime's own default config, whose
// command ends on SIGTERM with code 5.
func newCaller(t *testing.T, rt runtimeUnderTest, id string) *caller {
	t.Helper()
	bundle := t.TempDir()
	unpack(t, imageLayer(t), bundle+"/rootfs")
	c := &caller{client: client{t: t, base: []string{rt.path}, dir: bundle}, bundle: bundle, id: id}
	c.do("spec")
	c.config(func(spec map[string]any) {
		process := spec["process"].(map[string]any)
		process["terminal"] = false
		process["args"] = []string{"sh", "-c", "trap 'exit 5' TERM; echo ready; while :; do sleep 0.05; done"}
		process["env"] = []string{"PATH=/bin"}
		spec["linux"].(map[string]any)["cgroupsPath"] = "/engines/" + id
	})
	t.Cleanup(func() { c.try("delete", "--force", id) })
	return c
}

// config changes the bundle's config.
func (c *caller) config(change func(map[string]any)) {
	c.t.Helper()
	path := filepath.Join(c.bundle, "config.json")
	data, err := os.ReadFile(path)
	if err != nil {
		c.t.Fatal(err)
	}
	spec := map[string]any{}
	if err := json.Unmarshal(data, &spec); err != nil {
		c.t.Fatal(err)
	}
	change(spec)
	if err := os.WriteFile(path, asJSON(c.t, spec), 0o600); err != nil {
		c.t.Fatal(err)
	}
}

// shim is how containerd's shim begins each call.
func (c *caller) shim() client {
	shim := c.client
	shim.base = append(shim.base, "--root", c.bundle+"/state", "--log", c.bundle+"/log.json", "--log-format", "json")
	c.t.Cleanup(func() { shim.try("delete", "--force", c.id) })
	return shim
}

// create runs a create, whose standard streams are the container's, and returns the pid
// that it wrote.
func (c *caller) create(call client, args ...string) (pid int, output func() string) {
	c.t.Helper()
	file, err := os.OpenFile(filepath.Join(c.bundle, "output"), os.O_CREATE|os.O_TRUNC|os.O_RDWR, 0o600)
	if err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(func() { file.Close() })
	full := append(append(call.base[:len(call.base):len(call.base)], "create", "--bundle", c.bundle, "--pid-file", c.bundle+"/pid"), append(args, c.id)...)
	cmd := exec.Command(full[0], full[1:]...)
	cmd.Dir, cmd.Stdout, cmd.Stderr = c.bundle, file, file
	// conmon's own variables, which are not for the container.
	cmd.Env = append(os.Environ(), "_OCI_SYNCPIPE=7", "_OCI_STARTPIPE=8", "XDG_RUNTIME_DIR=")
	output = func() string { return c.read("output") }
	if err := cmd.Run(); err != nil {
		c.t.Fatalf("create: %v\n%s%s", err, output(), c.read("log.json"))
	}
	if got := output(); got != "" {
		c.t.Errorf("create printed %q on the container's streams", got)
	}
	return c.pid("pid"), output
}

// read returns a file of the bundle; a missing one is empty.
func (c *caller) read(name string) string {
	c.t.Helper()
	text, err := os.ReadFile(filepath.Join(c.bundle, name))
	if err != nil && !os.IsNotExist(err) {
		c.t.Fatal(err)
	}
	return string(text)
}

// pid reads a pid file: decimal digits and nothing else.
func (c *caller) pid(name string) int {
	c.t.Helper()
	pid, err := strconv.Atoi(c.read(name))
	if err != nil || pid <= 1 {
		c.t.Fatalf("pid file %s: %q", name, c.read(name))
	}
	return pid
}

// collect waits for a process that has become our child, and returns its exit code, or
// 128 and the signal.
func (c *caller) collect(pid int) int {
	c.t.Helper()
	var status unix.WaitStatus
	eventually(c.t, "process "+strconv.Itoa(pid)+" ends", func() bool {
		got, err := unix.Wait4(pid, &status, unix.WNOHANG, nil)
		if err != nil && !errors.Is(err, unix.EINTR) {
			c.t.Fatalf("wait for %d: %v: it is not our child", pid, err)
		}
		return got == pid
	})
	if status.Signaled() {
		return 128 + int(status.Signal())
	}
	return status.ExitStatus()
}

// status is what the runtime's state says.
func (c *caller) status(call client) string {
	c.t.Helper()
	var state struct{ OCIVersion, ID, Status, Bundle string }
	if err := json.Unmarshal([]byte(call.do("state", c.id)), &state); err != nil {
		c.t.Fatal(err)
	}
	if state.ID != c.id || state.Bundle != c.bundle || !strings.HasPrefix(state.OCIVersion, "1.") {
		c.t.Errorf("state: %+v", state)
	}
	return state.Status
}

// expect checks the status.
func (c *caller) expect(call client, want string) {
	c.t.Helper()
	if got := c.status(call); got != want {
		c.t.Errorf("status %s, want %s", got, want)
	}
}

// process writes a process.json of a command.
func (c *caller) process(args ...string) (path string) {
	c.t.Helper()
	path = filepath.Join(c.bundle, "process.json")
	p := map[string]any{"args": args, "cwd": "/", "env": []string{"PATH=/bin"}, "user": map[string]any{"uid": 0, "gid": 0}}
	if err := os.WriteFile(path, asJSON(c.t, p), 0o600); err != nil {
		c.t.Fatal(err)
	}
	return path
}

func shimLife(c *caller) {
	shim := c.shim()
	pid, output := c.create(shim, "--no-new-keyring")
	c.expect(shim, "created")
	shim.do("start", c.id)
	eventually(c.t, "the container runs", func() bool { return output() == "ready\n" })
	c.expect(shim, "running")

	shim.do("exec", "--process", c.process("sh", "-c", "exit 7"), "--detach", "--pid-file", c.bundle+"/exec.pid", c.id)
	if code := c.collect(c.pid("exec.pid")); code != 7 {
		c.t.Errorf("exit code %d of an exec, want 7", code)
	}
	shim.do("exec", "--process", c.process("sleep", "1000"), "--detach", "--pid-file", c.bundle+"/exec.pid", c.id)
	var pids []int
	if err := json.Unmarshal([]byte(shim.do("ps", "--format", "json", c.id)), &pids); err != nil || len(pids) < 2 {
		c.t.Errorf("ps: %v %v, want the container's process and the exec's", pids, err)
	}
	shim.do("pause", c.id)
	c.expect(shim, "paused")
	shim.do("resume", c.id)
	c.expect(shim, "running")

	shim.do("kill", c.id, "15")
	// The kernel lets the container's process end when those of its namespace are
	// collected.
	if code := c.collect(c.pid("exec.pid")); code != 137 {
		c.t.Errorf("exit code %d of an exec when the container ends, want 137", code)
	}
	if code := c.collect(pid); code != 5 {
		c.t.Errorf("exit code %d, want 5", code)
	}
	shim.do("kill", "--all", c.id, "9") // what shares a pid namespace is cleared so, after its end
	c.expect(shim, "stopped")
	shim.do("delete", c.id)
	shim.do("delete", "--force", c.id) // by a second shim
	r := shim.try("kill", c.id, "9")
	if r.code == 0 || !gone(r.stderr) {
		c.t.Errorf("kill of what is gone: %s", r)
	}
	client{t: c.t, base: c.base}.do("features")
}

// gone tells whether a message is one that engines take for "it has ended already".
func gone(text string) bool {
	for _, words := range []string{"container not running", "os: process already finished", "no such process", "does not exist"} {
		if strings.Contains(text, words) {
			return true
		}
	}
	return false
}

func shimTerminal(c *caller) {
	c.config(func(spec map[string]any) {
		process := spec["process"].(map[string]any)
		process["terminal"] = true
		process["args"] = []string{"sh", "-c", "tty; read line; echo got $line; exit 6"}
	})
	shim := c.shim()
	path := filepath.Join(runDir(c.t), "tty")
	socket, err := terminal.Listen(path)
	if err != nil {
		c.t.Fatal(err)
	}
	defer socket.Close()
	masters := make(chan *os.File, 1)
	go func() {
		master, err := socket.Accept()
		if err != nil {
			c.t.Error(err)
		}
		masters <- master
	}()
	pid, _ := c.create(shim, "--console-socket", path)
	master := <-masters
	if master == nil {
		return
	}
	defer master.Close()
	shim.do("start", c.id)
	if _, err := master.WriteString("a line\n"); err != nil {
		c.t.Fatal(err)
	}
	if code := c.collect(pid); code != 6 {
		c.t.Errorf("exit code %d, want 6", code)
	}
	shown, _ := io.ReadAll(master) // until EIO: nobody holds the other side
	if !bytes.Contains(shown, []byte("/dev/pts/0")) || !bytes.Contains(shown, []byte("got a line")) {
		c.t.Errorf("on the terminal: %q", shown)
	}
	shim.do("delete", c.id)
}

func shimUpdate(c *caller) {
	requireController(c.t, "memory", "pids")
	shim := c.shim()
	pid, _ := c.create(shim)
	shim.do("start", c.id)
	for _, form := range [][]string{{"--resources", "-"}, {"--resources=-"}} {
		limit := map[bool]int64{true: 64 << 20, false: 96 << 20}[len(form) == 2]
		resources := asJSON(c.t, map[string]any{"memory": map[string]any{"limit": limit}, "pids": map[string]any{"limit": 77}})
		if r := shim.feed(string(resources), append(append([]string{"update"}, form...), c.id)...); r.code != 0 {
			c.t.Fatalf("update %v: %s", form, r)
		}
		if got := memoryLimit.value(c.t, strconv.Itoa(pid)); got != strconv.FormatInt(limit, 10) {
			c.t.Errorf("update %v: memory limit %s, want %d", form, got, limit)
		}
		if got := processLimit.value(c.t, strconv.Itoa(pid)); got != "77" {
			c.t.Errorf("update %v: pids limit %s, want 77", form, got)
		}
	}
	shim.do("delete", "--force", c.id)
	c.collect(pid)
}

// shimFailures: the shim shows its user the last line of the log.
func shimFailures(c *caller) {
	shim := c.shim()
	c.config(func(spec map[string]any) { spec["process"].(map[string]any)["args"] = []string{"/no/such"} })
	c.refuses(shim, 1, `exec: "/no/such": stat /no/such: no such file or directory`, "create", "--bundle", c.bundle, "--pid-file", c.bundle+"/pid", c.id)
	if r := shim.try("state", c.id); r.code == 0 {
		c.t.Errorf("a container that could not be created has a state: %s", r)
	}
	c.config(func(spec map[string]any) { spec["process"].(map[string]any)["args"] = []string{"sleep", "1000"} })
	pid, _ := c.create(shim)
	shim.do("start", c.id)
	c.refuses(shim, 255, `exec: "no-such-command": executable file not found in $PATH`,
		"exec", "--process", c.process("no-such-command"), "--detach", "--pid-file", c.bundle+"/exec.pid", c.id)
	c.refuses(shim, 1, "container with given ID already exists", "create", "--bundle", c.bundle, "--pid-file", c.bundle+"/pid2", c.id) // the id is taken
	c.refuses(shim, 1, "", "delete", c.id)                                                                                             // it runs
	shim.do("delete", "--force", c.id)
	if code := c.collect(pid); code != 137 {
		c.t.Errorf("exit code %d, want 137", code)
	}
}

// refuses checks a failure: its exit code, and the message in the log's last line.
func (c *caller) refuses(call client, code int, words string, args ...string) {
	c.t.Helper()
	r := call.try(args...)
	lines := strings.Split(strings.TrimSpace(c.read("log.json")), "\n")
	var last struct{ Level, Msg, Time string }
	if err := json.Unmarshal([]byte(lines[len(lines)-1]), &last); err != nil {
		c.t.Errorf("%s: last line of the log: %v: %q", args[0], err, lines[len(lines)-1])
	}
	if r.code != code || last.Level != "error" || last.Time == "" || !strings.Contains(last.Msg, words) {
		c.t.Errorf("%s: %s, and in the log %+v; want %d and %q", args[0], r, last, code, words)
	}
}

// conmonLife: no global flags, so the state is at the runtime's own place.
func conmonLife(c *caller) {
	c.config(func(spec map[string]any) {
		spec["process"].(map[string]any)["args"] = []string{"sh", "-c", "env | grep -c -E '_OCI|XDG'; echo ready; exec sleep 1000"}
	})
	pid, output := c.create(c.client, "--no-pivot")
	c.do("start", c.id)
	eventually(c.t, "the container runs", func() bool { return strings.HasSuffix(output(), "ready\n") })
	if output() != "0\nready\n" {
		c.t.Errorf("the container printed %q: it has its creator's variables", output())
	}
	c.do("exec", "--pid-file", c.bundle+"/exec.pid", "--process", c.process("sh", "-c", "exit 8"), "--detach", c.id)
	if code := c.collect(c.pid("exec.pid")); code != 8 {
		c.t.Errorf("exit code %d of an exec, want 8", code)
	}
	resources := filepath.Join(c.bundle, "resources.json")
	if err := os.WriteFile(resources, []byte(`{"pids":{"limit":78}}`), 0o600); err != nil {
		c.t.Fatal(err)
	}
	c.do("update", "--resources="+resources, c.id)
	c.do("kill", "--all", c.id, "9")
	if code := c.collect(pid); code != 137 {
		c.t.Errorf("exit code %d, want 137", code)
	}
	c.do("delete", "--force", c.id)
	if r := c.try("kill", c.id, "9"); r.code == 0 || !gone(r.stderr) {
		c.t.Errorf("kill of what is gone: %s", r)
	}
}

// buildkitRuns: one call in the foreground, stdio are pipes.
func buildkitRuns(c *caller) {
	for script, want := range map[string]result{
		"echo out; echo err >&2; exit 9": {"out\n", "err\n", 9},
		"kill -9 $$; true":               {"", "", 0}, // process 1 does not hear itself
		"cat":                            {"typed", "", 0},
	} {
		c.config(func(spec map[string]any) { spec["process"].(map[string]any)["args"] = []string{"sh", "-c", script} })
		if r := c.feed("typed", "--log", c.bundle+"/log.json", "--log-format", "json", "run", "--bundle", c.bundle, c.id); r != want {
			c.t.Errorf("%s: want %s, got %s", script, want, r)
		}
		if r := c.try("state", c.id); r.code == 0 {
			c.t.Errorf("%s: it has a state after its end: %s", script, r)
		}
	}
	c.config(func(spec map[string]any) { spec["process"].(map[string]any)["args"] = []string{"no-such-command"} })
	c.refuses(c.client, 1, `exec: "no-such-command": executable file not found in $PATH`,
		"--log", c.bundle+"/log.json", "--log-format", "json", "run", "--bundle", c.bundle, c.id)
}

func buildahLife(c *caller) {
	pid, output := c.create(c.client)
	c.do("start", c.id)
	eventually(c.t, "the container runs", func() bool { return output() == "ready\n" })
	c.do("kill", c.id, "15")
	if code := c.collect(pid); code != 5 {
		c.t.Errorf("exit code %d, want 5", code)
	}
	c.expect(c.client, "stopped")
	c.do("delete", c.id)
}

// unpack writes a layer to a directory.
func unpack(t *testing.T, layer []byte, dir string) {
	t.Helper()
	r := tar.NewReader(bytes.NewReader(layer))
	for {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return
		}
		if err == nil {
			err = unpackEntry(r, h, filepath.Join(dir, h.Name))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

func unpackEntry(r io.Reader, h *tar.Header, path string) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	switch h.Typeflag {
	case tar.TypeDir:
		if err := os.MkdirAll(path, 0o755); err != nil {
			return err
		}
		return os.Chmod(path, h.FileInfo().Mode())
	case tar.TypeSymlink:
		return os.Symlink(h.Linkname, path)
	}
	data, err := io.ReadAll(r)
	if err != nil {
		return err
	}
	return os.WriteFile(path, data, h.FileInfo().Mode())
}
