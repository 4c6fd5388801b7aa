package engines

import (
	"os"
	"strings"
	"testing"
)

// newBuildah sets a buildah up with state of its own. The runtime is named with each
// run and build.
func newBuildah(t *testing.T) client {
	t.Helper()
	bin := requireProgram(t, "buildah")
	dir, run := t.TempDir(), runDir(t)
	c := client{t: t, name: "buildah", base: []string{bin, "--root", dir + "/root", "--runroot", run + "/run"}}
	t.Cleanup(func() {
		c.try("rm", "-a")
		nothingLeft(t, engineState{mounts: []string{dir + "/root/overlay"}})
		unmountBelow(dir)
	})
	c.do("pull", "-q", "docker-archive:"+imageArchive(t))
	return c
}

func TestBuildah(t *testing.T) {
	eachRuntime(t, func(t *testing.T, rt runtimeUnderTest) {
		c := newBuildah(t)
		c.do("from", "--name", "work", imageRef)
		t.Run("run", func(t *testing.T) { testBuildahRun(c.in(t), rt) })
		t.Run("build", func(t *testing.T) { testBuildahBuild(c.in(t), rt) })
	})
}

// testBuildahRun: create, start, state until it has stopped, delete.
func testBuildahRun(c client, rt runtimeUnderTest) {
	dir := optionFiles(c.t)
	run := func(args ...string) result {
		return c.try(append([]string{"run", "--runtime", rt.path, "--isolation", "oci", "--net", "none"}, args...)...)
	}
	for _, o := range []struct {
		args []string
		want result
	}{
		{[]string{"work", "sh", "-c", "echo out; echo err >&2"}, result{"out\n", "err\n", 0}},
		{[]string{"--user", "app", "work", "sh", "-c", "id -u; : >/dev/stderr"}, result{"1000\n", "", 0}},
		{[]string{"--workingdir", "/tmp", "work", "pwd"}, result{"/tmp\n", "", 0}},
		{[]string{"--env", "A=b", "work", "sh", "-c", "echo $A"}, result{"b\n", "", 0}},
		{[]string{"--volume", dir + "/shared:/v:ro", "work", "cat", "/v/in"}, result{"from outside\n", "", 0}},
		{[]string{"--cap-drop", "all", "work", "grep", "CapEff", "/proc/self/status"}, result{"CapEff:\t0000000000000000\n", "", 0}},
		{[]string{"work", "touch", "/kept"}, result{"", "", 0}},
		{[]string{"work", "ls", "/kept"}, result{"/kept\n", "", 0}},
	} {
		got := run(o.args...)
		got.stderr = withoutAmbient(got.stderr)
		if got != o.want {
			c.t.Errorf("%v: want %s, got %s", o.args, o.want, got)
		}
	}
	if r := run("work", "sh", "-c", "exit 42"); r.code != 42 {
		c.t.Errorf("exit code: %s", r)
	}
	if r := run("work", "no-such-command"); r.code == 0 || !strings.Contains(r.stderr, `executable file not found in $PATH`) {
		c.t.Errorf("missing command: %s", r)
	}
	if r := c.feed("typed", "run", "--runtime", rt.path, "--isolation", "oci", "--net", "none", "work", "cat"); r.stdout != "typed" {
		c.t.Errorf("stdin: %s", r)
	}
	s := c.terminal("run", "--runtime", rt.path, "--isolation", "oci", "--net", "none", "-t", "work", "sh", "-c", "tty; exit 6")
	s.reads("/dev/pts/0")
	s.ends(6)
}

// withoutAmbient leaves out what runc 1.2 and later, and box-runtime, say of buildah's
// habit to ask for ambient capabilities that are not inheritable.
func withoutAmbient(stderr string) (rest string) {
	for line := range strings.Lines(stderr) {
		if !strings.Contains(line, "can't raise ambient capability") {
			rest += line
		}
	}
	return rest
}

func testBuildahBuild(c client, rt runtimeUnderTest) {
	dir := c.t.TempDir()
	text := "FROM " + imageRef + "\nRUN echo made by $(id -u) >/made\nUSER app\nRUN id -u >/tmp/user\n"
	if err := os.WriteFile(dir+"/Dockerfile", []byte(text), 0o600); err != nil {
		c.t.Fatal(err)
	}
	c.do("build", "-q", "--runtime", rt.path, "--isolation", "oci", "--network", "none", "-t", "built", dir)
	c.do("from", "--name", "result", "built")
	got := c.do("run", "--runtime", rt.path, "--isolation", "oci", "--net", "none", "result", "cat", "/made", "/tmp/user")
	if got != "made by 0\n1000" {
		c.t.Errorf("the image has %q", got)
	}
}
