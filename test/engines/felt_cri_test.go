package engines

import (
	"encoding/json"
	"fmt"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// feltCRI is a kubelet's containerd, with one pod.
type feltCRI struct {
	*cri
	ids map[string]string // of containers, by name
}

func TestFeltCRI(t *testing.T) {
	requireAll(t)
	eachRuntime(t, func(t *testing.T, rt runtimeUnderTest) {
		testFelt(t, feltCRI{newCRI(t, rt), map[string]string{}})
	})
}

func (e feltCRI) start(name, script string, l limits) {
	resources := object{"memory_limit_in_bytes": l.memory, "memory_swap_limit_in_bytes": l.memory, "cpu_period": 100000, "cpu_quota": quota(l)}
	if l.processes > 0 && unified() {
		resources["unified"] = object{"pids.max": fmt.Sprint(l.processes)}
	}
	e.ids[name] = e.cri.start(e.cri.pod, name, script, object{"linux": object{
		"resources": resources, "security_context": object{"namespace_options": ownPid},
	}})
	if l.cpus > 0 {
		inScope(e.t, e.pid(name))
	}
}

// quota is what of 100 ms a container may run; 0 is no limit.
func quota(l limits) int64 { return int64(l.cpus * 100000) }

func (e feltCRI) exec(name, script string) result {
	return e.try("exec", "--sync", e.ids[name], "sh", "-c", script)
}

func (e feltCRI) update(name string, l limits) bool {
	e.do("update", "--memory", fmt.Sprint(l.memory), "--cpu-quota", fmt.Sprint(quota(l)), e.ids[name])
	return true
}

func (e feltCRI) figures(name string) figures {
	e.t.Helper()
	var said struct {
		Stats []struct {
			CPU    struct{ UsageCoreNanoSeconds struct{ Value string } }
			Memory struct{ WorkingSetBytes struct{ Value string } }
		}
	}
	if err := json.Unmarshal([]byte(e.do("stats", "--id", e.ids[name], "-o", "json")), &said); err != nil || len(said.Stats) != 1 {
		e.t.Fatalf("stats: %v, %+v", err, said)
	}
	s := said.Stats[0]
	return figures{memory: number(e.t, s.Memory.WorkingSetBytes.Value), cpu: time.Duration(number(e.t, s.CPU.UsageCoreNanoSeconds.Value))}
}

// The interface knows no pause; containerd itself does.
func (e feltCRI) pause(name string)  { e.ctr.in(e.t).do("tasks", "pause", e.ids[name]) }
func (e feltCRI) resume(name string) { e.ctr.in(e.t).do("tasks", "resume", e.ids[name]) }

func (e feltCRI) stop(name string) string {
	e.do("stop", "--timeout", "100", e.ids[name])
	return e.field(e.ids[name], ".status.exitCode")
}

func (e feltCRI) outOfMemory(name string) bool {
	return e.field(e.ids[name], ".status.state") == "CONTAINER_EXITED" && e.field(e.ids[name], ".status.reason") == "OOMKilled"
}

func (e feltCRI) pid(name string) string { return e.field(e.ids[name], ".info.pid") }
func (e feltCRI) remove(name string)     { e.do("rm", "-f", e.ids[name]) }

// feltCtr is containerd by its own client, which knows neither updates nor limits of
// processes.
type feltCtr struct {
	*ctrd
	starved *mentions
}

// mentions are the lines that a program in the background has printed.
type mentions struct {
	sync.Mutex
	lines []string
}

// Write takes whole lines, as the program writes them.
func (m *mentions) Write(p []byte) (int, error) {
	m.Lock()
	defer m.Unlock()
	m.lines = append(m.lines, string(p))
	return len(p), nil
}

// has tells whether a line has both words in it.
func (m *mentions) has(one, other string) bool {
	m.Lock()
	defer m.Unlock()
	return slices.ContainsFunc(strings.Split(strings.Join(m.lines, ""), "\n"), func(line string) bool {
		return strings.Contains(line, one) && strings.Contains(line, other)
	})
}

// listen collects containerd's events for as long as the test runs.
func (c *ctrd) listen() *mentions {
	c.t.Helper()
	heard := &mentions{}
	cmd := exec.Command(c.base[0], append(slices.Clone(c.base[1:]), "events")...)
	cmd.Stdout = heard
	if err := cmd.Start(); err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	return heard
}

func TestFeltContainerd(t *testing.T) {
	requireAll(t)
	eachRuntime(t, func(t *testing.T, rt runtimeUnderTest) {
		c := newContainerd(t, rt)
		testFelt(t, feltCtr{c, c.listen()})
	})
}

func (e feltCtr) start(name, script string, l limits) {
	args := []string{"--memory-limit", fmt.Sprint(l.memory)}
	if l.cpus > 0 {
		args = append(args, "--cpus", fmt.Sprint(l.cpus))
	}
	if driver() == "systemd" {
		args = append(args, "--runc-systemd-cgroup", "--cgroup", "engines.slice:ctr:"+name)
	}
	if r := e.tryRun(append(append([]string{"-d"}, args...), imageRef, name, "sh", "-c", script)...); r.code != 0 {
		e.t.Fatalf("run %s: %s", name, r)
	}
	if l.cpus > 0 {
		inScope(e.t, e.pid(name))
	}
}

func (e feltCtr) exec(name, script string) result {
	return e.try("tasks", "exec", "--exec-id", fmt.Sprintf("x%d", time.Now().UnixNano()), name, "sh", "-c", script)
}

func (e feltCtr) update(string, limits) bool { return false }
func (e feltCtr) pause(name string)          { e.do("tasks", "pause", name) }
func (e feltCtr) resume(name string)         { e.do("tasks", "resume", name) }

func (e feltCtr) figures(name string) figures {
	e.t.Helper()
	text := e.do("tasks", "metrics", "--format", "json", name)
	var v2 struct {
		CPU struct {
			Usage int64 `json:"usage_usec"`
		}
		Memory struct{ Usage int64 }
		Pids   struct{ Current int64 }
	}
	var v1 struct {
		CPU    struct{ Usage struct{ Total int64 } }
		Memory struct{ Usage struct{ Usage int64 } }
		Pids   struct{ Current int64 }
	}
	if unified() {
		if err := json.Unmarshal([]byte(text), &v2); err != nil {
			e.t.Fatalf("%v: %s", err, text)
		}
		return figures{v2.Memory.Usage, time.Duration(v2.CPU.Usage) * time.Microsecond, v2.Pids.Current}
	}
	if err := json.Unmarshal([]byte(text), &v1); err != nil {
		e.t.Fatalf("%v: %s", err, text)
	}
	return figures{v1.Memory.Usage.Usage, time.Duration(v1.CPU.Usage.Total), v1.Pids.Current}
}

func (e feltCtr) stop(name string) string {
	e.do("tasks", "kill", name)
	eventually(e.t, name+" has stopped", func() bool { return e.status(name) == "STOPPED" })
	r := e.try("tasks", "delete", name)
	_, code, _ := strings.Cut(r.stdout+r.stderr, "exit code ")
	return strings.Trim(code, "\"\n ")
}

func (e feltCtr) outOfMemory(name string) bool {
	return e.starved.has("/tasks/oom", name)
}

func (e feltCtr) pid(name string) string {
	e.t.Helper()
	for line := range strings.Lines(e.do("tasks", "ls")) {
		if fields := strings.Fields(line); len(fields) == 3 && fields[0] == name {
			return fields[1]
		}
	}
	e.t.Fatalf("no task %s", name)
	return ""
}

func (e feltCtr) remove(name string) {
	e.try("tasks", "delete", "--force", name) // stop has done it
	e.do("containers", "delete", name)
}
