package e2e

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// Scenario: Debian's containerd, told to use box-runtime in runc's place, runs,
// execs, signals and deletes containers, sees their exit codes and keeps nothing.
//
// The daemon lives in mount, pid, net, ipc and uts namespaces of its own, with a
// fresh cgroup2 mount on /sys/fs/cgroup: nothing of it outlives the test.
// BOX_OCI_RUNTIME names another runtime (runc) to compare with.

const (
	busyboxRef = "docker.io/library/busybox:e2e"
	// containerdNamespace is also the parent cgroup of every container.
	containerdNamespace = "box-e2e"
)

func TestContainerdRunsExecsAndDeletes(t *testing.T) {
	c := startContainerd(t)
	c.ctr(t, "images", "import", "--snapshotter=native", busyboxArchive(t))
	t.Run("the command's output and exit code reach the caller", c.exitCodes)
	t.Run("a missing command is refused with runc's words", c.missingCommand)
	t.Run("exec runs beside the command and gives its own exit code", c.execs)
	t.Run("kill ends a task and its code is 128 plus the signal", c.kills)
	t.Run("a terminal is handed over the console socket", c.terminal)
	t.Run("pause stops the clock of a task and resume starts it", c.pauses)
	c.nothingLeft(t)
}

func (c *ctrd) exitCodes(t *testing.T) {
	out, code := c.try(t, "run", "--rm", busyboxRef, "r1", "sh", "-c", "echo hello; exit 42")
	if out != "hello\n" || code != 42 {
		t.Errorf("output %q, code %d; want hello and 42", out, code)
	}
}

func (c *ctrd) missingCommand(t *testing.T) {
	out, code := c.try(t, "run", "--rm", busyboxRef, "r2", "no-such-command")
	want := `exec: "no-such-command": executable file not found in $PATH`
	if code == 0 || !strings.Contains(out, want) {
		t.Errorf("code %d, output %q; want %q", code, out, want)
	}
	out, code = c.try(t, "run", "--rm", busyboxRef, "r3", "/no/such")
	want = `exec: "/no/such": stat /no/such: no such file or directory`
	if code == 0 || !strings.Contains(out, want) {
		t.Errorf("code %d, output %q; want %q", code, out, want)
	}
}

func (c *ctrd) execs(t *testing.T) {
	c.ctr(t, "run", "-d", busyboxRef, "e1", "sleep", "1000")
	out, code := c.try(t, "tasks", "exec", "--exec-id", "x1", "e1", "sh", "-c", "echo $PPID; exit 7")
	if out != "0\n" || code != 7 {
		t.Errorf("output %q, code %d; want parent 0 (outside the pid namespace) and 7", out, code)
	}
	if out := c.ctr(t, "tasks", "ps", "e1"); len(strings.Split(strings.TrimSpace(out), "\n")) != 2 {
		t.Errorf("tasks ps = %q, want a header and one process", out)
	}
	c.remove(t, "e1")
}

func (c *ctrd) kills(t *testing.T) {
	c.ctr(t, "run", "-d", busyboxRef, "k1", "sleep", "1000")
	if out := c.ctr(t, "tasks", "ls"); !strings.Contains(out, "RUNNING") {
		t.Errorf("tasks ls = %q, want RUNNING", out)
	}
	c.ctr(t, "tasks", "kill", "-s", "SIGKILL", "k1")
	if out := c.ctr(t, "tasks", "delete", "k1"); !strings.Contains(out, "exit code 137") {
		t.Errorf("delete = %q, want the task's exit code 137", out)
	}
	c.ctr(t, "containers", "delete", "k1")
}

func (c *ctrd) terminal(t *testing.T) {
	script := strings.Join([]string{
		"exec", "ctr", "-a", c.socket, "-n", containerdNamespace, "run", "--rm", "-t", "--snapshotter=native",
		"--runc-binary", c.runtime, busyboxRef, "t1", "sh", "-c", "'tty; stty size >/dev/null && echo sized; exit 5'",
	}, " ")
	out, code := c.inside(t, "script", "-qec", script, "/dev/null")
	if code != 5 || !strings.Contains(out, "/dev/pts/0") && !strings.Contains(out, "/dev/console") || !strings.Contains(out, "sized") {
		t.Errorf("code %d, output %q; want a terminal and 5", code, out)
	}
}

func (c *ctrd) pauses(t *testing.T) {
	c.ctr(t, "run", "-d", busyboxRef, "p1", "sleep", "1000")
	c.ctr(t, "tasks", "pause", "p1")
	if out := c.ctr(t, "tasks", "ls"); !strings.Contains(out, "PAUSED") {
		t.Errorf("tasks ls = %q, want PAUSED", out)
	}
	c.ctr(t, "tasks", "resume", "p1")
	if out := c.ctr(t, "tasks", "ls"); !strings.Contains(out, "RUNNING") {
		t.Errorf("tasks ls = %q, want RUNNING", out)
	}
	c.remove(t, "p1")
}

