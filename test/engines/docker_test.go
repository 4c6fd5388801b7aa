package engines

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// dockerd is a daemon with state of its own and the runtime as its default.
type dockerd struct {
	client
	cmd *exec.Cmd
	dir string // data root and log
	run string // sockets
	rt  runtimeUnderTest
}

// newDocker starts dockerd, which starts its own containerd, and gives it the image.
func newDocker(t *testing.T, rt runtimeUnderTest, flags ...string) *dockerd {
	t.Helper()
	docker := requireProgram(t, "docker", "dockerd", "containerd", "iptables")
	d := &dockerd{dir: t.TempDir(), run: runDir(t), rt: rt}
	d.client = client{t: t, name: "docker", base: []string{docker, "-H", "unix://" + d.run + "/sock"}, env: []string{"DOCKER_CONFIG=" + d.dir}}
	for dir := d.dir; dir != filepath.Dir(os.Getenv(dirVar)); dir = filepath.Dir(dir) {
		if err := os.Chmod(dir, 0o711); err != nil { // mapped users must come through
			t.Fatal(err)
		}
	}
	d.start(flags...)
	t.Cleanup(func() {
		d.try("swarm", "leave", "--force")
		if ids := strings.Fields(d.try("ps", "-aq").stdout); len(ids) > 0 {
			d.try(append([]string{"rm", "-f", "-v"}, ids...)...)
		}
		nothingLeft(t, d.own())
		d.stop()
		unmountBelow(d.dir)
		unmountBelow(d.run)
	})
	d.do("load", "-q", "-i", imageArchive(t))
	return d
}

// own is what a daemon without containers keeps.
func (d *dockerd) own() engineState {
	return engineState{processes: []string{"dockerd", "containerd"}, mounts: []string{d.dir + "/data", d.dir + "/data/100000.100000"}}
}

// start starts the daemon and waits until it answers.
func (d *dockerd) start(flags ...string) {
	d.t.Helper()
	log, err := os.OpenFile(d.dir+"/log", os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		d.t.Fatal(err)
	}
	defer log.Close()
	args := []string{
		"--data-root", d.dir + "/data", "--exec-root", d.run + "/exec", "--pidfile", d.run + "/pid", "-H", "unix://" + d.run + "/sock",
		"--add-runtime", "tested=" + d.rt.path, "--default-runtime", "tested",
	}
	// BuildKit inside dockerd calls runc from PATH, as does `docker info`.
	if err := os.MkdirAll(d.run+"/bin", 0o755); err != nil {
		d.t.Fatal(err)
	}
	if err := os.Symlink(d.rt.path, d.run+"/bin/runc"); err != nil && !os.IsExist(err) {
		d.t.Fatal(err)
	}
	d.cmd = exec.Command(requireProgram(d.t, "dockerd"), append(args, flags...)...)
	d.cmd.Env = append(os.Environ(), "PATH="+d.run+"/bin:"+os.Getenv("PATH"))
	d.cmd.Stdout, d.cmd.Stderr = log, log
	if err := d.cmd.Start(); err != nil {
		d.t.Fatal(err)
	}
	d.t.Cleanup(func() {
		if text, err := os.ReadFile(d.dir + "/log"); err == nil && d.t.Failed() {
			d.t.Logf("dockerd says:\n%s", text[max(0, len(text)-2000):])
		}
	})
	eventually(d.t, "dockerd answers", func() bool { return d.try("version").code == 0 })
}

// stop ends the daemon and, unless containers are to live on, its containerd.
func (d *dockerd) stop() {
	d.t.Helper()
	_ = d.cmd.Process.Signal(syscall.SIGTERM)
	ended := make(chan error, 1)
	go func() { ended <- d.cmd.Wait() }()
	select {
	case <-ended:
	case <-time.After(patience):
		_ = d.cmd.Process.Kill()
		d.t.Errorf("dockerd does not end")
	}
}

func TestDocker(t *testing.T) {
	eachRuntime(t, func(t *testing.T, rt runtimeUnderTest) {
		d := newDocker(t, rt)
		t.Run("option", func(t *testing.T) { testOptions(t, d.client, options) })
		t.Run("scenario", func(t *testing.T) { testScenarios(t, d.client, scenarios) })
		t.Run("limit", func(t *testing.T) { testScenarios(t, d.client, limitScenarios) })
		t.Run("refusal", func(t *testing.T) { testOptions(t, d.client, refusals) })
		t.Run("docker", func(t *testing.T) {
			testScenarios(t, d.client, []scenario{
				{"info", testInfo},
				{"health", testHealth},
				{"build", testBuild},
			})
		})
		t.Run("daemon", func(t *testing.T) { testDaemonRestart(d.in(t), "daemon", d) })
	})
}

// testInfo: dockerd reads version and commit from what --version prints.
func testInfo(c client, _ string) {
	for field, word := range map[string]string{".DefaultRuntime": "tested", ".RuncCommit.ID": "."} {
		if got := c.do("info", "--format", "{{"+field+"}}"); got == "" || got == "N/A" || word != "." && got != word {
			c.t.Errorf("%s is %q", field, got)
		}
	}
	if r := c.try("info"); strings.Contains(r.stdout+r.stderr, "N/A") {
		c.t.Errorf("info: %s", r)
	}
}

func testHealth(c client, name string) {
	c.sleeper(name, "--health-cmd", "test -e /tmp/well", "--health-interval", "200ms", "--health-retries", "2", "--health-timeout", "10s")
	c.becomes(name, ".State.Health.Status", "unhealthy")
	c.do("exec", name, "touch", "/tmp/well")
	c.becomes(name, ".State.Health.Status", "healthy")
}

// testBuild: both of dockerd's builders run their RUN lines in the runtime, the older
// through containerd, BuildKit by itself.
func testBuild(c client, name string) {
	dir := c.t.TempDir()
	for file, text := range map[string]string{
		"Dockerfile": "FROM " + imageRef + "\nRUN echo built by $(id -u) >/made; test $$ = 1 || test -e /proc/1\nCOPY file /file\nUSER app\nRUN id -u >/tmp/user\nCMD [\"cat\", \"/made\", \"/file\", \"/tmp/user\"]\n",
		"file":       "copied\n",
	} {
		if err := os.WriteFile(dir+"/"+file, []byte(text), 0o644); err != nil {
			c.t.Fatal(err)
		}
	}
	for _, buildkit := range []string{"0", "1"} {
		builder := c
		builder.env = append(append([]string{}, c.env...), "DOCKER_BUILDKIT="+buildkit)
		builder.do("build", "-q", "-t", name+buildkit, "--network", "none", dir)
		c.prints("built by 0\ncopied\n1000", "run", "--rm", name+buildkit)
	}
	broken := "FROM " + imageRef + "\nRUN exit 3\n"
	if err := os.WriteFile(dir+"/Dockerfile", []byte(broken), 0o644); err != nil {
		c.t.Fatal(err)
	}
	if r := c.try("build", dir); r.code == 0 || !strings.Contains(r.stdout+r.stderr, "3") {
		c.t.Errorf("a failing RUN: %s", r)
	}
}

// testDaemonRestart: what is to run always runs again when the daemon is back.
func testDaemonRestart(c client, name string, d *dockerd) {
	c.sleeper(name, "--restart", "always")
	before := c.inspect(name, ".State.Pid")
	d.stop()
	d.start()
	c.becomes(name, ".State.Running", "true")
	if after := c.inspect(name, ".State.Pid"); after == before {
		c.t.Errorf("process %s still runs", before)
	}
	c.prints("x", "exec", name, "echo", "x")
}
