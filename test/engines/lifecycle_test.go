package engines

import (
	"io"
	"net/http"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"
)

// scenario is something that holds of every engine with Docker's command line.
// Its containers bear its own name, or begin with it.
type scenario struct {
	name string
	test func(c client, name string)
}

var scenarios = []scenario{
	{"exec", testExec},
	{"exec-refused", testExecRefused},
	{"exec-terminal", testExecTerminal},
	{"terminal", testTerminal},
	{"detach", testDetach},
	{"stop", testStop},
	{"kill", testKill},
	{"pause", testPause},
	{"restart", testRestart},
	{"create", testCreate},
	{"attach", testAttach},
	{"logs", testLogs},
	{"top", testTop},
	{"copy", testCopy},
	{"wait", testWait},
	{"proxy", testSignalProxy},
	{"remove", testRemove},
	{"shared", testSharedNamespaces},
	{"publish", testPublish},
	{"on-failure", testRestartOnFailure},
	{"interpreter", testMissingInterpreter},
}

// testScenarios runs all of them with one engine, beside each other.
func testScenarios(t *testing.T, c client, list []scenario) {
	for _, s := range list {
		t.Run(s.name, func(t *testing.T) {
			t.Parallel()
			c := c.in(t)
			t.Cleanup(func() { c.try("rm", "-f", s.name) })
			s.test(c, s.name)
		})
	}
}

// sleeper runs a container that ends on SIGTERM with code 5.
func (c client) sleeper(name string, flags ...string) {
	c.t.Helper()
	args := append([]string{"run", "-d", "--name", name}, flags...)
	c.do(append(args, imageRef, "sh", "-c", "trap 'exit 5' TERM; trap 'echo caught USR1' USR1; echo ready; while :; do sleep 0.05; done")...)
	c.logged(name, "ready")
}

// logged waits until a container has printed a line.
func (c client) logged(name, line string) {
	c.t.Helper()
	eventually(c.t, name+" prints "+line, func() bool {
		return strings.Contains("\n"+c.try("logs", name).stdout, "\n"+line+"\n")
	})
}

// inspect prints one field of a container.
func (c client) inspect(name, field string) string {
	c.t.Helper()
	return c.do("inspect", "--format", "{{"+field+"}}", name)
}

// holds checks one field of a container.
func (c client) holds(name, field, want string) {
	c.t.Helper()
	if got := c.inspect(name, field); got != want {
		c.t.Errorf("%s of %s is %q, want %q", field, name, got, want)
	}
}

// becomes waits for a field to have a value that other processes bring about.
func (c client) becomes(name, field, want string) {
	c.t.Helper()
	eventually(c.t, field+" of "+name+" is "+want, func() bool { return c.inspect(name, field) == want })
}

// prints checks a command's whole output.
func (c client) prints(want string, args ...string) {
	c.t.Helper()
	if got := c.do(args...); got != want {
		c.t.Errorf("%s: printed %q, want %q", strings.Join(args, " "), got, want)
	}
}

func testExec(c client, name string) {
	c.sleeper(name, "-e", "A=of the container")
	c.prints("of the container", "exec", name, "sh", "-c", "echo $A")
	c.prints("b", "exec", "-e", "A=b", name, "sh", "-c", "echo $A")
	c.prints("/tmp", "exec", "-w", "/tmp", name, "pwd")
	c.prints("1000 2000", "exec", "-u", "app", name, "id", "-G")
	c.prints("7:8", "exec", "-u", "7:8", name, "sh", "-c", "echo $(id -u):$(id -g)")
	c.prints("0\n1\n2\n3", "exec", name, "ls", "/proc/self/fd")
	c.prints("", "exec", "-u", "app", name, "sh", "-c", ": >/dev/stderr") // its own, though root made it
	c.fails(42, nil, "exec", name, "sh", "-c", "exit 42")
	c.fails(137, nil, "exec", name, "sh", "-c", "kill -9 $$")
	if r := c.feed("typed", "exec", "-i", name, "cat"); r.stdout != "typed" {
		c.t.Errorf("stdin of exec: %s", r)
	}
	c.do("exec", "-d", name, "sh", "-c", "echo $A >/tmp/done")
	eventually(c.t, "the detached exec is done", func() bool { return c.try("exec", name, "cat", "/tmp/done").stdout == "of the container\n" })
	same := c.do("exec", name, "sh", "-c", "for n in net pid ipc uts mnt cgroup; do readlink /proc/1/ns/$n /proc/self/ns/$n; done | uniq -c | grep -vc ' 2 ' || true")
	if same != "0" {
		c.t.Errorf("%s namespaces of an exec are not the container's", same)
	}
}

