package engines

import (
	"os"
	"testing"
)

// newPodman sets a podman up whose state lies in a directory of its own.
func newPodman(t *testing.T, rt runtimeUnderTest) client {
	t.Helper()
	bin := requireProgram(t, "podman", "conmon")
	dir, run := t.TempDir(), runDir(t)
	conf := run + "/containers.conf"
	if err := os.WriteFile(conf, []byte("[containers]\ninit_path = \"/usr/bin/docker-init\"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	c := client{t: t, name: "podman", env: []string{"CONTAINERS_CONF=" + conf}, base: []string{bin, "--root", dir + "/root", "--runroot", run + "/run", "--tmpdir", run + "/tmp",
		"--network-config-dir", run + "/net", "--runtime", rt.path, "--cgroup-manager", "cgroupfs", "--events-backend", "file"}}
	c.do("load", "-q", "-i", imageArchive(t))
	t.Cleanup(func() {
		c.try("rm", "-f", "-a", "-t", "0")
		nothingLeft(t, engineState{mounts: []string{dir + "/root/overlay"}})
		unmountBelow(dir)
	})
	return c
}

func TestPodman(t *testing.T) {
	eachRuntime(t, func(t *testing.T, rt runtimeUnderTest) {
		p := newPodman(t, rt)
		t.Run("option", func(t *testing.T) { testOptions(t, p, options) })
		t.Run("scenario", func(t *testing.T) { testScenarios(t, p, scenarios) })
		t.Run("limit", func(t *testing.T) { testScenarios(t, p, limitScenarios) })
		t.Run("refusal", func(t *testing.T) { testOptions(t, p, refusals) })
	})
}
