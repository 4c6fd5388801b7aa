package engines

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// limitScenarios are about cgroups: that a limit lies where the engine asked for it, and
// that it holds.
var limitScenarios = []scenario{
	{"limits", testLimits},
	{"update", testUpdate},
	{"stats", testStats},
	{"memory", testOutOfMemory},
	{"processes", testProcessLimit},
}

// control is one file of a controller, by its names in v1 and v2.
type control struct{ controller, v1, v2 string }

var (
	memoryLimit  = control{"memory", "memory.limit_in_bytes", "memory.max"}
	memoryLow    = control{"memory", "memory.soft_limit_in_bytes", "memory.low"}
	cpuQuota     = control{"cpu", "cpu.cfs_quota_us", "cpu.max"}
	cpuShares    = control{"cpu", "cpu.shares", "cpu.weight"}
	cpusetCPUs   = control{"cpuset", "cpuset.cpus", "cpuset.cpus"}
	processLimit = control{"pids", "pids.max", "pids.max"}
)

// requireController skips where a controller is not to be had.
func requireController(t *testing.T, names ...string) {
	t.Helper()
	for _, name := range names {
		have, _ := os.ReadFile("/sys/fs/cgroup/cgroup.controllers")
		_, err := os.Stat(filepath.Join("/sys/fs/cgroup", name))
		if err != nil && !strings.Contains(" "+strings.TrimSpace(string(have))+" ", " "+name+" ") {
			t.Skipf("needs the cgroup controller %s", name)
		}
	}
}

// value reads a file of the group that process pid is in.
func (f control) value(t *testing.T, pid string) string {
	t.Helper()
	groups, err := os.ReadFile("/proc/" + pid + "/cgroup")
	if err != nil {
		t.Fatal(err)
	}
	unified := "/sys/fs/cgroup"
	for line := range strings.Lines(string(groups)) {
		fields := strings.SplitN(strings.TrimSpace(line), ":", 3)
		path := ""
		switch {
		case len(fields) < 3:
		case fields[1] == f.controller:
			path = filepath.Join("/sys/fs/cgroup", f.controller, fields[2], f.v1)
		case fields[1] == "" && exists(unified+"/cgroup.controllers"):
			path = filepath.Join(unified, fields[2], f.v2)
		}
		if path == "" {
			continue
		}
		value, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		return strings.TrimSpace(string(value))
	}
	t.Fatalf("process %s is in no group of %s:\n%s", pid, f.controller, groups)
	return ""
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// limited checks the files of a container's group: want is what v1 and v2 have there.
func (c client) limited(name string, f control, v1, v2 string) {
	c.t.Helper()
	want := v1
	if exists("/sys/fs/cgroup/cgroup.controllers") {
		want = v2
	}
	if got := f.value(c.t, c.inspect(name, ".State.Pid")); got != want {
		c.t.Errorf("%s of %s is %q, want %q", f.v1, name, got, want)
	}
}

func testLimits(c client, name string) {
	requireController(c.t, "memory", "cpu", "cpuset", "pids")
	c.sleeper(name, "--memory", "64m", "--memory-reservation", "32m", "--cpus", "0.5", "--cpu-shares", "512",
		"--cpuset-cpus", "0", "--pids-limit", "33")
	c.limited(name, memoryLimit, "67108864", "67108864")
	c.limited(name, memoryLow, "33554432", "33554432")
	c.limited(name, cpuQuota, "50000", "50000 100000")
	c.limited(name, cpuShares, "512", "20")
	c.limited(name, cpusetCPUs, "0", "0")
	c.limited(name, processLimit, "33", "33")
	c.prints("1", "exec", name, "nproc")
}

func testUpdate(c client, name string) {
	requireController(c.t, "memory", "cpu", "pids")
	c.sleeper(name, "--memory", "64m", "--memory-swap", "128m")
	c.do("update", "--memory", "96m", "--memory-swap", "192m", name)
	c.limited(name, memoryLimit, "100663296", "100663296")
	c.do("update", "--cpu-quota", "25000", "--cpu-period", "50000", "--cpu-shares", "256", name)
	c.limited(name, cpuQuota, "25000", "25000 50000")
	c.limited(name, cpuShares, "256", "10")
	if c.name == "docker" { // podman 4.3 cannot
		c.do("update", "--pids-limit", "44", name)
		c.limited(name, processLimit, "44", "44")
	}
	c.limited(name, memoryLimit, "100663296", "100663296")
	c.holds(name, ".State.Running", "true")
}

func testStats(c client, name string) {
	requireController(c.t, "memory", "cpu", "pids")
	c.sleeper(name, "--memory", "64m")
	fields := strings.Fields(c.do("stats", "--no-stream", "--format", "{{.PIDs}} {{.MemUsage}}", name))
	if len(fields) != 4 || !strings.HasPrefix(fields[3], "64") && !strings.HasPrefix(fields[3], "67") {
		c.t.Fatalf("stats: %q, want processes, memory and the limit of 64 MiB", fields)
	}
	if n, err := strconv.Atoi(fields[0]); err != nil || n < 1 || n > 3 {
		c.t.Errorf("%s processes, want one or two", fields[0])
	}
	if used, _, _ := strings.Cut(fields[1], "B"); strings.HasPrefix(used, "0") {
		c.t.Errorf("no memory in use: %q", fields)
	}
}

func testOutOfMemory(c client, name string) {
	requireController(c.t, "memory")
	c.apart(name).try("run", "--name", name, "--memory", "16m", "--memory-swap", "16m", imageRef, "sh", "-c", "exec tail /dev/zero")
	c.becomes(name, ".State.Running", "false")
	c.holds(name, ".State.ExitCode", "137")
	eventually(c.t, "the engine knows that it was killed for want of memory", func() bool { return c.outOfMemory(name) })
}

func testProcessLimit(c client, name string) {
	requireController(c.t, "pids")
	r := c.try("run", "--name", name, "--pids-limit", "10", imageRef, "sh", "-c",
		"i=0; while [ $i -lt 20 ]; do sleep 5 & i=$((i+1)); done; echo all of them")
	if strings.Contains(r.stdout, "all of them") || !strings.Contains(r.stderr, "fork") {
		c.t.Errorf("20 processes with a limit of 10: %s", r)
	}
}
