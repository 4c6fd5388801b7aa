package engines

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// ctrd is a containerd with its own client. Every container is run by the runtime
// under test, with its state below runcRoot.
type ctrd struct {
	client
	runcRoot string
	runFlags []string
}

// newContainerd starts the daemon with state of its own.
func newContainerd(t *testing.T, rt runtimeUnderTest) *ctrd {
	t.Helper()
	ctr := requireProgram(t, "ctr", "containerd")
	run := startContainerd(t, "disabled_plugins = [\"io.containerd.grpc.v1.cri\"]\n")
	c := &ctrd{
		client:   client{t: t, base: []string{ctr, "-a", run + "/sock", "-n", "engines"}},
		runcRoot: run + "/runc",
		runFlags: []string{"run", "--snapshotter=native", "--runc-binary", rt.path, "--runc-root", run + "/runc"},
	}
	c.do("images", "import", "--snapshotter=native", imageArchive(t))
	return c
}

// startContainerd starts a daemon with a few lines of configuration more, and returns
// the directory with its socket, which is named sock. When the test ends, nothing may
// be left of its containers.
func startContainerd(t *testing.T, config string) (run string) {
	t.Helper()
	dir, run := t.TempDir(), runDir(t)
	text := fmt.Sprintf("version = 2\nroot = %q\nstate = %q\n%s[grpc]\n  address = %q\n[ttrpc]\n  address = %q\n",
		dir+"/root", run+"/state", config, run+"/sock", run+"/ttrpc")
	if err := os.WriteFile(dir+"/config.toml", []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	log, err := os.Create(dir + "/log")
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	daemon := exec.Command(requireProgram(t, "containerd"), "-c", dir+"/config.toml")
	daemon.Stdout, daemon.Stderr = log, log
	if err := daemon.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		nothingLeft(t, engineState{processes: []string{"containerd"}})
		_ = daemon.Process.Signal(syscall.SIGTERM)
		_ = daemon.Wait()
		unmountBelow(run)
	})
	version := client{t: t, base: []string{requireProgram(t, "ctr"), "-a", run + "/sock"}}
	eventually(t, "containerd answers", func() bool { return version.try("version").code == 0 })
	return run
}

// tryRun runs a container whatever comes of it.
func (c *ctrd) tryRun(args ...string) result {
	c.t.Helper()
	return c.try(append(slices.Clone(c.runFlags), args...)...)
}

// start runs a container that ends on SIGTERM with code 5.
func (c *ctrd) start(id string, flags ...string) {
	c.t.Helper()
	args := append(append([]string{"-d"}, flags...), imageRef, id, "sh", "-c", "trap 'exit 5' TERM; touch /tmp/ready; while :; do sleep 0.05; done")
	if r := c.tryRun(args...); r.code != 0 {
		c.t.Fatalf("run %s: %s", id, r)
	}
	eventually(c.t, id+" is ready", func() bool {
		return c.try("tasks", "exec", "--exec-id", "ready", id, "ls", "/tmp/ready").code == 0
	})
}

// remove ends a task and removes task and container.
func (c *ctrd) remove(id string) {
	c.t.Helper()
	c.do("tasks", "delete", "--force", id)
	c.do("containers", "delete", id)
}

// status is what containerd has seen of a task.
func (c *ctrd) status(id string) string {
	c.t.Helper()
	for line := range strings.Lines(c.do("tasks", "ls")) {
		if fields := strings.Fields(line); len(fields) == 3 && fields[0] == id {
			return fields[2]
		}
	}
	return ""
}

func TestContainerd(t *testing.T) {
	eachRuntime(t, func(t *testing.T, rt runtimeUnderTest) {
		c := newContainerd(t, rt)
		for _, s := range []struct {
			name string
			test func(c *ctrd)
		}{
			{"run", ctrRun},
			{"options", ctrOptions},
			{"missing", ctrMissing},
			{"exec", ctrExec},
			{"terminal", ctrTerminal},
			{"kill", ctrKill},
			{"pause", ctrPause},
			{"limits", ctrLimits},
			{"namespaces", ctrNamespaces},
			{"state", ctrState},
		} {
			t.Run(s.name, func(t *testing.T) {
				here := *c
				here.t = t
				s.test(&here)
			})
		}
	})
}

// lingering is a command that stays for a moment when it has written. Debian's ctr closes
// the streams of a container that has ended, also when it has not read all yet, whatever the
// runtime (https://github.com/containerd/containerd/issues/5741).
func lingering(script string) []string {
	return []string{"sh", "-c", "(" + script + "); code=$?; sleep 0.1; exit $code"}
}

