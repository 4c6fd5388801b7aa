package runtime

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"box/internal/testkit"
	"box/pkg/sched"
)

// background starts the container and returns its pid; it is deleted in the end.
func (b *bench) background() int {
	b.t.Helper()
	b.save()
	b.do("run", "-d", b.id)
	b.t.Cleanup(func() { b.try("delete", "--force", b.id) })
	return b.expectStatus(Running).Pid
}

// joinBackground starts a process from a description and returns its pid.
func (b *bench) joinBackground(p *specs.Process) int {
	b.t.Helper()
	data, err := json.Marshal(p)
	if err != nil {
		b.t.Fatal(err)
	}
	file, pid := filepath.Join(b.t.TempDir(), "process.json"), filepath.Join(b.t.TempDir(), "pid")
	if err := os.WriteFile(file, data, 0o600); err != nil {
		b.t.Fatal(err)
	}
	b.do("exec", "-d", "--process", file, "--pid-file", pid, b.id)
	n, err := strconv.Atoi(testkit.Text(b.t, pid))
	if err != nil {
		b.t.Fatal(err)
	}
	return n
}

func scheduling(t *testing.T, pid int) string {
	t.Helper()
	a, err := unix.SchedGetAttr(pid, 0)
	if err != nil {
		t.Fatal(err)
	}
	io, _, _ := unix.RawSyscall(unix.SYS_IOPRIO_GET, 1, uintptr(pid), 0)
	return fmt.Sprintf("policy %d nice %d io %d/%d", a.Policy, a.Nice, io>>13, io&7)
}

// A process that joins has what the container's own has, unless it says otherwise.
func TestScheduling(t *testing.T) {
	b := newBench(t, "sleep", "1000")
	b.spec.Process.Scheduler = &specs.Scheduler{Policy: specs.SchedBatch, Nice: 5}
	b.spec.Process.IOPriority = &specs.LinuxIOPriority{Class: specs.IOPRIO_CLASS_BE, Priority: 3}
	pid := b.background()
	const want = "policy 3 nice 5 io 2/3"
	if got := scheduling(t, pid); got != want {
		t.Errorf("the container has %s, want %s", got, want)
	}
	other := &specs.Process{Args: []string{"sleep", "1000"}, Cwd: "/", Env: []string{"PATH=/bin"}}
	if got := scheduling(t, b.joinBackground(other)); got != want {
		t.Errorf("a process that joins has %s, want %s", got, want)
	}
	other.Scheduler = &specs.Scheduler{Policy: specs.SchedOther, Nice: 9}
	other.IOPriority = &specs.LinuxIOPriority{Class: specs.IOPRIO_CLASS_IDLE}
	if got := scheduling(t, b.joinBackground(other)); got != "policy 0 nice 9 io 3/0" {
		t.Errorf("a process that joins with its own has %s", got)
	}
	// A deadline does not survive a fork, and forbids one.
	for _, flags := range [][]specs.LinuxSchedulerFlag{nil, {specs.SchedFlagResetOnFork}} {
		other.Scheduler = &specs.Scheduler{Policy: specs.SchedDeadline, Flags: flags, Runtime: 42000, Deadline: 1000000, Period: 1000000}
		if got := scheduling(t, b.joinBackground(other)); !strings.HasPrefix(got, "policy 6 ") {
			t.Errorf("a process that joins with a deadline and %v has %s", flags, got)
		}
	}
}

func TestSchedulerThatCannotBe(t *testing.T) {
	b := newBench(t, "true")
	for policy, want := range map[specs.LinuxSchedulerPolicy]string{
		"": "scheduler policy is required", specs.SchedISO: "set scheduler to SCHED_ISO: invalid argument",
	} {
		b.spec.Process.Scheduler = &specs.Scheduler{Policy: policy}
		if r := b.run(); r.code != 1 || !strings.Contains(r.err, want) {
			t.Errorf("%q: %+v, want %q", policy, r, want)
		}
	}
}

// cpusOf is what a process may run on.
func cpusOf(t *testing.T, pid int) string {
	t.Helper()
	mask, err := sched.CPUs(pid)
	if err != nil {
		t.Fatal(err)
	}
	return mask.String()
}

// onOneCPU calls box-runtime from a process that is kept to the first CPU.
func (b *bench) onOneCPU(args ...string) {
	b.t.Helper()
	command := b.command(args...)
	command.Args = append([]string{"taskset", "-c", "0"}, command.Args...)
	path, err := exec.LookPath("taskset")
	if err != nil {
		b.t.Skip("needs taskset")
	}
	command.Path = path
	if r := finish(b.t, command); r.code != 0 {
		b.t.Fatalf("%v: %+v", args, r)
	}
}

