package engines

import (
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// subordinateIDs covers the files of subordinate ids with ranges for a user and group whom
// Docker shall map to, and for podman's automatic mappings.
func subordinateIDs(t *testing.T) {
	t.Helper()
	file := t.TempDir() + "/ids"
	if err := os.WriteFile(file, []byte("nobody:100000:65536\nnogroup:100000:65536\ncontainers:1000000:1000000\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, place := range []string{"/etc/subuid", "/etc/subgid"} {
		if err := unix.Mount(file, place, "", unix.MS_BIND, ""); err != nil {
			t.Skipf("needs %s: %v", place, err)
		}
		t.Cleanup(func() {
			if err := unix.Unmount(place, 0); err != nil {
				t.Errorf("unmount %s: %v", place, err)
			}
		})
	}
}

// TestDockerUserns: a daemon that maps every container's users, with options and scenarios
// of one that does not.
func TestDockerUserns(t *testing.T) {
	requireAll(t)
	eachRuntime(t, func(t *testing.T, rt runtimeUnderTest) {
		subordinateIDs(t)
		d := newDocker(t, rt, "--userns-remap", "nobody:nogroup")
		t.Run("option", func(t *testing.T) { testOptions(t, d.client, remappable(options)) })
		t.Run("scenario", func(t *testing.T) {
			testScenarios(t, d.client, []scenario{
				{"mapped", testRemapped},
				{"exec", testExec},
				{"exec-terminal", testExecTerminal},
				{"copy", testCopy},
				{"publish", testPublish},
				{"limits", testLimits},
				{"stats", testStats},
			})
		})
	})
}

// remappable are the options that users, mounts and devices have a part in, and that Docker
// has for mapped users: without the namespaces of the host.
func remappable(table []option) (some []option) {
	for _, o := range table {
		about := regexp.MustCompile("user|capabilit|mount|volume|tmpfs|terminal|device|sysctl|network|masked|memory size|score|init")
		switch {
		case !about.MatchString(o.name), strings.Contains(strings.Join(o.flags, " "), " host"):
		case o.name == "bind mount": // root's directory, mapped users may not write
		case o.name == "device": // under its other name: the OCI's devices are bound, not made
		default:
			some = append(some, o)
		}
	}
	return some
}

// testRemapped: root inside is nobody outside, and may choose not to be mapped.
func testRemapped(c client, name string) {
	c.sleeper(name, "-v", "remapped:/vol", "--memory", "64m")
	c.prints("0 100000 65536", "exec", name, "sh", "-c", "echo $(cat /proc/self/uid_map)")
	c.prints("0 0", "exec", name, "stat", "-c", "%u %g", "/bin/busybox")
	c.prints("", "exec", name, "sh", "-c", "echo x >/vol/file; chown 5:5 /vol/file; mkdir /made; chown 1000 /made")
	c.prints("uid=1000(app) gid=1000(app) groups=1000(app),2000(extra)", "exec", "-u", "app", name, "id")
	status, err := os.ReadFile("/proc/" + c.inspect(name, ".State.Pid") + "/status")
	if err != nil || !strings.Contains(string(status), "Uid:\t100000\t100000") {
		c.t.Errorf("seen from outside: %v\n%s", err, status)
	}
	c.prints("0 0 4294967295", "run", "--rm", "--userns", "host", imageRef, "sh", "-c", "echo $(cat /proc/self/uid_map)")
}

// TestDockerLiveRestore: containers live on while the daemon is dead, and it finds them
// again.
func TestDockerLiveRestore(t *testing.T) {
	requireAll(t)
	eachRuntime(t, func(t *testing.T, rt runtimeUnderTest) {
		d := newDocker(t, rt, "--live-restore")
		d.sleeper("alive", "--memory", "64m")
		d.do("run", "-d", "--name", "ending", imageRef, "sh", "-c", "echo up; while ! test -e /tmp/end; do sleep 0.1; done; exit 9")
		d.logged("ending", "up")
		pid, ending := d.inspect("alive", ".State.Pid"), d.inspect("ending", ".State.Pid")

		if err := d.cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		_ = d.cmd.Wait()
		if err := os.WriteFile("/proc/"+ending+"/root/tmp/end", nil, 0o600); err != nil {
			t.Fatal(err)
		}
		eventually(t, "a container ends without the daemon", func() bool { return !exists("/proc/" + ending + "/root/tmp") })
		d.start("--live-restore")

		d.holds("alive", ".State.Pid", pid)
		d.becomes("ending", ".State.Running", "false")
		d.holds("ending", ".State.ExitCode", "9")
		d.prints("x", "exec", "alive", "echo", "x")
		d.do("kill", "-s", "USR1", "alive")
		d.logged("alive", "caught USR1")
		d.do("pause", "alive")
		d.do("unpause", "alive")
		d.do("update", "--memory", "96m", "--memory-swap", "96m", "alive")
		d.limited("alive", memoryLimit, "100663296", "100663296")
		d.do("stop", "-t", "10", "alive")
		d.holds("alive", ".State.ExitCode", "5")
		d.do("start", "alive")
		d.do("rm", "-f", "alive", "ending")
	})
}

// TestDockerDefaults: a daemon whose containers have a parent group, and a daemon that is told
// of no new privileges, limits and an init for all of them.
func TestDockerDefaults(t *testing.T) {
	eachRuntime(t, func(t *testing.T, rt runtimeUnderTest) {
		d := newDocker(t, rt, "--cgroup-parent", "/docker/parent", "--no-new-privileges", "--default-ulimit", "nofile=111:222",
			"--init", "--default-shm-size", "2m", "--default-ipc-mode", "private", "--icc=false")
		d.prints("NoNewPrivs:\t1\n111\n222\n2048", "run", "--rm", imageRef, "sh", "-c", "grep NoNewPrivs /proc/self/status; ulimit -n; ulimit -Hn; df -k /dev/shm | awk 'END {print $2}'")
		d.prints("docker-init", "run", "--rm", imageRef, "cat", "/proc/1/comm")
		d.sleeper("child")
		groups, err := os.ReadFile("/proc/" + d.inspect("child", ".State.Pid") + "/cgroup")
		if want := fmt.Sprintf("/docker/parent/%s\n", d.inspect("child", ".Id")); err != nil || !strings.Contains(string(groups), want) {
			t.Errorf("%v: %q is not in\n%s", err, want, groups)
		}
		d.do("stop", "-t", "10", "child") // by way of the init
		d.holds("child", ".State.ExitCode", "5")
	})
}
