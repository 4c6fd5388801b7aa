package runtime

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"box/internal/sys"
	"box/internal/testkit"
	"box/pkg/cgroups"
	"box/pkg/spec/gen"
)

func TestLifecycle(t *testing.T) {
	b := newBench(t, "sleep", "1000")
	b.save()
	pidFile := b.bundle + "/pid"
	b.do("create", "--pid-file", pidFile, b.id)
	st := b.expectStatus(Created)
	if got := testkit.Text(t, pidFile); got != strconv.Itoa(st.Pid) {
		t.Errorf("pid file = %q, state says %d", got, st.Pid)
	}
	if comm := testkit.Text(t, fmt.Sprintf("/proc/%d/comm", st.Pid)); comm == "sleep\n" {
		t.Error("the command runs before start")
	}
	b.do("start", b.id)
	b.expectStatus(Running)
	if comm := testkit.Text(t, fmt.Sprintf("/proc/%d/comm", st.Pid)); comm != "sleep\n" {
		t.Errorf("after start the process is %q, want sleep", comm)
	}
	if r := b.try("start", b.id); r.code == 0 || !strings.Contains(r.err, "already running") {
		t.Errorf("second start: %+v", r)
	}
	if r := b.try("delete", b.id); r.code == 0 || !strings.Contains(r.err, "not stopped: running") {
		t.Errorf("delete of a running container: %+v", r)
	}
	if r := b.try("create", b.id); r.code != 1 || !strings.Contains(r.err, "already exists") {
		t.Errorf("second create: %+v", r)
	}
	b.do("kill", b.id, "KILL")
	waitGone(t, st.Pid)
	if st := b.expectStatus(Stopped); st.Pid != 0 {
		t.Errorf("a stopped container has pid %d", st.Pid)
	}
	if r := b.try("kill", b.id, "TERM"); r.code == 0 || !strings.Contains(r.err, "container not running") {
		t.Errorf("kill of a stopped container: %+v", r)
	}
	b.do("kill", "--all", b.id, "KILL")
	b.do("delete", b.id)
	if r := b.try("delete", b.id); r.code == 0 || !strings.Contains(r.err, "does not exist") {
		t.Errorf("second delete: %+v", r)
	}
	b.do("delete", "--force", b.id)
}

// Without a pid namespace of its own nothing dies with the init process: KILL is for
// all of the container, also when its init is gone already.
func TestKillWithoutPidNamespace(t *testing.T) {
	b := newBench(t, "sleep", "1000")
	gen.WithoutNamespace(b.spec, specs.PIDNamespace)
	for _, initGone := range []bool{false, true} {
		if r := b.run("--detach"); r.code != 0 {
			t.Fatal(r.err)
		}
		init := b.expectStatus(Running).Pid
		b.do("exec", "--detach", b.id, "sleep", "1001")
		var pids []int
		if err := json.Unmarshal([]byte(b.do("ps", "-f", "json", b.id)), &pids); err != nil || len(pids) != 2 {
			t.Fatalf("processes %v, %v", pids, err)
		}
		if initGone {
			pidfd, err := sys.PidfdOpen(init)
			if err != nil {
				t.Fatal(err)
			}
			if err := sys.PidfdSendSignal(pidfd, unix.SIGKILL); err != nil {
				t.Fatal(err)
			}
			pidfd.Close()
			waitGone(t, init)
			b.expectStatus(Stopped)
		}
		b.do("kill", b.id, "KILL")
		for _, pid := range pids {
			waitGone(t, pid)
		}
		b.do("delete", b.id)
	}
}