func testExecRefused(c client, name string) {
	c.sleeper(name)
	// Docker 20.10 ends with 126 here, whatever the reason.
	if r := c.try("exec", name, "no-such-command"); r.code != 126 && r.code != 127 || !strings.Contains(r.stdout+r.stderr, `executable file not found in $PATH`) {
		c.t.Errorf("exec of a missing command: %s", r)
	}
	c.fails(126, []string{"ermission denied"}, "exec", name, "/etc/passwd")
	if r := c.try("exec", "-w", "/no/such", name, "true"); r.code == 0 {
		c.t.Errorf("exec in a missing directory: %s", r)
	}
	c.do("stop", "-t", "10", name)
	if r := c.try("exec", name, "true"); r.code == 0 || !strings.Contains(r.stderr, "running") {
		c.t.Errorf("exec in a stopped container: %s", r)
	}
}

// lines is a shell that reads lines as they are: an interactive one edits them, and
// drops what is typed ahead. Engines set the size after the start; only then is it
// ready, for the signal would disturb its reading.
const lines = "until [ \"$(stty size)\" = '24 80' ]; do sleep 0.02; done; trap 'echo inter-rupted' INT; trap 'echo size: $(stty size)' WINCH; " +
	"echo ready; while :; do read -r line && eval \"$line\"; done"

func testExecTerminal(c client, name string) {
	c.sleeper(name)
	s := c.terminal("exec", "-it", name, "sh", "-c", lines)
	s.reads("ready")
	s.types("tty; echo to-$(echo here)\n")
	s.reads("/dev/pts/0")
	s.reads("to-here")
	s.resize(33, 99)
	s.reads("size: 33 99")
	s.types("exit 3\n")
	s.ends(3)
}

func testTerminal(c client, name string) {
	s := c.terminal("run", "-it", "--name", name, imageRef, "sh", "-c", lines)
	s.reads("ready")
	s.types("tty; stat -c 'is a %F' /dev/console\n")
	s.reads("/dev/pts/0")
	s.reads("is a character special file")
	s.resize(33, 99)
	s.reads("size: 33 99")
	s.types("\x03") // the terminal's own interrupt
	s.reads("inter-rupted")
	s.types("exit 4\n")
	s.ends(4)
	c.holds(name, ".State.ExitCode", "4")
}

func testDetach(c client, name string) {
	s := c.terminal("run", "-it", "--name", name, imageRef, "sh", "-c", lines)
	s.reads("ready")
	s.types("\x10") // ctrl-p ctrl-q, which podman only knows if they arrive one by one
	time.Sleep(200 * time.Millisecond)
	s.types("\x11")
	s.ends(0)
	c.holds(name, ".State.Running", "true")
	again := c.terminal("attach", name)
	again.types("echo again-$(echo here)\n")
	again.reads("again-here")
	again.types("exit 6\n")
	c.becomes(name, ".State.ExitCode", "6")
}

func testStop(c client, name string) {
	c.sleeper(name)
	c.do("stop", "-t", "20", name)
	c.holds(name, ".State.ExitCode", "5")
	c.holds(name, ".State.Running", "false")
	c.do("stop", name) // again: nothing to do

	c.do("rm", name)
	c.do("run", "-d", "--name", name, imageRef, "sh", "-c", "trap '' TERM; echo ready; while :; do sleep 0.05; done")
	c.logged(name, "ready")
	c.do("stop", "-t", "1", name)
	c.holds(name, ".State.ExitCode", "137")

	c.do("rm", name)
	c.do("run", "-d", "--name", name, "--stop-signal", "USR2", imageRef, "sh", "-c", "trap 'exit 8' USR2; echo ready; while :; do sleep 0.05; done")
	c.logged(name, "ready")
	c.do("stop", "-t", "20", name)
	c.holds(name, ".State.ExitCode", "8")
}

