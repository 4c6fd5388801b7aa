package engines

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// newPodman sets a podman up whose state lies in a directory of its own.
func newPodman(t *testing.T, rt runtimeUnderTest) client {
	t.Helper()
	bin := requireProgram(t, "podman", "conmon")
	dir, run := t.TempDir(), runDir(t)
	conf := run + "/containers.conf"
	if err := os.WriteFile(conf, []byte("[containers]\ninit_path = \"/usr/bin/docker-init\"\n"+
		"[engine]\ninfra_image = \""+imageRef+"\"\ninfra_command = \"/bin/sleep 1000000\"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	c := client{t: t, name: "podman", dir: t.TempDir(), env: []string{"CONTAINERS_CONF=" + conf}, base: []string{
		bin, "--root", dir + "/root", "--runroot", run + "/run", "--tmpdir", run + "/tmp",
		"--network-config-dir", run + "/net", "--runtime", rt.path, "--cgroup-manager", driver(), "--events-backend", "file",
	}}
	c.do("load", "-q", "-i", imageArchive(t))
	t.Cleanup(func() {
		c.try("rm", "-f", "-a", "-t", "0")
		nothingLeft(t, engineState{mounts: []string{dir + "/root/overlay"}})
		unmountBelow(dir)
		if os.Geteuid() != 0 { // some files belong to the user's subordinate ids
			c.do("unshare", "rm", "-rf", dir+"/root", run+"/run")
		}
	})
	return c
}

// apart is the same client, for podman in a directory that belongs to one container. There
// conmon notes that the container was out of memory.
func (c client) apart(container string) client {
	c.t.Helper()
	if c.name != "podman" {
		return c
	}
	c.dir = filepath.Join(c.dir, container)
	if err := os.Mkdir(c.dir, 0o755); err != nil {
		c.t.Fatal(err)
	}
	return c
}

// outOfMemory tells whether the engine knows that a container, which was started apart, was
// killed for want of memory. Before podman 5 that is its monitor alone, whatever the runtime:
// conmon notes it where podman was called, and podman looks for the note in the bundle
// (podman issue 13102).
func (c client) outOfMemory(name string) bool {
	c.t.Helper()
	if c.inspect(name, ".State.Running") != "false" {
		return false
	}
	return c.inspect(name, ".State.OOMKilled") == "true" || c.name == "podman" && exists(filepath.Join(c.dir, name, "oom"))
}

func TestPodman(t *testing.T) {
	eachRuntime(t, func(t *testing.T, rt runtimeUnderTest) {
		p := newPodman(t, rt)
		t.Run("option", func(t *testing.T) { testOptions(t, p, options) })
		t.Run("scenario", func(t *testing.T) { testScenarios(t, p, scenarios) })
		t.Run("limit", func(t *testing.T) { testScenarios(t, p, limitScenarios) })
		t.Run("refusal", func(t *testing.T) { testOptions(t, p, refusals) })
		t.Run("podman", func(t *testing.T) {
			testScenarios(t, p, []scenario{
				{"pod", testPod},
				{"mapped", testMappedUsers},
				{"healthcheck", testHealthcheck},
				{"systemd", testSystemdMode},
				{"preserve", testPreserveFDs},
				{"built", testPodmanBuild},
			})
		})
		t.Run("more", func(t *testing.T) {
			requireAll(t)
			testScenarios(t, p, []scenario{
				{"kube", testKube},
				{"auto", testAutoUserns},
				{"hooks", testHooks},
			})
		})
	})
}

