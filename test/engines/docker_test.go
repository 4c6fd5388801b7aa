package engines

import (
	"os"
	"os/exec"
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
	return engineState{processes: []string{"dockerd", "containerd"}, mounts: []string{d.dir + "/data"}}
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
	d.cmd = exec.Command(requireProgram(d.t, "dockerd"), append(args, flags...)...)
	d.cmd.Stdout, d.cmd.Stderr = log, log
	if err := d.cmd.Start(); err != nil {
		d.t.Fatal(err)
	}
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
	})
}