func ctrRun(c *ctrd) {
	if r := c.tryRun(append([]string{"--rm", imageRef, "run"}, lingering("echo out; echo err >&2; exit 42")...)...); r != (result{"out\n", "err\n", 42}) {
		c.t.Errorf("run: %s", r)
	}
	if r := c.tryRun("--rm", imageRef, "run", "sh", "-c", "kill -9 $PPID; true"); r.code != 0 {
		c.t.Errorf("run: %s", r)
	}
	if r := c.tryRun(append([]string{"--rm", imageRef, "run"}, lingering("ls /proc/self/fd")...)...); r.stdout != "0\n1\n2\n3\n" {
		c.t.Errorf("files of the command: %s", r)
	}
}

// ctrOptions are what ctr knows of the config beside the image.
func ctrOptions(c *ctrd) {
	dir := optionFiles(c.t)
	for _, o := range []struct {
		flags []string
		cmd   string
		want  string
	}{
		{[]string{"--env", "A=b c"}, `echo "$A"`, "b c\n"},
		{[]string{"--cwd", "/tmp"}, "pwd", "/tmp\n"},
		{[]string{"--user", "1000:1000"}, "echo $(id -u) $(id -g); : >/dev/stderr", "1000 1000\n"},
		{[]string{"--read-only"}, "touch /x 2>&1 | grep -c Read-only", "1\n"},
		{[]string{"--mount", "type=bind,src=" + dir + "/shared,dst=/v,options=rbind:ro"}, "cat /v/in", "from outside\n"},
		{[]string{"--mount", "type=tmpfs,src=tmpfs,dst=/t,options=size=65536:noexec"}, "df -k /t | tail -1 | awk '{print $2}'", "64\n"},
		{[]string{"--cap-drop", "CAP_CHOWN", "--cap-add", "CAP_NET_ADMIN"}, "grep CapEff /proc/self/status | cut -f2", "00000000a80435fa\n"},
		{[]string{"--seccomp"}, "grep -w Seccomp: /proc/self/status", "Seccomp:\t2\n"},
		{[]string{"--net-host"}, "readlink /proc/self/ns/net", namespace(c.t, "net") + "\n"},
		{[]string{"--no-pivot"}, "echo x", "x\n"},
		{[]string{"--device", "/dev/fuse"}, "ls /dev/fuse", "/dev/fuse\n"},
		{[]string{"--rootfs-propagation", "rshared"}, "echo x", "x\n"},
		{[]string{"--hostname", "thisbox"}, "hostname", "thisbox\n"},
	} {
		r := c.tryRun(slices.Concat([]string{"--rm"}, o.flags, []string{imageRef, "opt"}, lingering(o.cmd))...)
		if strings.Contains(r.stderr, "flag provided but not defined") {
			continue // by this version of ctr
		}
		if r.stdout != o.want || r.code != 0 {
			c.t.Errorf("%v: want %q, got %s", o.flags, o.want, r)
		}
	}
}

func ctrMissing(c *ctrd) {
	for command, want := range map[string]string{
		"no-such-command": `exec: "no-such-command": executable file not found in $PATH`,
		"/no/such":        `exec: "/no/such": stat /no/such: no such file or directory`,
		"/etc/passwd":     `exec: "/etc/passwd": permission denied`,
	} {
		if r := c.tryRun("--rm", imageRef, "missing", command); r.code == 0 || !strings.Contains(r.stderr, want) {
			c.t.Errorf("%s: %s", command, r)
		}
	}
}

func ctrExec(c *ctrd) {
	c.start("exec")
	if r := c.try(append([]string{"tasks", "exec", "--exec-id", "x1", "exec"}, lingering("echo $PPID; exit 7")...)...); r.stdout != "0\n" || r.code != 7 {
		c.t.Errorf("%s; want parent 0 (outside the pid namespace) and 7", r)
	}
	if r := c.try(append([]string{"tasks", "exec", "--exec-id", "x2", "--user", "1000", "--cwd", "/tmp", "exec"}, lingering("id -u; pwd")...)...); r.stdout != "1000\n/tmp\n" {
		c.t.Errorf("exec as a user: %s", r)
	}
	if r := c.try("tasks", "exec", "--exec-id", "x3", "exec", "no-such-command"); r.code == 0 || !strings.Contains(r.stderr, `exec: "no-such-command": executable file not found in $PATH`) {
		c.t.Errorf("exec of a missing command: %s", r)
	}
	c.do("tasks", "exec", "--exec-id", "x4", "--detach", "exec", "sleep", "1000")
	if lines := strings.Split(c.do("tasks", "ps", "exec"), "\n"); len(lines) < 3 || !strings.Contains(strings.Join(lines, " "), "x4") {
		c.t.Errorf("tasks ps = %q, want the command and exec x4", lines)
	}
	c.do("tasks", "kill", "--exec-id", "x4", "exec")
	c.remove("exec")
}

func ctrTerminal(c *ctrd) {
	s := c.terminal(append(slices.Clone(c.runFlags), "--rm", "-t", imageRef, "term", "sh", "-c", lines)...)
	s.reads("ready")
	s.types("tty; echo to-$(echo here)\n")
	s.reads("/dev/pts/0")
	s.reads("to-here")
	s.resize(33, 99)
	s.reads("size: 33 99")
	s.types("exit 5\n")
	s.ends(5)
	c.start("term")
	s = c.terminal("tasks", "exec", "-t", "--exec-id", "x", "term", "sh", "-c", "tty; exit 6")
	s.reads("/dev/pts/0")
	s.ends(6)
	c.remove("term")
}