func TestExecInSubgroup(t *testing.T) {
	b := newBench(t, "sleep", "1000")
	if r := b.run("--detach"); r.code != 0 {
		t.Fatal(r.err)
	}
	defer b.do("delete", "--force", b.id)
	dir, named := groupOf(t, b.state().Pid)
	if err := os.Mkdir(dir+"/below", 0o755); err != nil {
		t.Fatal(err)
	}
	pidFile := b.bundle + "/pid"
	b.do("exec", "--detach", "--pid-file", pidFile, "--cgroup", named+"below", b.id, "sleep", "1001")
	if got, want := testkit.Text(t, dir+"/below/cgroup.procs"), testkit.Text(t, pidFile)+"\n"; got != want {
		t.Errorf("processes in the group: %q, want %q", got, want)
	}
	for path, want := range map[string]string{
		"..":              "bad sub cgroup path",
		"/a/../..":        "bad sub cgroup path",
		named + "missing": "no such file or directory",
	} {
		if r := b.try("exec", "--cgroup", path, b.id, "true"); r.code != 255 || !strings.Contains(r.err, want) {
			t.Errorf("--cgroup %s: %+v, want %q", path, r, want)
		}
	}
	b.do("exec", "--cgroup", "/", b.id, "true")
}

// groupOf returns the directory of a process's cgroup, and what goes before a path
// below it in --cgroup: on a v1 host the controller whose hierarchy is meant.
func groupOf(t *testing.T, pid int) (dir, named string) {
	for line := range strings.Lines(testkit.Text(t, fmt.Sprintf("/proc/%d/cgroup", pid))) {
		switch f := strings.SplitN(strings.TrimSpace(line), ":", 3); f[1] {
		case "pids":
			return "/sys/fs/cgroup/pids" + f[2], "pids:"
		case "":
			dir = f[2]
		}
	}
	mount, err := cgroups.Root()
	if err != nil {
		t.Fatal(err)
	}
	return mount + dir, ""
}

// Two verbs that change one container wait for each other.
func TestVerbsAreSerialised(t *testing.T) {
	b := newBench(t, "sleep", "1000")
	if r := b.run("--detach"); r.code != 0 {
		t.Fatal(r.err)
	}
	lock, err := (&Runtime{Root: b.root}).lock(b.id)
	if err != nil {
		t.Fatal(err)
	}
	var all []*exec.Cmd
	for _, verb := range []string{"pause", "delete"} {
		cmd := b.command(verb, b.id)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		all = append(all, cmd)
	}
	b.do("kill", b.id, "0") // gets through
	b.do("exec", b.id, "true")
	b.expectStatus(Running) // nothing has happened yet
	lock.Close()
	if err := all[0].Wait(); err != nil {
		t.Errorf("pause: %v", err)
	}
	if err := all[1].Wait(); err == nil {
		t.Error("delete of a running container went through")
	}
	b.expectStatus(Paused)
	if r := b.try("exec", b.id, "true"); r.code != 255 || !strings.Contains(r.err, "cannot exec in a paused container") {
		t.Errorf("exec when paused: %+v", r)
	}
	if r := b.try("pause", b.id); r.code != 1 {
		t.Errorf("second pause: %+v", r)
	}
	b.do("resume", b.id)
	if r := b.try("resume", b.id); r.code != 1 || !strings.Contains(r.err, "container not paused") {
		t.Errorf("second resume: %+v", r)
	}
	b.do("pause", b.id)
	pid := b.expectStatus(Paused).Pid
	b.do("kill", b.id, "KILL")
	waitGone(t, pid)
	b.do("delete", b.id)
}