// testPod: containers of a pod share namespaces, but for mounts and processes.
func testPod(c client, name string) {
	// Without a group of the pod's own, which podman 4.3 forgets in v1's hierarchies.
	c.do("pod", "create", "--share-parent=false", "--name", name+"-pod", "--infra-image", imageRef, "--infra-command", "/bin/sleep 1000", "--hostname", "thispod")
	c.t.Cleanup(func() { c.do("pod", "rm", "-f", "-t", "0", name+"-pod") })
	c.sleeper(name, "--pod", name+"-pod")
	c.prints("thispod", "exec", name, "hostname")
	const shared = "for n in net ipc uts; do readlink /proc/self/ns/$n; done"
	c.prints(c.do("exec", name, "sh", "-c", shared), "run", "--rm", "--pod", name+"-pod", imageRef, "sh", "-c", shared)
	c.do("pod", "pause", name+"-pod")
	c.holds(name, ".State.Status", "paused")
	c.do("pod", "unpause", name+"-pod")
	c.do("pod", "stop", "-t", "10", name+"-pod")
	c.holds(name, ".State.ExitCode", "5")
}

// testMappedUsers: root in the container is nobody outside.
func testMappedUsers(c client, name string) {
	c.sleeper(name, "--uidmap", "0:100000:65536", "--gidmap", "0:200000:65536", "--network", "none", "--tmpfs", "/t")
	c.prints("0 100000 65536\n0 200000 65536", "exec", name, "sh", "-c", "for f in uid gid; do echo $(cat /proc/self/${f}_map); done")
	c.prints("0 0", "exec", name, "stat", "-c", "%u %g", "/bin/busybox")
	c.prints("1000", "exec", "-u", "app", name, "id", "-u")
	c.prints("", "exec", name, "sh", "-c", "echo x >/t/x; chown 5:5 /t/x")
	status, err := os.ReadFile("/proc/" + c.inspect(name, ".State.Pid") + "/status")
	if err != nil || !strings.Contains(string(status), "Uid:\t100000\t100000") {
		c.t.Errorf("seen from outside: %v\n%s", err, status)
	}
}

func testHealthcheck(c client, name string) {
	c.sleeper(name, "--health-cmd", "test -e /tmp/well", "--health-interval", "disable", "--health-retries", "1")
	if r := c.try("healthcheck", "run", name); r.code != 1 {
		c.t.Errorf("healthcheck of an unwell container: %s", r)
	}
	c.do("exec", name, "touch", "/tmp/well")
	c.do("healthcheck", "run", name)
}

// testSystemdMode: what systemd as process 1 expects: tmpfs, and its cgroup writable.
func testSystemdMode(c client, _ string) {
	r := c.try("run", "--rm", "--systemd=always", "--stop-signal", "TERM", imageRef, "sh", "-c",
		"for d in /run /run/lock /tmp; do stat -f -c %T $d; done; cd /sys/fs/cgroup; ! test -d systemd || cd systemd; mkdir below && rmdir below && echo made; echo $container")
	if out := strings.TrimSpace(r.stdout); out != "tmpfs\ntmpfs\ntmpfs\nmade\npodman" && out != "tmpfs\ntmpfs\ntmpfs\nmade\noci" {
		c.t.Errorf("seen inside: %s", r)
	}
}

// testPreserveFDs: files beyond stdio that the user hands over, for run and exec.
func testPreserveFDs(c client, name string) {
	script := func(args ...string) string {
		out, err := c.command("sh", append([]string{"-c", `exec "$@" 3<<!
handed over
!`, "sh"}, append(c.base[:len(c.base):len(c.base)], args...)...)...)
		if err != nil {
			c.t.Fatalf("%v: %v\n%s", args, err, out)
		}
		return out
	}
	if out := script("run", "--rm", "--preserve-fds=1", imageRef, "sh", "-c", "cat <&3"); out != "handed over\n" {
		c.t.Errorf("run printed %q", out)
	}
	c.sleeper(name)
	if out := script("exec", "--preserve-fds=1", name, "sh", "-c", "cat <&3"); out != "handed over\n" {
		c.t.Errorf("exec printed %q", out)
	}
}

func testPodmanBuild(c client, name string) {
	dir := c.t.TempDir()
	if err := os.WriteFile(dir+"/Dockerfile", []byte("FROM "+imageRef+"\nRUN echo made by $(id -u) >/made\n"), 0o600); err != nil {
		c.t.Fatal(err)
	}
	c.do("build", "-q", "--network", "none", "-t", name, dir)
	c.prints("made by 0", "run", "--rm", name, "cat", "/made")
}
