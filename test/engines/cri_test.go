package engines

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// cri is a containerd as a kubelet uses it, with crictl in the kubelet's place.
type cri struct {
	client
	dir string // of the pods' and containers' configurations
	pod string // the pod that all containers of a test are in
	ctr client // the same containerd by its own name
}

// findCrictl looks for crictl, in PATH or where scripts/cri-tools.sh has built it.
func findCrictl(t *testing.T) string {
	t.Helper()
	if path, err := exec.LookPath("crictl"); err == nil {
		return path
	}
	// HOME is the island's.
	built, _ := filepath.Glob(filepath.Join(os.Getenv(cacheVar), "crictl-*"))
	if len(built) == 0 {
		t.Skip("needs crictl: run scripts/cri-tools.sh")
	}
	return built[len(built)-1]
}

// newCRI starts containerd with its CRI plugin, and what else is to be configured of it.
// Without CNI pods use the host's network, which is the island's.
func newCRI(t *testing.T, rt runtimeUnderTest, more ...string) *cri {
	t.Helper()
	crictl := findCrictl(t)
	_, restricted := noSysResource()
	run := startContainerd(t, fmt.Sprintf(`[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = %q
  restrict_oom_score_adj = %v
  disable_apparmor = true
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "native"
    default_runtime_name = "tested"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.tested]
      runtime_type = "io.containerd.runc.v2"
      [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.tested.options]
        BinaryName = %q
        SystemdCgroup = %v
`, imageRef, restricted, rt.path, driver() == "systemd")+strings.Join(more, ""))
	endpoint := "unix://" + run + "/sock"
	c := &cri{
		client: client{t: t, base: []string{crictl, "-r", endpoint, "-i", endpoint, "--timeout", "20s"}},
		dir:    t.TempDir(),
	}
	c.ctr = client{t: t, base: []string{requireProgram(t, "ctr"), "-a", run + "/sock", "-n", "k8s.io"}}
	c.ctr.do("images", "import", "--snapshotter=native", imageArchive(t))
	t.Cleanup(func() { c.try("rmp", "-f", "-a") })
	c.pod = c.runPod("pod", map[string]any{})
	return c
}

// object is a message of the interface, as crictl reads it.
type object = map[string]any

// The interface counts modes of namespaces: the pod's, the container's, the node's.
const node = 2

// ownPid are a container's namespaces unless a test is about them.
var ownPid = object{"network": node, "pid": 1}

// says checks what a command in a container prints; crictl adds a line end.
func (c *cri) says(want string, args ...string) {
	c.t.Helper()
	if got := strings.TrimRight(c.do(args...), "\n"); got != want {
		c.t.Errorf("%s: printed %q, want %q", strings.Join(args, " "), got, want)
	}
}

// write writes a configuration for crictl.
func (c *cri) write(name string, o object) (path string) {
	c.t.Helper()
	path = filepath.Join(c.dir, name+".json")
	if err := os.WriteFile(path, asJSON(c.t, o), 0o600); err != nil {
		c.t.Fatal(err)
	}
	return path
}

// podConfig is a pod in the island's network; more is merged into its security context.
func (c *cri) podConfig(name string, more object) string {
	namespaces := object{"network": node, "pid": 1}
	security := object{"namespace_options": namespaces}
	for k, v := range more {
		if k == "pid" {
			namespaces["pid"] = v
			continue
		}
		security[k] = v
	}
	return c.write("pod-"+name, object{
		"metadata":      object{"name": name, "namespace": "default", "uid": name, "attempt": 1},
		"log_directory": c.dir,
		"linux":         object{"security_context": security, "cgroup_parent": c.parent()},
	})
}

// parent is the group of all pods, as the manager of groups calls it.
func (c *cri) parent() string {
	if driver() == "systemd" {
		return "k8s.slice"
	}
	return "/k8s.io"
}

func (c *cri) runPod(name string, more object) string {
	c.t.Helper()
	return c.do("runp", c.podConfig(name, more))
}

