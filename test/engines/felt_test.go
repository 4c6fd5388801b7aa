package engines

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// The tests of this file ask whether a limit that was given to an engine is felt by the
// container, whether what an engine says of a container is what the kernel says, and
// whether an engine hears that a container was killed for want of memory. They run on the
// host with the groups that it has, and by way of test/vm where every controller is there,
// with both managers of groups.

// managed is a running engine, by what the tests of limits need of it.
type managed interface {
	// start runs script in a container and does not wait for it.
	start(name, script string, l limits)
	// exec runs script in a running container.
	exec(name, script string) result
	// update changes memory and processors of a running container, and says false if the
	// engine has no words for that.
	update(name string, l limits) bool
	// figures are what the engine says that a container uses.
	figures(name string) figures
	pause(name string)
	resume(name string)
	// stop asks a container to end; code is what it ended with.
	stop(name string) (code string)
	// outOfMemory tells whether the engine knows that an ended container was killed
	// for want of memory.
	outOfMemory(name string) bool
	// pid is a running container's process 1, in decimal.
	pid(name string) string
	remove(name string)
}

// limits are those of a container; zero is none.
type limits struct {
	memory    int64 // bytes, swap included
	cpus      float64
	processes int64
}

// figures are what a container uses.
type figures struct {
	memory    int64 // bytes, with page cache or without
	cpu       time.Duration
	processes int64 // 0: the engine does not tell
}

const mebibyte = 1 << 20

// Figures of the kernel, by their names in v1 and v2.
var (
	memoryUsed  = control{"memory", "memory.usage_in_bytes", "memory.current"}
	processesIn = control{"pids", "pids.current", "pids.current"}
)

// held is the memory that heavy holds, at least. The shell may take twice as much: still
// less than what swallow gets until the kernel looks for somebody to kill.
const held = 4 * mebibyte

// heavy is a command that holds memory, makes the file /ready when it does, and ends on
// SIGTERM with 5. It runs a little all the time, but neither starts processes nor takes more
// memory: whoever asks for some while the kernel kills another for want of it can be the
// next to be killed, though there is enough by then.
var heavy = fmt.Sprintf("trap 'exit 5' TERM; x=$(yes | head -c %d); mkfifo /never; exec 3<>/never; : >/ready; while :; do read -t 0.1 y <&3; done", held)

// swallow is a command that needs so many MiB of memory at once. 137 is a kill.
func swallow(mib int) string {
	return fmt.Sprintf("dd if=/dev/zero of=/dev/null bs=%dM count=1 2>/dev/null", mib)
}

// testFelt is the scenario, the same with every engine.
func testFelt(t *testing.T, e managed) {
	requireController(t, "memory", "cpu", "pids")
	wide := limits{memory: 64 * mebibyte, cpus: 0.8, processes: 16}
	tight := limits{memory: 24 * mebibyte, cpus: 0.2, processes: 16}
	startHeavy(t, e, wide)
	if r := e.exec("felt", "echo out"); strings.TrimSpace(r.stdout) != "out" || r.code != 0 {
		t.Errorf("exec: %s", r)
	}
	if r := e.exec("felt", swallow(40)); r.code != 0 {
		t.Errorf("40 MiB with a limit of 64: %s", r)
	}
	if !e.update("felt", tight) {
		e.remove("felt")
		startHeavy(t, e, tight)
	}
	if r := e.exec("felt", swallow(40)); r.code == 0 {
		t.Errorf("40 MiB with a limit of 24: %s", r)
	}
	feltProcessor(t, e, tight)
	if limitsProcesses(e) {
		feltProcesses(t, e, tight)
	}
	feltFigures(t, e)
	feltPause(t, e)
	if code := e.stop("felt"); code != "5" {
		t.Errorf("stopped with %s, want 5", code)
	}
	e.remove("felt")
	starve(t, e)
}

// starve runs a command that needs more memory than it gets, and looks whether the engine
// hears that it was killed. It is let go when the engine has its eyes on it.
func starve(t *testing.T, e managed) {
	t.Helper()
	const wait = "mkfifo /go 2>/dev/null; read x </go; "
	script := wait + "exec " + swallow(128)
	if driver() == "systemd" {
		// It removes a group as soon as the last process is gone, but engines read only then,
		// with any runtime, why the kernel has called them. The shell outlives the command.
		script = wait + swallow(128) + "; code=$?; sleep 5; exit $code"
	}
	if d, ok := e.(feltDocker); ok && d.name == "podman" {
		// conmon 2.1.6 stops listening when it is called too early, and looks once more when
		// process 1 is gone: somebody else keeps the group until podman has the rest killed.
		d.flags = []string{"--pid", "host"}
		e, script = d, wait+"sleep 1000 & exec "+swallow(128)
	}
	e.start("starved", script, limits{memory: 16 * mebibyte})
	e.exec("starved", "echo >/go")
	eventually(t, "the engine knows that it was killed for want of memory", func() bool { return e.outOfMemory("starved") })
	e.remove("starved")
}

// startHeavy starts the container, and waits until it holds what it will hold.
func startHeavy(t *testing.T, e managed, l limits) {
	t.Helper()
	e.start("felt", heavy, l)
	eventually(t, "the container holds its memory", func() bool { return e.exec("felt", "test -e /ready").code == 0 })
}