// ctrd is a containerd in namespaces of its own.
type ctrd struct {
	t       *testing.T
	pid     int
	dir     string
	socket  string
	runtime string
	cgroups string // "v2": a cgroup2 mount takes the place of the host's hierarchies
}

// startContainerd starts the daemon and waits until it answers.
func startContainerd(t *testing.T) *ctrd {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: starts containerd")
	}
	for _, tool := range []string{"containerd", "ctr", "nsenter", "busybox", "script"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skipf("needs %s", tool)
		}
	}
	c := &ctrd{t: t, dir: t.TempDir(), runtime: ociRuntime(t), cgroups: "v2"}
	if os.Getenv("BOX_OCI_RUNTIME") != "" {
		c.cgroups = "host" // others insist on the cpu controller for cpu.shares 1024
	}
	c.socket = filepath.Join(c.dir, "c.sock")
	config := fmt.Sprintf("version = 2\nroot = %q\nstate = %q\ndisabled_plugins = [\"io.containerd.grpc.v1.cri\"]\n"+
		"[grpc]\n  address = %q\n[ttrpc]\n  address = %q\n",
		c.dir+"/root", c.dir+"/state", c.socket, c.socket+".ttrpc")
	if err := os.WriteFile(c.dir+"/config.toml", []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	c.launch(`set -e
mount --make-rprivate /
mount -t proc proc /proc
mount -t tmpfs tmpfs /run
if [ "$2" = v2 ]; then mount -t cgroup2 cgroup2 /sys/fs/cgroup; fi
containerd -c "$1"/config.toml > "$1"/log 2>&1 &
wait`)
	c.await()
	return c
}

// ociRuntime builds the runtime under test, or takes the one that is asked for.
func ociRuntime(t *testing.T) string {
	t.Helper()
	if name := os.Getenv("BOX_OCI_RUNTIME"); name != "" {
		path, err := exec.LookPath(name)
		if err != nil {
			t.Fatal(err)
		}
		return path
	}
	path := filepath.Join(t.TempDir(), "box-runtime")
	build := exec.Command("go", "build", "-o", path, "box/cmd/box-runtime")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build box-runtime: %v\n%s", err, out)
	}
	return path
}

// launch runs a script as the first process of new namespaces. It dies with the
// test, and with it everything that was started below it.
func (c *ctrd) launch(script string) {
	cmd := exec.Command("sh", "-c", script, "containerd", c.dir, c.cgroups)
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: unix.CLONE_NEWNS | unix.CLONE_NEWPID | unix.CLONE_NEWNET | unix.CLONE_NEWIPC | unix.CLONE_NEWUTS,
		Pdeathsig:  unix.SIGKILL,
	}
	cmd.Stderr = os.Stderr
	runtime.LockOSThread() // the parent-death signal follows the thread
	if err := cmd.Start(); err != nil {
		c.t.Fatal(err)
	}
	c.pid = cmd.Process.Pid
	c.t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		runtime.UnlockOSThread()
		c.removeCgroups()
	})
}

// removeCgroups removes the parent cgroup, which the runtime leaves to its caller.
func (c *ctrd) removeCgroups() {
	dirs, _ := filepath.Glob("/sys/fs/cgroup/*/" + containerdNamespace)
	for _, dir := range append(dirs, "/sys/fs/cgroup/"+containerdNamespace) {
		if err := os.Remove(dir); err != nil && !os.IsNotExist(err) {
			c.t.Errorf("left behind: %v", err)
		}
	}
}

func (c *ctrd) await() {
	c.t.Helper()
	eventually(c.t, "containerd answers", func() bool {
		_, code := c.inside(c.t, "ctr", "-a", c.socket, "version")
		return code == 0
	})
}

// eventually waits for a state that some other process brings about.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(30 * time.Second)
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatalf("gave up waiting until %s", what)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// inside runs a command in the daemon's namespaces and returns all its output and
// its exit code.
func (c *ctrd) inside(t *testing.T, args ...string) (string, int) {
	t.Helper()
	target := fmt.Sprint(c.pid)
	cmd := exec.Command("nsenter", append([]string{"-t", target, "-m", "-p", "-n", "-i", "-u", "--"}, args...)...)
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return string(out), cmd.ProcessState.ExitCode()
}

// try calls ctr; run and import get the flags that name the snapshotter and the runtime.
func (c *ctrd) try(t *testing.T, args ...string) (string, int) {
	t.Helper()
	full := []string{"ctr", "-a", c.socket, "-n", containerdNamespace, args[0]}
	if args[0] == "run" {
		full = append(full, "--snapshotter=native", "--runc-binary", c.runtime)
	}
	return c.inside(t, append(full, args[1:]...)...)
}