// start runs a container in a pod; more is merged into its configuration.
func (c *cri) start(pod, name, script string, more object) string {
	c.t.Helper()
	config := object{
		"metadata": object{"name": name},
		"image":    object{"image": imageRef},
		"command":  []string{"sh", "-c", script},
		"log_path": name + ".log",
		"linux":    object{"security_context": object{"namespace_options": ownPid}},
	}
	for k, v := range more {
		config[k] = v
	}
	id := c.do("create", pod, c.write(name, config), c.podFile(pod))
	c.do("start", id)
	return id
}

// podFile is the configuration that a pod was made from.
func (c *cri) podFile(pod string) string {
	name := c.do("inspectp", "-o", "go-template", "--template", "{{.status.metadata.name}}", pod)
	return filepath.Join(c.dir, "pod-"+name+".json")
}

// field is a part of a container's status.
func (c *cri) field(id, path string) string {
	c.t.Helper()
	return c.do("inspect", "-o", "go-template", "--template", "{{"+path+"}}", id)
}

// log is what a container has printed, as the kubelet finds it.
func (c *cri) log(name string) string {
	c.t.Helper()
	text, err := os.ReadFile(filepath.Join(c.dir, name+".log"))
	if err != nil && !os.IsNotExist(err) {
		c.t.Fatal(err)
	}
	return string(text)
}

func TestCRI(t *testing.T) {
	eachRuntime(t, func(t *testing.T, rt runtimeUnderTest) {
		c := newCRI(t, rt)
		for _, s := range []struct {
			name string
			test func(c *cri, name string)
		}{
			{"life", criLife},
			{"exec", criExec},
			{"missing", criMissing},
			{"security", criSecurity},
			{"limits", criLimits},
			{"mounts", criMounts},
			{"pid", criSharedPid},
			{"stats", criStats},
			{"profile", criProfile},
			{"node", criNode},
		} {
			t.Run(s.name, func(t *testing.T) {
				here := *c
				here.t = t
				s.test(&here, s.name)
			})
		}
	})
}

func criLife(c *cri, name string) {
	id := c.start(c.pod, name, "trap 'exit 5' TERM; echo out; echo err >&2; while :; do sleep 0.05; done", nil)
	eventually(c.t, "its output is in the log", func() bool {
		log := c.log(name)
		return strings.Contains(log, "stdout F out\n") && strings.Contains(log, "stderr F err\n")
	})
	if got := c.do("logs", id); got != "out" {
		c.t.Errorf("logs = %q", got)
	}
	c.do("stop", "--timeout", "15", id)
	if state, code := c.field(id, ".status.state"), c.field(id, ".status.exitCode"); state != "CONTAINER_EXITED" || code != "5" {
		c.t.Errorf("%s with %s, want an exit with 5", state, code)
	}
	c.do("rm", id)
	id = c.start(c.pod, name, "trap '' TERM; while :; do sleep 0.05; done", nil)
	c.do("stop", "--timeout", "0", id)
	if code := c.field(id, ".status.exitCode"); code != "137" {
		c.t.Errorf("exit code %s, want 137", code)
	}
	c.do("rm", id)
}

func criExec(c *cri, name string) {
	id := c.start(c.pod, name, idle, object{"envs": []object{{"key": "A", "value": "b"}}, "working_dir": "/tmp"})
	c.says("b /tmp", "exec", "--sync", id, "sh", "-c", "echo $A $PWD")
	if r := c.try("exec", "--sync", id, "sh", "-c", "echo err >&2; exit 7"); r.code == 0 || !strings.Contains(r.stderr, "7") {
		c.t.Errorf("exec: %s", r)
	}
	if r := c.feed("typed", "exec", "-i", id, "cat"); r.stdout != "typed" {
		c.t.Errorf("stdin of exec: %s", r)
	}
	s := c.terminal("exec", "-it", id, "sh", "-c", "tty; echo to-$(echo here)")
	s.reads("/dev/pts/0")
	s.reads("to-here")
	s.ends(0)
	if r := c.try("exec", "--sync", id, "no-such-command"); r.code == 0 || !strings.Contains(r.stderr, "executable file not found in $PATH") {
		c.t.Errorf("exec of a missing command: %s", r)
	}
	began := time.Now()
	if r := c.try("exec", "--sync", "--timeout", "1", id, "sleep", "1000"); r.code == 0 || time.Since(began) > patience/2 {
		c.t.Errorf("exec with a time limit: %s", r)
	}
	c.do("rm", "-f", id)
}

