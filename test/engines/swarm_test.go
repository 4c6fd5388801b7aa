package engines

import (
	"os/exec"
	"strings"
	"testing"
)

func TestSwarm(t *testing.T) {
	eachRuntime(t, func(t *testing.T, rt runtimeUnderTest) {
		bridge(t, "swarm0", "10.199.0.1/24")
		d := newDocker(t, rt)
		d.do("swarm", "init", "--advertise-addr", "10.199.0.1", "--listen-addr", "10.199.0.1")
		for _, s := range []scenario{
			{"replicas", testReplicas},
			{"replaced", testReplaced},
			{"secrets", testSecrets},
			{"host-port", testHostPort},
			{"rollback", testRollback},
		} {
			t.Run(s.name, func(t *testing.T) {
				c := d.in(t)
				t.Cleanup(func() {
					c.try("service", "rm", s.name)
					eventually(t, "its tasks are gone", func() bool { return len(c.tasks(s.name)) == 0 })
				})
				s.test(c, s.name)
			})
		}
	})
}

// bridge makes an interface with an address, for as long as the test runs.
func bridge(t *testing.T, name, address string) {
	t.Helper()
	for _, args := range [][]string{{"link", "add", name, "type", "bridge"}, {"addr", "add", address, "dev", name}, {"link", "set", name, "up"}} {
		if out, err := exec.Command("ip", args...).CombinedOutput(); err != nil {
			t.Fatalf("ip %s: %v\n%s", strings.Join(args, " "), err, out)
		}
	}
	t.Cleanup(func() {
		if out, err := exec.Command("ip", "link", "del", name).CombinedOutput(); err != nil {
			t.Errorf("ip link del %s: %v\n%s", name, err, out)
		}
	})
}

// service creates a service. Without IPVS in the
// kernel there is no virtual address: names lead to the tasks.
func (c client) service(name string, args ...string) {
	c.t.Helper()
	full := []string{"service", "create", "-q", "-d", "--no-resolve-image", "--stop-grace-period", "1s", "--endpoint-mode", "dnsrr", "--name", name}
	c.do(append(full, args...)...)
}

// tasks are the containers of a service that run.
func (c client) tasks(service string) []string {
	c.t.Helper()
	return strings.Fields(c.do("ps", "-q", "--filter", "label=com.docker.swarm.service.name="+service))
}

func (c client) runs(service string, replicas int) {
	c.t.Helper()
	eventually(c.t, "the service has as many tasks as it should", func() bool { return len(c.tasks(service)) == replicas })
}

// updated waits for the end of an update.
func (c client) updated(service, state string) {
	c.t.Helper()
	eventually(c.t, "the update is "+state, func() bool {
		return c.do("service", "inspect", "--format", "{{if .UpdateStatus}}{{.UpdateStatus.State}}{{end}}", service) == state
	})
}

// idle is a command that ends on SIGTERM.
const idle = "trap 'exit 0' TERM; echo up; while :; do sleep 0.05; done"

func testReplicas(c client, name string) {
	c.service(name, "--replicas", "3", "--env", "A=first", "--limit-memory", "64M", imageRef, "sh", "-c", idle)
	c.runs(name, 3)
	c.limited(c.tasks(name)[0], memoryLimit, "67108864", "67108864")
	c.do("service", "scale", "-d", name+"=5")
	c.runs(name, 5)
	c.do("service", "scale", "-d", name+"=3")
	c.runs(name, 3)
	old := strings.Join(c.tasks(name), " ")
	c.do("service", "update", "-q", "-d", "--no-resolve-image", "--update-delay", "0s", "--update-parallelism", "2", "--update-monitor", "100ms", "--env-add", "A=second", name)
	c.updated(name, "completed")
	c.runs(name, 3)
	for _, task := range c.tasks(name) {
		if strings.Contains(old, task) {
			c.t.Errorf("task %s has not been updated", task)
		}
		c.prints("second", "exec", task, "sh", "-c", "echo $A")
	}
	eventually(c.t, "the service has logs", func() bool { return strings.Count(c.do("service", "logs", name), "| up") >= 3 })
}

// testReplaced: what is killed is started anew.
func testReplaced(c client, name string) {
	c.service(name, "--replicas", "2", "--restart-delay", "100ms", imageRef, "sh", "-c", idle)
	c.runs(name, 2)
	victim := c.tasks(name)[0]
	c.do("kill", victim)
	eventually(c.t, "another has taken its place", func() bool {
		now := c.tasks(name)
		return len(now) == 2 && !strings.Contains(strings.Join(now, " "), victim)
	})
}

func testSecrets(c client, name string) {
	if r := c.feed("the secret", "secret", "create", name, "-"); r.code != 0 {
		c.t.Fatal(r)
	}
	if r := c.feed("the config", "config", "create", name, "-"); r.code != 0 {
		c.t.Fatal(r)
	}
	c.service(name, "--secret", "source="+name+",target=s,mode=0400,uid=1000", "--config", "source="+name+",target=/etc/c",
		"--mount", "type=tmpfs,target=/t,tmpfs-size=65536", "--user", "app", "--read-only", imageRef, "sh", "-c", idle)
	c.runs(name, 1)
	task := c.tasks(name)[0]
	c.prints("the secret", "exec", task, "cat", "/run/secrets/s")
	c.prints("the config", "exec", task, "cat", "/etc/c")
	c.prints("64", "exec", task, "sh", "-c", "df -k /t | tail -1 | awk '{print $2}'")
	c.do("service", "rm", name)
	eventually(c.t, "the secret is free", func() bool { return c.try("secret", "rm", name).code == 0 })
	c.do("config", "rm", name)
}

func testHostPort(c client, name string) {
	c.service(name, "--publish", "mode=host,published=18081,target=80", imageRef, "sh", "-c", "mkdir /www; echo a page >/www/index.html; exec httpd -f -p 80 -h /www")
	eventually(c.t, "the page is served", func() bool { return fetch("http://10.199.0.1:18081/") == "a page\n" })
}

// testRollback: an update whose command cannot be executed goes back.
func testRollback(c client, name string) {
	c.service(name, "--update-failure-action", "rollback", "--update-monitor", "2s", "--restart-max-attempts", "0", "--restart-delay", "100ms", imageRef, "sh", "-c", idle)
	c.runs(name, 1)
	c.do("service", "update", "-q", "-d", "--no-resolve-image", "--rollback-monitor", "100ms", "--args", "no-such-command", name)
	c.updated(name, "rollback_completed")
	if tasks := c.do("service", "ps", "--no-trunc", "--format", "{{.Error}}", name); !strings.Contains(tasks, `exec: "no-such-command": executable file not found in $PATH`) {
		c.t.Errorf("the tasks do not say why: %q", tasks)
	}
	c.runs(name, 1)
}