func testKill(c client, name string) {
	c.sleeper(name)
	c.do("kill", "-s", "USR1", name)
	c.logged(name, "caught USR1")
	c.holds(name, ".State.Running", "true")
	c.do("kill", name)
	c.becomes(name, ".State.Running", "false")
	c.holds(name, ".State.ExitCode", "137")
	if r := c.try("kill", name); r.code == 0 {
		c.t.Errorf("kill of a stopped container: %s", r)
	}
}

func testPause(c client, name string) {
	c.do("run", "-d", "--name", name, imageRef, "sh", "-c", "while :; do echo tick; sleep 0.02; done")
	c.logged(name, "tick")
	ticks := func() int { return strings.Count(c.do("logs", name), "tick") }
	c.do("pause", name)
	c.holds(name, ".State.Status", "paused")
	if r := c.try("exec", name, "true"); r.code == 0 || !strings.Contains(r.stderr, "paused") && !strings.Contains(r.stderr, "state improper") {
		c.t.Errorf("exec in a paused container: %s", r)
	}
	before := ticks()
	time.Sleep(200 * time.Millisecond) // a container that runs would tick some ten times
	if after := ticks(); after != before {
		c.t.Errorf("%d ticks of a paused container", after-before)
	}
	c.do("unpause", name)
	c.holds(name, ".State.Status", "running")
	eventually(c.t, "it ticks again", func() bool { return ticks() > before })
	c.prints("x", "exec", name, "echo", "x")
	c.do("pause", name)
	c.do("rm", "-f", name) // thaws it, or kills it frozen
}

func testRestart(c client, name string) {
	c.sleeper(name)
	before := c.inspect(name, ".State.Pid")
	c.do("restart", "-t", "20", name)
	c.holds(name, ".State.Running", "true")
	if after := c.inspect(name, ".State.Pid"); after == before || after == "0" {
		c.t.Errorf("process %s before and %s after a restart", before, after)
	}
	c.prints("x", "exec", name, "echo", "x")
}

func testCreate(c client, name string) {
	c.do("create", "--name", name, imageRef, "sh", "-c", "echo hello; exit 9")
	c.holds(name, ".State.Status", "created")
	r := c.try("start", "-a", name)
	if r.stdout != "hello\n" || r.code != 9 {
		c.t.Errorf("start -a: %s", r)
	}
	if r := c.try("start", "-a", name); r.stdout != "hello\n" || r.code != 9 {
		c.t.Errorf("start again: %s", r)
	}
}

func testAttach(c client, name string) {
	c.do("run", "-d", "-i", "--name", name, imageRef, "sh", "-c", "echo ready; read line; echo \"got $line\"; exit 3")
	c.logged(name, "ready")
	c.feed("a line\n", "attach", name) // may end before the last output
	c.becomes(name, ".State.ExitCode", "3")
	c.logged(name, "got a line")
}

func testLogs(c client, name string) {
	c.do("run", "-d", "--name", name, imageRef, "sh", "-c", "echo one; echo two >&2; printf 'three without end'")
	c.do("wait", name)
	r := c.try("logs", name)
	if r.stdout != "one\nthree without end" && r.stdout != "one\nthree without end\n" || r.stderr != "two\n" {
		c.t.Errorf("logs: %s", r)
	}
	c.do("rm", name)
	c.do("run", "-d", "--name", name, imageRef, "sh", "-c", "for i in 1 2 3 4 5; do echo line $i; sleep 0.1; done")
	if r := c.try("logs", "-f", name); r.stdout != "line 1\nline 2\nline 3\nline 4\nline 5\n" {
		c.t.Errorf("logs -f: %s", r)
	}
}

func testTop(c client, name string) {
	c.sleeper(name)
	c.do("exec", "-d", name, "sleep", "1000")
	eventually(c.t, "top shows the exec", func() bool { return strings.Contains(c.do("top", name), "sleep 1000") })
	if top := c.do("top", name); !strings.Contains(top, "trap") {
		c.t.Errorf("top shows no command:\n%s", top)
	}
}

func testCopy(c client, name string) {
	c.sleeper(name)
	dir := c.t.TempDir()
	c.do("exec", name, "sh", "-c", "echo inside >/tmp/file")
	c.do("cp", name+":/tmp/file", dir+"/out")
	c.do("cp", dir+"/out", name+":/tmp/back")
	c.prints("inside", "exec", name, "cat", "/tmp/back")
}

func testWait(c client, name string) {
	c.do("run", "-d", "--name", name, imageRef, "sh", "-c", "sleep 0.3; exit 11")
	c.prints("11", "wait", name)
	c.prints("11", "wait", name) // also when it is over
}