func criMissing(c *cri, name string) {
	config := c.write(name, object{
		"metadata": object{"name": name}, "image": object{"image": imageRef}, "command": []string{"/no/such"}, "log_path": name + ".log",
		"linux": object{"security_context": object{"namespace_options": ownPid}},
	})
	id := c.do("create", c.pod, config, c.podFile(c.pod))
	if r := c.try("start", id); r.code == 0 || !strings.Contains(r.stderr, "/no/such") || !strings.Contains(r.stderr, "no such file or directory") {
		c.t.Errorf("start: %s", r)
	}
	// The kubelet shows reason and code to the user.
	if reason, code := c.field(id, ".status.reason"), c.field(id, ".status.exitCode"); reason != "StartError" || code != "128" {
		c.t.Errorf("%s with %s, want StartError with 128", reason, code)
	}
	c.do("rm", id)
}

func criSecurity(c *cri, name string) {
	id := c.start(c.pod, name, idle, object{"linux": object{"security_context": object{
		"namespace_options": ownPid,
		"run_as_user":       object{"value": 1000}, "run_as_group": object{"value": 1000}, "supplemental_groups": []int{77},
		"readonly_rootfs": true, "no_new_privs": true,
		"capabilities": object{"drop_capabilities": []string{"ALL"}},
		"seccomp":      object{"profile_type": 0},
		"masked_paths": []string{"/proc/keys"}, "readonly_paths": []string{"/proc/sys"},
	}}})
	c.says("1000 1000 77 1000 2000", "exec", "--sync", id, "sh", "-c", "echo $(id -u) $(id -g) $(id -G | tr ' ' '\\n' | sort -n)")
	c.says("NoNewPrivs:\t1\nSeccomp:\t2", "exec", "--sync", id, "grep", "-wE", "NoNewPrivs:|Seccomp:", "/proc/self/status")
	c.says("CapBnd:\t0000000000000000", "exec", "--sync", id, "grep", "CapBnd", "/proc/self/status")
	c.says("1", "exec", "--sync", id, "sh", "-c", "touch /x 2>&1 | grep -c Read-only")
	c.says("0", "exec", "--sync", id, "sh", "-c", "wc -c </proc/keys")
	c.do("rm", "-f", id)
}

func criLimits(c *cri, name string) {
	requireController(c.t, "memory", "cpu", "cpuset")
	id := c.start(c.pod, name, idle, object{"linux": object{
		"resources":        object{"memory_limit_in_bytes": 67108864, "cpu_quota": 50000, "cpu_period": 100000, "cpu_shares": 512, "cpuset_cpus": "0", "oom_score_adj": 500},
		"security_context": object{"namespace_options": ownPid},
	}})
	pid := c.field(id, ".info.pid")
	if got := memoryLimit.value(c.t, pid); got != "67108864" {
		c.t.Errorf("memory limit %s", got)
	}
	c.says("500", "exec", "--sync", id, "cat", "/proc/1/oom_score_adj")
	c.says("1", "exec", "--sync", id, "nproc")
	c.do("update", "--memory", "100663296", "--cpu-quota", "25000", "--cpu-share", "256", id)
	if got := memoryLimit.value(c.t, pid); got != "100663296" {
		c.t.Errorf("memory limit after the update %s", got)
	}
	if got := cpuQuota.value(c.t, pid); !strings.HasPrefix(got, "25000") {
		c.t.Errorf("cpu quota after the update %s", got)
	}
	c.do("rm", "-f", id)
}

