package limits

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"box/internal/testkit"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

const mebibyte = int64(1 << 20)

// ptr is a pointer to a value, as the optional fields of the specification want it.
func ptr[T any](v T) *T { return &v }

// gluttony eats memory without end: the whole of /dev/zero is one line.
var gluttony = []string{"tail", "/dev/zero"}

func memory(limit int64) *specs.LinuxMemory {
	return &specs.LinuxMemory{Limit: ptr(limit), Swap: ptr(limit)}
}

func TestMemoryLimitKills(t *testing.T) {
	c := newContainer(t, "memory", gluttony...)
	c.spec.Linux.Resources.Memory = memory(32 * mebibyte)
	if r := c.run(); r.status != 137 {
		t.Errorf("status of a container that ate more than its memory: %v, want 137", r)
	}
}

func TestMemoryKillIsCounted(t *testing.T) {
	c := newContainer(t, "memory", gluttony...)
	c.spec.Linux.Resources.Memory = memory(32 * mebibyte)
	c.finish()
	c.expect("memory.max", "33554432")
	if n := c.counter("memory.events", "oom_kill"); n != 1 {
		t.Errorf("%d processes were killed, want 1", n)
	}
	peak, err := strconv.ParseInt(strings.TrimSpace(c.read(filepath.Join(c.group, "memory.peak"))), 10, 64)
	if err != nil || peak > 32*mebibyte {
		t.Errorf("the group held %d bytes (%v)", peak, err)
	}
}

// TestTinyMemoryIsNamed: who sets a limit that no process can start under hears the
// reason from create.
func TestTinyMemoryIsNamed(t *testing.T) {
	c := newContainer(t, "memory", "true")
	c.spec.Linux.Resources.Memory = memory(4096)
	r := c.run()
	if r.status == 0 || !strings.Contains(strings.ToLower(r.err), "oom") && !strings.Contains(r.err, "memory") {
		t.Errorf("one page of memory: %v", r)
	}
}

func TestPidsLimitStopsForkBomb(t *testing.T) {
	c := newContainer(t, "pids", "sh", "-c", `i=0; while [ $i -lt 30 ]; do sleep 60 & i=$((i+1)); done; echo all`)
	c.spec.Linux.Resources.Pids = &specs.LinuxPids{Limit: ptr(int64(8))}
	output := c.finish()
	if strings.Contains(output, "all") || !strings.Contains(output, "fork") {
		t.Errorf("thirty processes where eight are allowed: %q", output)
	}
	c.expect("pids.max", "8")
	if n := c.counter("pids.events", "max"); n == 0 {
		t.Error("the kernel counted no refused fork")
	}
}

func TestCPUQuotaThrottles(t *testing.T) {
	c := newContainer(t, "cpu", "play", "burn")
	c.spec.Linux.Resources.CPU = &specs.LinuxCPU{Quota: ptr(int64(20000)), Period: ptr(uint64(100000))}
	c.finish()
	c.expect("cpu.max", "20000 100000")
	periods, throttled := c.counter("cpu.stat", "nr_periods"), c.counter("cpu.stat", "nr_throttled")
	if throttled == 0 || throttled < periods/2 {
		t.Errorf("throttled in %d of %d periods", throttled, periods)
	}
}

func TestCPUWeight(t *testing.T) {
	c := newContainer(t, "cpu", "true")
	c.spec.Linux.Resources.CPU = &specs.LinuxCPU{Shares: ptr(uint64(2048)), Idle: ptr(int64(0))}
	c.finish()
	if weight := strings.TrimSpace(c.read(filepath.Join(c.group, "cpu.weight"))); weight == "100" || weight == "" {
		t.Errorf("cpu.weight is %s", weight)
	}
}

func TestCpusetPins(t *testing.T) {
	c := newContainer(t, "cpuset", "nproc")
	c.spec.Linux.Resources.CPU = &specs.LinuxCPU{Cpus: "1", Mems: "0"}
	if output := c.finish(); output != "1\n" {
		t.Errorf("nproc says %q on one processor", output)
	}
	c.expect("cpuset.cpus.effective", "1")
	c.expect("cpuset.mems.effective", "0")
}

// device is the number of the block device that holds a file.
func device(t *testing.T, file string) (major, minor int64) {
	t.Helper()
	info, err := os.Stat(file)
	must(t, err)
	dev := info.Sys().(*syscall.Stat_t).Dev
	if unix.Major(dev) == 0 {
		t.Skipf("%s lies on no block device", file)
	}
	return int64(unix.Major(dev)), int64(unix.Minor(dev))
}

// TestIOLimitSlows writes three mebibytes at one mebibyte per second. The kernel
// may be slower than that, but never faster.
func TestIOLimitSlows(t *testing.T) {
	c := newContainer(t, "io", "dd", "if=/dev/zero", "of=/file", "bs=64k", "count=48", "conv=fsync")
	var limit specs.LinuxThrottleDevice
	limit.Major, limit.Minor = device(t, c.bundle)
	limit.Rate = uint64(mebibyte)
	c.spec.Linux.Resources.BlockIO = &specs.LinuxBlockIO{ThrottleWriteBpsDevice: []specs.LinuxThrottleDevice{limit}}
	begin := time.Now()
	output := c.finish()
	if took := time.Since(begin); took < 2*time.Second {
		t.Errorf("3 MiB at 1 MiB/s took %v: %s", took, output)
	}
	if text := c.read(filepath.Join(c.group, "io.max")); !strings.Contains(text, "wbps=1048576") {
		t.Errorf("io.max is %q", text)
	}
}

func TestHugePagesLimit(t *testing.T) {
	testkit.RequireRoot(t)
	const pool = "/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages"
	c := newContainer(t, "hugetlb", "play", "hugepages")
	before := c.read(pool)
	must(t, os.WriteFile(pool, []byte("4"), 0))
	t.Cleanup(func() { must(t, os.WriteFile(pool, []byte(before), 0)) })
	c.spec.Linux.Resources.HugepageLimits = []specs.LinuxHugepageLimit{{Pagesize: "2MB", Limit: uint64(2 * mebibyte)}}
	output := c.finish()
	if !strings.HasPrefix(output, "page 0\n") || strings.Contains(output, "page 1\n") {
		t.Errorf("with one huge page allowed: %q", output)
	}
	c.expect("hugetlb.2MB.max", "2097152")
}

func TestUnifiedValuesAreWritten(t *testing.T) {
	c := newContainer(t, "memory pids", "true")
	c.spec.Linux.Resources.Unified = map[string]string{"memory.high": "16777216", "pids.max": "20"}
	c.finish()
	c.expect("memory.high", "16777216")
	c.expect("pids.max", "20")
}