// testSignalProxy: a signal for the client in the foreground is one for the
// container.
func testSignalProxy(c client, name string) {
	full := append(c.base[:len(c.base):len(c.base)], "run", "--name", name, imageRef,
		"sh", "-c", "trap 'exit 12' TERM; echo ready; while :; do sleep 0.05; done")
	cmd := exec.Command(full[0], full[1:]...)
	cmd.Env = append(cmd.Environ(), c.env...)
	if err := cmd.Start(); err != nil {
		c.t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	c.logged(name, "ready")
	// The engine hears of the start after the container, and passes nothing on before.
	c.becomes(name, ".State.Running", "true")
	_ = cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-ended:
	case <-time.After(patience):
		_ = cmd.Process.Kill()
		c.t.Fatal("the client does not end")
	}
	if code := cmd.ProcessState.ExitCode(); code != 12 {
		c.t.Errorf("exit code %d, want the container's 12", code)
	}
}

func testRemove(c client, name string) {
	for range 3 {
		c.sleeper(name)
		if r := c.try("rm", name); r.code == 0 {
			c.t.Errorf("a running container was removed: %s", r)
		}
		c.do("rm", "-f", name)
	}
	c.prints("", "ps", "-aq", "--filter", "name="+name)
}

func testSharedNamespaces(c client, name string) {
	c.sleeper(name, "--ipc", "shareable")
	for flag, kind := range map[string]string{"--network": "net", "--pid": "pid", "--ipc": "ipc"} {
		want := c.do("exec", name, "readlink", "/proc/self/ns/"+kind)
		c.prints(want, "run", "--rm", flag, "container:"+name, imageRef, "readlink", "/proc/self/ns/"+kind)
	}
	// Killing what shares a pid namespace leaves the other container alone.
	c.do("run", "-d", "--name", name+"-2", "--pid", "container:"+name, imageRef, "sh", "-c", "sleep 1000 & sleep 1000")
	c.do("rm", "-f", name+"-2")
	eventually(c.t, "its processes are gone", func() bool {
		return !strings.Contains(c.do("exec", name, "ps"), "sleep 1000")
	})
	c.holds(name, ".State.Running", "true")
}

func testPublish(c client, name string) {
	c.do("run", "-d", "--name", name, "-p", "18080:80", imageRef, "sh", "-c", "mkdir /www; echo a page >/www/index.html; exec httpd -f -p 80 -h /www")
	fetch := func() string { return fetch("http://127.0.0.1:18080/") }
	eventually(c.t, "the page is served", func() bool { return fetch() == "a page\n" })
	c.do("restart", "-t", "0", name)
	eventually(c.t, "the page is served again", func() bool { return fetch() == "a page\n" })
	c.do("rm", "-f", name)
	if got := fetch(); got != "" {
		c.t.Errorf("the port still answers: %q", got)
	}
}

func testRestartOnFailure(c client, name string) {
	c.do("run", "-d", "--name", name, "--restart", "on-failure:2", imageRef, "sh", "-c", "echo start; exit 13")
	eventually(c.t, "it was started three times", func() bool { return strings.Count(c.try("logs", name).stdout, "start\n") == 3 })
	c.becomes(name, ".State.Running", "false")
	c.holds(name, ".State.ExitCode", "13")
}

// fetch gets a page, or "" if nobody serves it.
func fetch(url string) string {
	client := http.Client{Timeout: time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	answer, err := client.Get(url)
	if err != nil {
		return ""
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	if err != nil {
		return ""
	}
	return string(body)
}

// testMissingInterpreter: a file that looks executable and is not is the command's own
// failure, so that its logs tell why.
func testMissingInterpreter(c client, name string) {
	const words = "exec /bin/no-interpreter: no such file or directory"
	for _, args := range [][]string{{"run", "--name", name, imageRef, "/bin/no-interpreter"}, {"start", "-a", name}} {
		if r := c.try(args...); r.code != 255 && r.code != 1 || r.stdout != "" || !strings.HasSuffix(r.stderr, words+"\n") {
			c.t.Errorf("%s: %s", args[0], r)
		}
	}
	c.holds(name, ".State.Status", "exited")
	if r := c.try("logs", name); strings.Count(r.stderr, words) != 2 {
		c.t.Errorf("logs: %s", r)
	}
}