func criMounts(c *cri, name string) {
	dir := optionFiles(c.t)
	id := c.start(c.pod, name, idle, object{"mounts": []object{
		{"container_path": "/ro", "host_path": dir + "/shared", "readonly": true},
		{"container_path": "/prop", "host_path": dir + "/shared", "propagation": 1},
	}})
	c.says("from outside", "exec", "--sync", id, "cat", "/ro/in")
	c.says("1", "exec", "--sync", id, "sh", "-c", "touch /ro/x 2>&1 | grep -c Read-only")
	c.says("1", "exec", "--sync", id, "sh", "-c", "grep ' /prop ' /proc/self/mountinfo | grep -c master:")
	c.do("rm", "-f", id)
}

// criSharedPid: the containers of a pod see each other's processes, and the end of one
// does not end the other.
func criSharedPid(c *cri, name string) {
	pod := c.runPod(name, object{"pid": 0})
	shared := object{"linux": object{"security_context": object{"namespace_options": object{"network": node, "pid": 0}}}}
	one := c.start(pod, name+"1", idle, shared)
	two := c.start(pod, name+"2", "sleep 1234 & sleep 1235", shared)
	c.says("2", "exec", "--sync", one, "sh", "-c", "ps -o args | grep -c '^sleep 123[45]'")
	c.do("stop", "--timeout", "0", two)
	c.says("0", "exec", "--sync", one, "sh", "-c", "ps -o args | grep -c '^sleep 123[45]' || true")
	c.do("stopp", pod)
	c.do("rmp", pod)
}

func criStats(c *cri, name string) {
	requireController(c.t, "memory", "cpu")
	id := c.start(c.pod, name, idle, nil)
	var stats struct {
		Stats []struct {
			CPU    struct{ UsageCoreNanoSeconds struct{ Value string } }
			Memory struct{ WorkingSetBytes struct{ Value string } }
		}
	}
	if err := json.Unmarshal([]byte(c.do("stats", "--id", id, "-o", "json")), &stats); err != nil {
		c.t.Fatal(err)
	}
	if len(stats.Stats) != 1 || stats.Stats[0].CPU.UsageCoreNanoSeconds.Value == "0" || stats.Stats[0].Memory.WorkingSetBytes.Value == "0" {
		c.t.Errorf("stats: %+v", stats)
	}
	c.do("rm", "-f", id)
}

// criProfile: a seccomp profile from a file of the node, and a probe that it refuses.
func criProfile(c *cri, name string) {
	id := c.start(c.pod, name, idle, object{"linux": object{"security_context": object{
		"namespace_options": ownPid, "seccomp": object{"profile_type": 2, "localhost_ref": optionFiles(c.t) + "/chmod.json"},
	}}})
	if r := c.try("exec", "--sync", id, "chmod", "700", "/tmp"); r.code == 0 || !strings.Contains(r.stderr, "No anode") {
		c.t.Errorf("what the profile forbids: %s", r)
	}
	c.says("x", "exec", "--sync", id, "echo", "x")
	c.do("rm", "-f", id)
}

// criNode: a privileged container in the node's namespaces, whose mounts the node sees.
func criNode(c *cri, name string) {
	if why, not := noSysResource(); not {
		c.t.Skip(why)
	}
	dir := optionFiles(c.t)
	ofNode := object{"network": node, "pid": node, "ipc": node}
	pod := c.runPod(name, object{"pid": node, "privileged": true})
	id := c.start(pod, name, idle, object{
		"mounts": []object{{"container_path": "/shared", "host_path": dir + "/shared", "propagation": 2}},
		"linux":  object{"security_context": object{"namespace_options": ofNode, "privileged": true}},
	})
	for _, kind := range []string{"net", "pid"} {
		c.says(namespace(c.t, kind), "exec", "--sync", id, "readlink", "/proc/self/ns/"+kind)
	}
	c.do("exec", "--sync", id, "sh", "-c", "mkdir /shared/made && mount -t tmpfs x /shared/made && touch /shared/made/file")
	if !exists(dir + "/shared/made/file") {
		c.t.Error("a mount in the container does not reach the node")
	}
	c.do("exec", "--sync", id, "umount", "/shared/made")
	c.do("stopp", pod)
	c.do("rmp", pod)
}