// requireAll skips what takes minutes and in what not every engine is steady, also with
// runc, unless it is asked for.
func requireAll(t *testing.T) {
	t.Helper()
	if os.Getenv("BOX_ENGINES") != "all" {
		t.Skip("takes minutes: make engines")
	}
}

// unified tells whether there is nothing but cgroup v2.
func unified() bool { return exists("/sys/fs/cgroup/cgroup.controllers") }

// feltProcessor: who may use a fifth of a processor does not use more.
func feltProcessor(t *testing.T, e managed, l limits) {
	t.Helper()
	pid := e.pid("felt")
	began, before := time.Now(), cpuTime(t, pid)
	e.exec("felt", "timeout 2 sh -c 'while :; do :; done'")
	used, wall := cpuTime(t, pid)-before, time.Since(began)
	if share := used.Seconds() / wall.Seconds(); share > 1.3*l.cpus || used < 200*time.Millisecond {
		t.Errorf("%v of processor time in %v with a limit of %v processors", used, wall, l.cpus)
	}
}

// limitsProcesses tells whether the engine has words for the number of processes.
func limitsProcesses(e managed) bool {
	switch e.(type) {
	case feltCtr:
		return false
	case feltCRI:
		return unified()
	}
	return true
}

// feltProcesses: one process too many is one too many.
func feltProcesses(t *testing.T, e managed, l limits) {
	t.Helper()
	if most := processLimit.value(t, e.pid("felt")); most != fmt.Sprint(l.processes) {
		t.Errorf("a limit of %s processes, want %d", most, l.processes)
	}
	// With streams of their own: a kubelet's exec goes on for as long as anybody has its.
	r := e.exec("felt", "i=0; while [ $i -lt 20 ]; do sleep 1000 >/dev/null 2>&1 & i=$((i+1)); done; echo all of them")
	if strings.Contains(r.stdout, "all of them") || !strings.Contains(r.stderr, "fork") {
		t.Errorf("20 processes with a limit of 16: %s", r)
	}
	killOthers(t, e.pid("felt"))
}

// killOthers ends the processes in the group of process pid, but for itself.
func killOthers(t *testing.T, pid string) {
	t.Helper()
	procs := control{"pids", "cgroup.procs", "cgroup.procs"}
	for _, other := range strings.Fields(procs.value(t, pid)) {
		if other == pid {
			continue
		}
		if err := syscall.Kill(int(number(t, other)), syscall.SIGKILL); err != nil && err != syscall.ESRCH {
			t.Fatal(err)
		}
	}
	eventually(t, "the others have ended", func() bool { return number(t, processesIn.value(t, pid)) < 4 })
}

// feltFigures: what the engine tells is what the kernel counts, within what can change
// between two looks.
func feltFigures(t *testing.T, e managed) {
	t.Helper()
	pid := e.pid("felt")
	least := cpuTime(t, pid)
	f := e.figures("felt")
	most := cpuTime(t, pid)
	if f.cpu < least-10*time.Millisecond || f.cpu > most+10*time.Millisecond {
		t.Errorf("%v of processor time, the kernel says between %v and %v", f.cpu, least, most)
	}
	if used := number(t, memoryUsed.value(t, pid)); f.memory < held || f.memory > used+2*mebibyte || f.memory < used-8*mebibyte {
		t.Errorf("%d bytes of memory, the kernel says %d", f.memory, used)
	}
	if n := number(t, processesIn.value(t, pid)); f.processes != 0 && (f.processes < n-1 || f.processes > n+1) {
		t.Errorf("%d processes, the kernel says %d", f.processes, n)
	}
}

// feltPause: a paused container uses no processor time, and then goes on.
func feltPause(t *testing.T, e managed) {
	t.Helper()
	pid := e.pid("felt")
	e.pause("felt")
	before := cpuTime(t, pid)
	time.Sleep(500 * time.Millisecond)
	if used := cpuTime(t, pid) - before; used != 0 {
		t.Errorf("a paused container used %v of processor time", used)
	}
	e.resume("felt")
	eventually(t, "it goes on", func() bool { return cpuTime(t, pid) > before })
}

// cpuTime is what the group of process pid has used.
func cpuTime(t *testing.T, pid string) time.Duration {
	t.Helper()
	if !unified() {
		return time.Duration(number(t, control{controller: "cpuacct", v1: "cpuacct.usage"}.value(t, pid)))
	}
	for line := range strings.Lines(control{"cpu", "", "cpu.stat"}.value(t, pid)) {
		if name, value, _ := strings.Cut(strings.TrimSpace(line), " "); name == "usage_usec" {
			return time.Duration(number(t, value)) * time.Microsecond
		}
	}
	t.Fatal("cpu.stat has no usage_usec")
	return 0
}

func number(t *testing.T, text string) int64 {
	t.Helper()
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// driver is the manager of groups that the engines shall use: "cgroupfs" or "systemd".
func driver() string {
	if name := os.Getenv(driverVar); name != "" {
		return name
	}
	return "cgroupfs"
}

// inScope checks that systemd keeps the group of process pid, where it is to.
func inScope(t *testing.T, pid string) {
	t.Helper()
	groups, err := os.ReadFile("/proc/" + pid + "/cgroup")
	if err != nil {
		t.Fatal(err)
	}
	path := strings.TrimSpace(string(groups))
	if scope := strings.HasSuffix(path, ".scope"); scope != (driver() == "systemd") {
		t.Errorf("process %s is in %s with the %s driver", pid, filepath.Base(path), driver())
	}
}