// A container that waits for start has nothing open but its streams and its channels:
// no mount, no directory, nothing of the host.
func TestCreatedHoldsNothing(t *testing.T) {
	b := newBench(t, "true")
	b.save()
	b.do("create", b.id)
	defer b.do("delete", "--force", b.id)
	dir := fmt.Sprintf("/proc/%d/fd", b.expectStatus(Created).Pid)
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		target, err := os.Readlink(filepath.Join(dir, e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		fd, _ := strconv.Atoi(e.Name())
		if fd > 2 && !strings.HasPrefix(target, "pipe:") && !strings.HasSuffix(target, "/"+startFifo) {
			t.Errorf("descriptor %d is %s", fd, target)
		}
	}
}

// A created container that is killed before start is one that start finds stopped,
// whoever is first.
func TestStartOfAKilledContainer(t *testing.T) {
	b := newBench(t, "sleep", "1000")
	b.save()
	b.do("create", b.id)
	pid := b.expectStatus(Created).Pid
	b.do("kill", b.id, "KILL")
	waitGone(t, pid)
	if r := b.try("start", b.id); r.code != 1 || !strings.Contains(r.err, "cannot start a container that has stopped") {
		t.Errorf("%+v", r)
	}
	// The same for a start that believes it to be alive.
	c, err := (&Runtime{Root: b.root}).load(b.id)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.letGo(); err == nil || !strings.Contains(err.Error(), "has stopped") {
		t.Errorf("letGo of a dead program: %v", err)
	}
	b.do("delete", b.id)
}

// A container that waits for start ends by the signals that would end its command.
func TestSignalsEndACreatedContainer(t *testing.T) {
	b := newBench(t, "sleep", "1000")
	b.save()
	for _, sig := range []string{"TERM", "INT", "USR1"} {
		b.do("create", b.id)
		pid := b.expectStatus(Created).Pid
		b.do("kill", b.id, "WINCH") // ends nobody
		b.expectStatus(Created)
		b.do("kill", b.id, sig)
		waitGone(t, pid)
		b.expectStatus(Stopped)
		b.do("delete", b.id)
	}
}

// A caller that waits for our delete cannot reap the processes that it has in the
// container meanwhile, without which init does not end. Delete does not wait for that.
func TestDeleteWaitsForNobodyElsesChildren(t *testing.T) {
	b := newBench(t, "sleep", "1000")
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0) }()
	if r := b.run("--detach"); r.code != 0 {
		t.Fatal(r.err)
	}
	init := b.state().Pid
	b.do("exec", "--detach", "--pid-file", b.bundle+"/pid", b.id, "sleep", "1001")
	b.do("delete", "--force", b.id)
	other, err := strconv.Atoi(testkit.Text(t, b.bundle+"/pid"))
	if err != nil {
		t.Fatal(err)
	}
	for _, pid := range []int{other, init} { // in this order: the second ends with the first
		var ws unix.WaitStatus
		if _, err := unix.Wait4(pid, &ws, 0, nil); err != nil || !ws.Signaled() {
			t.Errorf("process %d: status %#x, %v", pid, ws, err)
		}
	}
}

func TestExitCodes(t *testing.T) {
	b := newBench(t)
	for _, c := range []struct {
		script string
		code   int
	}{{"exit 0", 0}, {"exit 42", 42}, {"kill -TERM $$; exit 3", 3}, {"sh -c 'kill -KILL $$'; exit $?", 137}} {
		b.spec.Process.Args = []string{"sh", "-c", c.script}
		if r := b.run(); r.code != c.code || strings.Contains(r.err, "box-runtime") {
			t.Errorf("%q: %+v, want %d", c.script, r, c.code)
		}
	}
}

func TestErrorsGoToTheLog(t *testing.T) {
	b := newBench(t, "nope")
	b.save()
	log := b.bundle + "/log.json"
	r := b.try("--log", log, "--log-format", "json", "create", b.id)
	if r.code != 1 || r.out+r.err != "" {
		t.Errorf("create: %+v, want silence: the streams are the container's", r)
	}
	lines := strings.Split(strings.TrimSpace(testkit.Text(t, log)), "\n")
	var last struct{ Level, Msg, Time string }
	if err := json.Unmarshal([]byte(lines[len(lines)-1]), &last); err != nil {
		t.Fatal(err)
	}
	if last.Level != "error" || last.Time == "" || last.Msg != `exec: "nope": executable file not found in $PATH` {
		t.Errorf("last line of the log = %+v", last)
	}
}