// What keeps the caller to a CPU is none of the container's business.
func TestAffinityIsReset(t *testing.T) {
	if runtime.NumCPU() < 2 {
		t.Skip("needs two CPUs")
	}
	b := newBench(t, "sleep", "1000")
	b.save()
	t.Cleanup(func() { b.try("delete", "--force", b.id) })
	all := cpusOf(t, os.Getpid())
	b.onOneCPU("run", "-d", b.id)
	if got := cpusOf(t, b.expectStatus(Running).Pid); got != all {
		t.Errorf("the container runs on %s, want %s", got, all)
	}
	file := filepath.Join(t.TempDir(), "pid")
	b.onOneCPU("exec", "-d", "--pid-file", file, b.id, "sleep", "1000")
	pid, err := strconv.Atoi(testkit.Text(t, file))
	if err != nil {
		t.Fatal(err)
	}
	if got := cpusOf(t, pid); got != all {
		t.Errorf("a process that joins runs on %s, want %s", got, all)
	}
}

// Hooks that run in the container have its CPUs, as with runc, whose init runs them; those
// of the host keep the caller's.
func TestAffinityOfHooks(t *testing.T) {
	if runtime.NumCPU() < 2 {
		t.Skip("needs two CPUs")
	}
	b := newBench(t, "sleep", "1000")
	note := func(file string) []specs.Hook {
		return []specs.Hook{{Path: "/bin/sh", Args: []string{"sh", "-c", "while read a b; do case $a in Cpus_allowed_list:) echo $b; esac; done < /proc/self/status > " + file}}}
	}
	b.spec.Hooks = &specs.Hooks{CreateRuntime: note("runtime"), CreateContainer: note("container"), StartContainer: note("/tmp/start"), Poststart: note("poststart")}
	run := func(what string, want map[string]string) {
		b.save()
		b.onOneCPU("create", b.id)
		b.onOneCPU("start", b.id)
		b.do("delete", "--force", b.id)
		for file, cpus := range want {
			if got := strings.TrimSpace(testkit.Text(t, filepath.Join(b.bundle, file))); got != cpus {
				t.Errorf("%s: the hook that wrote %s ran on %s, want %s", what, file, got, cpus)
			}
		}
	}
	status := testkit.Text(t, "/proc/self/status")
	_, all, _ := strings.Cut(status, "Cpus_allowed_list:")
	all = strings.Fields(all)[0]
	run("all CPUs", map[string]string{"runtime": "0", "poststart": "0", "rootfs/container": all, "rootfs/tmp/start": all})
	b.spec.Linux.Resources = &specs.LinuxResources{CPU: &specs.LinuxCPU{Cpus: "1"}}
	run("one CPU for the container", map[string]string{"runtime": "0", "rootfs/container": "1", "rootfs/tmp/start": "1"})
}

// A startContainer hook stands where the command will stand, in every respect; for the
// out-of-memory killer createContainer hooks are the container's, too. As with runc.
func TestHooksStandWhereTheCommandDoes(t *testing.T) {
	for _, userns := range []bool{false, true} {
		t.Run(fmt.Sprintf("user namespace %t", userns), func(t *testing.T) {
			b := newBench(t)
			show := `cd . && pwd; umask; busybox ionice -p $$
				for f in oom_score_adj personality limits; do cat /proc/self/$f; done
				while read k v; do case $k in Cap*|NoNewPrivs:|Uid:|Groups:|Cpus_allowed:) echo $k $v; esac; done < /proc/self/status
				read line < /proc/self/stat; set -- $line; echo nice ${19} policy ${41}`
			p, score, mask := b.spec.Process, 321, uint32(0o37)
			p.Args, p.Cwd = []string{"sh", "-c", "exec > /tmp/command; " + show}, "/tmp"
			p.OOMScoreAdj, p.User = &score, specs.User{UID: 1000, GID: 1001, AdditionalGids: []uint32{5}, Umask: &mask}
			p.Rlimits = []specs.POSIXRlimit{{Type: "RLIMIT_NOFILE", Hard: 2000, Soft: 1500}, {Type: "RLIMIT_NPROC", Hard: 300, Soft: 300}, {Type: "RLIMIT_CORE", Hard: 999, Soft: 888}}
			p.IOPriority = &specs.LinuxIOPriority{Class: specs.IOPRIO_CLASS_BE, Priority: 6}
			p.Scheduler = &specs.Scheduler{Policy: specs.SchedBatch, Nice: 7}
			b.spec.Linux.Personality = &specs.LinuxPersonality{Domain: specs.PerLinux32}
			if userns {
				b.spec.Linux.Namespaces = append(b.spec.Linux.Namespaces, specs.LinuxNamespace{Type: specs.UserNamespace})
				b.spec.Linux.UIDMappings = []specs.LinuxIDMapping{{HostID: 100000, Size: 65536}}
				b.spec.Linux.GIDMappings = b.spec.Linux.UIDMappings
				dir := filepath.Dir(b.bundle)
				if err := errors.Join(os.Chmod(dir, 0o711), os.Chmod(filepath.Dir(dir), 0o711), exec.Command("chown", "-R", "100000:100000", b.bundle).Run()); err != nil {
					t.Fatal(err)
				}
			}
			if err := os.Chmod(b.bundle+"/rootfs/tmp", 0o777); err != nil {
				t.Fatal(err)
			}
			hook := func(script string) []specs.Hook {
				return []specs.Hook{{Path: "/bin/sh", Args: []string{"sh", "-c", script}, Env: []string{"PATH=/bin"}}}
			}
			b.spec.Hooks = &specs.Hooks{
				CreateContainer: hook("cat /proc/self/oom_score_adj > tmp/create"),
				StartContainer:  hook("exec > /tmp/start; " + show),
			}
			if r := b.run(); r.code != 0 {
				t.Fatalf("%+v", r)
			}
			tmp := b.bundle + "/rootfs/tmp/"
			if got, want := testkit.Text(t, tmp+"start"), testkit.Text(t, tmp+"command"); got != want || !strings.HasSuffix(want, "nice 7 policy 3\n") {
				t.Errorf("the hook has\n%s\nwant as the command\n%s", got, want)
			}
			if got := testkit.Text(t, tmp+"create"); got != "321\n" {
				t.Errorf("oom_score_adj of a createContainer hook: %q", got)
			}
		})
	}
}