// ctr calls ctr, which must succeed.
func (c *ctrd) ctr(t *testing.T, args ...string) string {
	t.Helper()
	out, code := c.try(t, args...)
	if code != 0 {
		t.Fatalf("ctr %s: exit %d\n%s", strings.Join(args, " "), code, out)
	}
	return out
}

// remove ends a task and removes task and container.
func (c *ctrd) remove(t *testing.T, id string) {
	t.Helper()
	c.ctr(t, "tasks", "delete", "--force", id)
	c.ctr(t, "containers", "delete", id)
}

// nothingLeft checks the daemon's namespaces: no container's mount, cgroup,
// process or state may remain.
func (c *ctrd) nothingLeft(t *testing.T) {
	t.Helper()
	for what, script := range map[string]string{
		"mount":   "grep /rootfs /proc/mounts",
		"cgroup":  "find /sys/fs/cgroup -mindepth 2 -type d -path '*/" + containerdNamespace + "/*'",
		"state":   "find /run/containerd/runc -mindepth 2",
		"process": "grep -lE 'sleep|containerd-shim' /proc/[0-9]*/comm",
	} {
		eventually(t, "no "+what+" is left behind", func() bool { // a shim ends a moment after its answer
			out, _ := c.inside(t, "sh", "-c", script+" 2>/dev/null")
			return out == ""
		})
	}
}

// busyboxArchive writes an image archive in OCI layout: one layer with a static
// busybox and the applets that the scenarios use.
func busyboxArchive(t *testing.T) string {
	t.Helper()
	layer := busyboxLayer(t)
	blobs := map[string][]byte{}
	add := func(data []byte, media string) map[string]any {
		sum := sha256.Sum256(data)
		name := hex.EncodeToString(sum[:])
		blobs["blobs/sha256/"+name] = data
		return map[string]any{"mediaType": media, "digest": "sha256:" + name, "size": len(data)}
	}
	layerDesc := add(layer, "application/vnd.oci.image.layer.v1.tar")
	config := add(asJSON(t, map[string]any{
		"architecture": runtime.GOARCH, "os": "linux",
		"config": map[string]any{"Env": []string{"PATH=/bin"}, "Cmd": []string{"/bin/sh"}},
		"rootfs": map[string]any{"type": "layers", "diff_ids": []any{layerDesc["digest"]}},
	}), "application/vnd.oci.image.config.v1+json")
	manifest := add(asJSON(t, map[string]any{
		"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
		"config": config, "layers": []any{layerDesc},
	}), "application/vnd.oci.image.manifest.v1+json")
	manifest["annotations"] = map[string]string{"io.containerd.image.name": busyboxRef}
	blobs["oci-layout"] = []byte(`{"imageLayoutVersion":"1.0.0"}`)
	blobs["index.json"] = asJSON(t, map[string]any{"schemaVersion": 2, "manifests": []any{manifest}})

	var archive bytes.Buffer
	w := tar.NewWriter(&archive)
	for name, data := range blobs {
		addFile(t, w, &tar.Header{Name: name, Mode: 0o644, Size: int64(len(data))}, data)
	}
	closeTar(t, w)
	path := filepath.Join(t.TempDir(), "busybox.tar")
	if err := os.WriteFile(path, archive.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func busyboxLayer(t *testing.T) []byte {
	t.Helper()
	path, err := exec.LookPath("busybox")
	if err != nil {
		t.Skip("needs busybox")
	}
	binary, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, dir := range []string{"bin", "dev", "etc", "proc", "sys", "tmp"} {
		addFile(t, w, &tar.Header{Name: dir + "/", Typeflag: tar.TypeDir, Mode: 0o755}, nil)
	}
	addFile(t, w, &tar.Header{Name: "bin/busybox", Mode: 0o755, Size: int64(len(binary))}, binary)
	for _, applet := range []string{"sh", "echo", "sleep", "tty", "stty", "true", "cat"} {
		addFile(t, w, &tar.Header{Name: "bin/" + applet, Typeflag: tar.TypeSymlink, Linkname: "busybox", Mode: 0o777}, nil)
	}
	closeTar(t, w)
	return b.Bytes()
}

func addFile(t *testing.T, w *tar.Writer, h *tar.Header, data []byte) {
	t.Helper()
	if err := w.WriteHeader(h); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(data); err != nil {
		t.Fatal(err)
	}
}

func closeTar(t *testing.T, w io.Closer) {
	t.Helper()
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
}

func asJSON(t *testing.T, v any) []byte {
	t.Helper()
	data, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return data
}