// What the process of the spec says is what the command finds.
func TestProcess(t *testing.T) {
	soft, hard, mask, score := uint64(64), uint64(128), uint32(0o27), 500
	for name, c := range map[string]struct {
		change func(*specs.Spec)
		script string
		want   string
	}{
		"user": {func(s *specs.Spec) {
			s.Process.User = specs.User{UID: 1000, GID: 100, AdditionalGids: []uint32{100, 7}}
		}, "id -u; id -g; id -G", "1000\n100\n100 7\n"},
		"home":     {func(*specs.Spec) {}, "echo $HOME", "/\n"},
		"cwd":      {func(s *specs.Spec) { s.Process.Cwd = "/made/for/it" }, "pwd", "/made/for/it\n"},
		"hostname": {func(s *specs.Spec) { s.Hostname = "spot" }, "hostname", "spot\n"},
		"rlimit": {func(s *specs.Spec) {
			s.Process.Rlimits = []specs.POSIXRlimit{{Type: "RLIMIT_NOFILE", Soft: soft, Hard: hard}, {Type: "RLIMIT_CORE", Soft: 0, Hard: 0}}
		}, "ulimit -Sn; ulimit -Hn; ulimit -Hc", "64\n128\n0\n"},
		"umask":      {func(s *specs.Spec) { s.Process.User.Umask = &mask }, "umask", "0027\n"},
		"no umask":   {func(*specs.Spec) {}, "umask", "0022\n"},
		"oom score":  {func(s *specs.Spec) { s.Process.OOMScoreAdj = &score }, "cat /proc/self/oom_score_adj", "500\n"},
		"sysctl":     {func(s *specs.Spec) { s.Linux.Sysctl = map[string]string{"net.ipv4.ip_unprivileged_port_start": "80"} }, "cat /proc/sys/net/ipv4/ip_unprivileged_port_start", "80\n"},
		"no caps":    {func(s *specs.Spec) { s.Process.Capabilities = nil }, "while read k v; do case $k in Cap*) echo $v; esac; done < /proc/self/status", strings.Repeat("0000000000000000\n", 5)},
		"loopback":   {func(*specs.Spec) {}, "cat /sys/class/net/lo/operstate", "unknown\n"},
		"first":      {func(*specs.Spec) {}, "echo $$", "1\n"},
		"session":    {func(*specs.Spec) {}, "read a b c d e sid f < /proc/self/stat; echo $sid", "1\n"},
		"privileges": {func(s *specs.Spec) { s.Process.NoNewPrivileges = true }, "while read k v; do case $k in NoNewPrivs:) echo $v; esac; done < /proc/self/status", "1\n"},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t, "sh", "-c", c.script)
			c.change(b.spec)
			if r := b.run(); r.out != c.want || r.code != 0 {
				t.Errorf("%+v, want %q", r, c.want)
			}
		})
	}
}