func TestAffinityOfExec(t *testing.T) {
	if runtime.NumCPU() < 2 {
		t.Skip("needs two CPUs")
	}
	b := newBench(t, "sleep", "1000")
	b.spec.Process.ExecCPUAffinity = &specs.CPUAffinity{Initial: "0", Final: "1"}
	all := cpusOf(t, os.Getpid())
	if got := cpusOf(t, b.background()); got != all {
		t.Errorf("the container's own process runs on %s, want %s", got, all)
	}
	other := &specs.Process{Args: []string{"sleep", "1000"}, Cwd: "/", Env: []string{"PATH=/bin"}}
	if got := cpusOf(t, b.joinBackground(other)); got != "0x2" {
		t.Errorf("a process that joins runs on %s, want the final CPU", got)
	}
	other.ExecCPUAffinity = &specs.CPUAffinity{Initial: "1"}
	if got := cpusOf(t, b.joinBackground(other)); got != all {
		t.Errorf("without a final CPU a process runs on %s, want %s", got, all)
	}
	r := b.try("--debug", "exec", b.id, "true")
	if r.code != 0 || !strings.Contains(r.err, "affinity: 0x1") {
		t.Errorf("exec --debug: %+v", r)
	}
}

func TestMemoryPolicyAndPersonality(t *testing.T) {
	if runtime.GOARCH != "amd64" {
		t.Skip("the other machine's name of PER_LINUX32 differs")
	}
	b := newBench(t, "sleep", "1000")
	b.spec.Linux.MemoryPolicy = &specs.LinuxMemoryPolicy{Mode: specs.MpolBind, Nodes: "0", Flags: []specs.MemoryPolicyFlagType{specs.MpolFStaticNodes}}
	b.spec.Linux.Personality = &specs.LinuxPersonality{Domain: specs.PerLinux32}
	// A filter that forbids the calls does not stop their being made before it.
	b.spec.Linux.Seccomp = &specs.LinuxSeccomp{DefaultAction: specs.ActAllow, Syscalls: []specs.LinuxSyscall{
		{Names: []string{"personality", "set_mempolicy"}, Action: specs.ActErrno},
	}}
	const script = "busybox uname -m; busybox head -n 1 /proc/self/numa_maps"
	check := func(what string, r result) {
		t.Helper()
		if r.code != 0 || !strings.HasPrefix(r.out, "i686\n") || !strings.Contains(r.out, " bind=static:0") {
			t.Errorf("%s: %+v", what, r)
		}
	}
	b.background()
	check("exec", b.try("exec", b.id, "sh", "-c", script))
	b.do("delete", "--force", b.id)
	b.spec.Process.Args = []string{"sh", "-c", script}
	check("run", b.run())
	b.spec.Linux.MemoryPolicy.Mode = specs.MpolDefault
	if r := b.run(); r.code != 1 || !strings.Contains(r.err, "mode requires 0 nodes but got 1") {
		t.Errorf("MPOL_DEFAULT with nodes: %+v", r)
	}
}