func ctrKill(c *ctrd) {
	for signal, want := range map[string]string{"SIGTERM": "exit code 5", "SIGKILL": "exit code 137"} {
		c.start("kill")
		c.do("tasks", "kill", "-s", signal, "kill")
		eventually(c.t, "the task has stopped", func() bool { return c.status("kill") == "STOPPED" })
		if r := c.try("tasks", "kill", "kill"); r.code == 0 {
			c.t.Errorf("kill of a stopped task: %s", r)
		}
		if r := c.try("tasks", "delete", "kill"); !strings.Contains(r.stdout+r.stderr, want) {
			c.t.Errorf("%s: %s; want %q", signal, r, want)
		}
		c.do("containers", "delete", "kill")
	}
}

func ctrPause(c *ctrd) {
	c.start("pause")
	c.do("tasks", "pause", "pause")
	if got := c.status("pause"); got != "PAUSED" {
		c.t.Errorf("status %s, want PAUSED", got)
	}
	if r := c.try("tasks", "exec", "--exec-id", "x", "pause", "true"); r.code == 0 || !strings.Contains(r.stderr, "paused") {
		c.t.Errorf("exec in a paused task: %s", r)
	}
	c.do("tasks", "resume", "pause")
	if got := c.status("pause"); got != "RUNNING" {
		c.t.Errorf("status %s, want RUNNING", got)
	}
	c.do("tasks", "pause", "pause")
	c.do("tasks", "kill", "-s", "SIGKILL", "pause")
	eventually(c.t, "the frozen task is dead or thawed", func() bool {
		c.try("tasks", "resume", "pause")
		return c.status("pause") == "STOPPED"
	})
	c.remove("pause")
}

func ctrLimits(c *ctrd) {
	requireController(c.t, "memory", "cpu")
	c.start("limits", "--memory-limit", "67108864", "--cpus", "0.5")
	pid := ""
	for line := range strings.Lines(c.do("tasks", "ls")) {
		if fields := strings.Fields(line); len(fields) == 3 && fields[0] == "limits" {
			pid = fields[1]
		}
	}
	if got := memoryLimit.value(c.t, pid); got != "67108864" {
		c.t.Errorf("memory limit %q", got)
	}
	if got := cpuQuota.value(c.t, pid); got != "50000" && got != "50000 100000" {
		c.t.Errorf("cpu quota %q", got)
	}
	if metrics := c.do("tasks", "metrics", "limits"); !strings.Contains(metrics, "67108864") {
		c.t.Errorf("the metrics have no memory limit:\n%s", metrics)
	}
	c.remove("limits")
}

func ctrNamespaces(c *ctrd) {
	c.start("ns")
	pid := ""
	for line := range strings.Lines(c.do("tasks", "ls")) {
		if fields := strings.Fields(line); len(fields) == 3 && fields[0] == "ns" {
			pid = fields[1]
		}
	}
	for flag, kind := range map[string]string{"network": "net", "ipc": "ipc", "uts": "uts", "pid": "pid"} {
		want, err := os.Readlink("/proc/" + pid + "/ns/" + kind)
		if err != nil {
			c.t.Fatal(err)
		}
		r := c.tryRun(append([]string{"--rm", "--with-ns", flag + ":/proc/" + pid + "/ns/" + kind, imageRef, "ns2"}, lingering("readlink /proc/self/ns/"+kind)...)...)
		if r.stdout != want+"\n" {
			c.t.Errorf("joined %s namespace: want %s, got %s", flag, want, r)
		}
	}
	c.remove("ns")
}

// ctrState: the runtime's own state is where --runc-root says, and tells the truth.
func ctrState(c *ctrd) {
	c.start("state")
	state := client{t: c.t, base: []string{c.runFlags[3], "--root", c.runcRoot + "/engines"}}
	var got struct {
		ID, Status string
		Pid        int
	}
	if err := json.Unmarshal([]byte(state.do("state", "state")), &got); err != nil {
		c.t.Fatal(err)
	}
	if got.ID != "state" || got.Status != "running" || got.Pid == 0 {
		c.t.Errorf("state: %+v", got)
	}
	var pids []int
	if err := json.Unmarshal([]byte(state.do("ps", "--format", "json", "state")), &pids); err != nil || !slices.Contains(pids, got.Pid) {
		c.t.Errorf("ps: %v %v, want %d among them", pids, err, got.Pid)
	}
	// Killed behind the engine's back.
	state.do("kill", "state", strconv.Itoa(int(syscall.SIGKILL)))
	eventually(c.t, "containerd sees it", func() bool { return c.status("state") == "STOPPED" })
	c.remove("state")
	state.fails(1, nil, "state", "state")
}