func TestExec(t *testing.T) {
	b := newBench(t, "sleep", "1000")
	b.spec.Process.Env = append(b.spec.Process.Env, "OWN=1")
	b.save()
	b.do("run", "-d", b.id)
	defer b.do("delete", "--force", b.id)
	for _, c := range []struct {
		args []string
		out  string
		code int
	}{
		{[]string{b.id, "sh", "-c", "echo $OWN; exit 9"}, "1\n", 9},
		{[]string{"-e", "OWN=2", "--env", "X=y", b.id, "sh", "-c", "echo $OWN$X"}, "2y\n", 0},
		{[]string{"-u", "5:6", "-g", "7", "--additional-gids", "8,9", b.id, "sh", "-c", "id -u; id -g; id -G"}, "5\n6\n6 7 8 9\n", 0},
		{[]string{"--cwd", "/bin", b.id, "sh", "-c", "pwd"}, "/bin\n", 0},
		{[]string{b.id, "sh", "-c", "kill -9 $$"}, "", 137},
		{[]string{b.id, "cat", "/proc/1/comm"}, "sleep\n", 0},
		{[]string{b.id, "nope"}, "", 255},
		{[]string{"--cwd", "/no/such", b.id, "true"}, "", 255},
		{[]string{"-u", "root", b.id, "true"}, "", 255},
	} {
		r := b.try(append([]string{"exec"}, c.args...)...)
		if r.out != c.out || r.code != c.code {
			t.Errorf("exec %v: %+v, want %q and %d", c.args, r, c.out, c.code)
		}
	}
	process := b.bundle + "/process.json"
	text := `{"args": ["sh", "-c", "echo $A $(id -u); sleep 1000"], "env": ["PATH=/bin", "A=file"], "cwd": "/", "user": {"uid": 3, "gid": 3}}`
	if err := os.WriteFile(process, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	b.do("exec", "-d", "--process", process, "--pid-file", b.bundle+"/exec.pid", b.id)
	var pids []int
	if err := json.Unmarshal([]byte(b.do("ps", "--format", "json", b.id)), &pids); err != nil {
		t.Fatal(err)
	}
	execPid, _ := strconv.Atoi(testkit.Text(t, b.bundle+"/exec.pid"))
	if len(pids) < 2 || !slices.Contains(pids, execPid) {
		t.Errorf("ps = %v, want the init and %d", pids, execPid)
	}
}

func TestPause(t *testing.T) {
	b := newBench(t, "sleep", "1000")
	b.save()
	b.do("run", "-d", b.id)
	defer b.do("delete", "--force", b.id)
	b.do("pause", b.id)
	b.expectStatus(Paused)
	if r := b.try("exec", b.id, "true"); r.code != 255 || !strings.Contains(r.err, "cannot exec in a paused container") {
		t.Errorf("exec while paused: %+v", r)
	}
	b.do("resume", b.id)
	b.expectStatus(Running)
	b.do("exec", b.id, "true")
	b.do("pause", b.id) // delete --force must get at a frozen one
}

// A container that waits for start can be paused, too; it goes on waiting when it is
// resumed, and who would start it in between is told why he cannot.
func TestPauseBeforeStart(t *testing.T) {
	b := newBench(t, "sleep", "1000")
	b.save()
	b.do("create", b.id)
	b.do("pause", b.id)
	b.expectStatus(Paused)
	for verb, want := range map[string]string{
		"start": "cannot start a container in the paused state", "checkpoint": "cannot be checkpointed in created state", "delete": "that is not stopped",
	} {
		if r := b.try(verb, b.id); r.code != 1 || !strings.Contains(r.err, want) {
			t.Errorf("%s: %+v, want %q", verb, r, want)
		}
	}
	b.do("resume", b.id)
	b.expectStatus(Created)
	b.do("start", b.id)
	b.expectStatus(Running)
	b.do("delete", "--force", b.id)
}

// A create that hangs in a hook holds the lock; delete --force gets through.
func TestDeleteForceEndsAHangingCreate(t *testing.T) {
	b := newBench(t, "true")
	fifo := b.bundle + "/reached"
	b.spec.Hooks = &specs.Hooks{CreateContainer: []specs.Hook{{
		Path: "/bin/sh", Args: []string{"sh", "-c", "echo > " + fifo + "; exec sleep 1000"}, Env: []string{"PATH=/bin:/usr/bin"},
	}}}
	b.save()
	if err := mkfifo(fifo); err != nil {
		t.Fatal(err)
	}
	create := b.command("create", b.id)
	killGroup(create)
	if err := create.Start(); err != nil {
		t.Fatal(err)
	}
	_ = testkit.Text(t, fifo) // ends when the hook has got there
	b.do("delete", "--force", b.id)
	if err := create.Wait(); err == nil {
		t.Error("create succeeded though its container was deleted")
	}
}
