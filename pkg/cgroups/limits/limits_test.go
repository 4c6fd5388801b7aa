package limits

import (
	"errors"
	"math"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/runtime-spec/specs-go"

	"box/internal/errdefs"
)

func ptr[T any](v T) *T { return &v }

// written shows limits as lines: ~ marks what asks for nothing, ? an optional file,
// ^ what may have to be written again, ! what is refused.
func written(t *testing.T, limits []Limit) []string {
	t.Helper()
	var lines []string
	for _, l := range limits {
		line := l.File + "=" + l.Value
		for _, mark := range []struct {
			set  bool
			text string
		}{{l.Again, "^"}, {l.Optional, "?"}, {l.Silent, "~"}} {
			if mark.set {
				line = mark.text + line
			}
		}
		if l.Refused != "" {
			line = "!" + l.Field
			if l.Silent {
				line = "~" + line
			}
		} else if !strings.HasPrefix(l.File, l.Controller+".") {
			t.Errorf("%s is not a file of controller %s", l.File, l.Controller)
		}
		lines = append(lines, line)
	}
	return lines
}

// TestPlan shows what is written for each field.
func TestPlan(t *testing.T) {
	type r = specs.LinuxResources
	disk := specs.LinuxBlockIODevice{Major: 8, Minor: 16}
	throttle := func(rate uint64) []specs.LinuxThrottleDevice {
		return []specs.LinuxThrottleDevice{{LinuxBlockIODevice: disk, Rate: rate}}
	}
	for _, c := range []struct {
		name string
		r    r
		bfq  bool
		want []string // as written shows it
	}{
		{"nothing", r{}, false, nil},
		{"empty sections", r{Memory: &specs.LinuxMemory{}, CPU: &specs.LinuxCPU{}, Pids: &specs.LinuxPids{}, BlockIO: &specs.LinuxBlockIO{}}, false, nil},
		{
			"memory",
			r{Memory: &specs.LinuxMemory{Limit: ptr(int64(1 << 20)), Reservation: ptr(int64(1 << 19)), Swap: ptr(int64(3 << 20))}},
			false,
			[]string{"memory.low=524288", "memory.max=1048576", "memory.swap.max=2097152"},
		},
		{
			"memory without swap",
			r{Memory: &specs.LinuxMemory{Limit: ptr(int64(4096)), Swap: ptr(int64(4096))}},
			false,
			[]string{"memory.max=4096", "?memory.swap.max=0"},
		},
		{
			"memory lifted",
			r{Memory: &specs.LinuxMemory{Limit: ptr(int64(-1))}},
			false,
			[]string{"~memory.max=max", "~?memory.swap.max=max"},
		},
		{
			"memory and any swap",
			r{Memory: &specs.LinuxMemory{Limit: ptr(int64(4096)), Swap: ptr(int64(-1))}},
			false,
			[]string{"memory.max=4096", "~?memory.swap.max=max"},
		},
		{"zeros", r{Memory: &specs.LinuxMemory{Limit: ptr(int64(0)), Swap: ptr(int64(0))}, CPU: &specs.LinuxCPU{Shares: ptr(uint64(0)), Quota: ptr(int64(0)), Period: ptr(uint64(0))}}, false, nil},
		{"shares of ctr", r{CPU: &specs.LinuxCPU{Shares: ptr(uint64(1024))}}, false, []string{"~cpu.weight=100"}},
		{
			"half a cpu",
			r{CPU: &specs.LinuxCPU{Quota: ptr(int64(50000)), Period: ptr(uint64(100000)), Burst: ptr(uint64(1000))}},
			false,
			[]string{"^cpu.max.burst=1000", "cpu.max=50000 100000"},
		},
		{"period alone", r{CPU: &specs.LinuxCPU{Period: ptr(uint64(50000))}}, false, []string{"cpu.max=max 50000"}},
		{"quota lifted", r{CPU: &specs.LinuxCPU{Quota: ptr(int64(-1))}}, false, []string{"~cpu.max=max 100000"}},
		{"idle has no weight", r{CPU: &specs.LinuxCPU{Idle: ptr(int64(1)), Shares: ptr(uint64(512))}}, false, []string{"cpu.idle=1"}},
		{"cpuset", r{CPU: &specs.LinuxCPU{Cpus: "0-1", Mems: "0"}}, false, []string{"cpuset.cpus=0-1", "cpuset.mems=0"}},
		{"pids", r{Pids: &specs.LinuxPids{Limit: ptr(int64(7))}}, false, []string{"pids.max=7"}},
		{"pids of podman", r{Pids: &specs.LinuxPids{Limit: ptr(int64(2048))}}, false, []string{"~pids.max=2048"}},
		{"no pids", r{Pids: &specs.LinuxPids{Limit: ptr(int64(0))}}, false, []string{"pids.max=1"}},
		{"any number of pids", r{Pids: &specs.LinuxPids{Limit: ptr(int64(-1))}}, false, []string{"~pids.max=max"}},
		{
			"io",
			r{BlockIO: &specs.LinuxBlockIO{Weight: ptr(uint16(1000)), ThrottleReadBpsDevice: throttle(5), ThrottleWriteIOPSDevice: throttle(0)}},
			false,
			[]string{"io.weight=10000", "io.max=8:16 rbps=5", "~io.max=8:16 wiops=max"},
		},
		{
			"io with bfq",
			r{BlockIO: &specs.LinuxBlockIO{Weight: ptr(uint16(10)), WeightDevice: []specs.LinuxWeightDevice{{LinuxBlockIODevice: disk, Weight: ptr(uint16(20))}}}},
			true,
			[]string{"io.bfq.weight=10", "io.bfq.weight=8:16 20"},
		},
		{
			"hugetlb",
			r{HugepageLimits: []specs.LinuxHugepageLimit{{Pagesize: "2MB", Limit: 9}}},
			false,
			[]string{"hugetlb.2MB.max=9", "?hugetlb.2MB.rsvd.max=9"},
		},
		{
			"rdma",
			r{Rdma: map[string]specs.LinuxRdma{"mlx5_1": {HcaHandles: ptr(uint32(3)), HcaObjects: ptr(uint32(4))}}},
			false,
			[]string{"rdma.max=mlx5_1 hca_handle=3 hca_object=4"},
		},
		{
			"unified is last and line by line",
			r{Unified: map[string]string{"memory.high": "5", "io.max": "8:0 rbps=1\n8:16 rbps=2\n"}, Pids: &specs.LinuxPids{Limit: ptr(int64(1))}},
			false,
			[]string{"pids.max=1", "io.max=8:0 rbps=1", "io.max=8:16 rbps=2", "memory.high=5"},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			limits, err := Plan(&c.r, &Host{BFQ: c.bfq})
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(c.want, written(t, limits)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestPlanRefuses(t *testing.T) {
	type r = specs.LinuxResources
	for text, r := range map[string]r{
		"linux.resources.memory.swap: 5 is memory and swap together, and needs a memory limit":         {Memory: &specs.LinuxMemory{Swap: ptr(int64(5))}},
		"linux.resources.memory.swap: 5 is memory and swap together, and less than the memory limit 6": {Memory: &specs.LinuxMemory{Limit: ptr(int64(6)), Swap: ptr(int64(5))}},
		`linux.resources.cpu.cpus: "0\n1" is not a list such as 0-3,7`:                                 {CPU: &specs.LinuxCPU{Cpus: "0\n1"}},
		`linux.resources.cpu.mems: "` + strings.Repeat("1", 40) + `" is not a list such as 0-3,7`:      {CPU: &specs.LinuxCPU{Mems: strings.Repeat("1", 5000)}},
		`linux.resources.hugepageLimits[0].pageSize: "../x" is not a size such as 2MB`:                 {HugepageLimits: []specs.LinuxHugepageLimit{{Pagesize: "../x"}}},
		`linux.resources.hugepageLimits[0].pageSize: "MB" is not a size such as 2MB`:                   {HugepageLimits: []specs.LinuxHugepageLimit{{Pagesize: "MB"}}},
		`linux.resources.unified: "cgroup.procs" is not a file of a controller`:                        {Unified: map[string]string{"cgroup.procs": "1"}},
		`linux.resources.unified: "memory.x/../../cgroup.procs" is not a file of a controller`:         {Unified: map[string]string{"memory.x/../../cgroup.procs": "1"}},
		`linux.resources.unified: "max" is not a file of a controller`:                                 {Unified: map[string]string{"max": "1"}},
		`linux.resources.rdma: "a b" is not the name of a device`:                                      {Rdma: map[string]specs.LinuxRdma{"a b": {}}},
	} {
		if _, err := Plan(&r, &Host{}); err == nil || err.Error() != text || !errors.Is(err, errdefs.ErrInvalid) {
			t.Errorf("have %v\nwant %s", err, text)
		}
	}
}

func TestWeightOfShares(t *testing.T) {
	last := uint64(0)
	for _, c := range []struct{ shares, weight uint64 }{
		{1, 1}, {2, 1}, {512, 59}, {1024, 100}, {2048, 174}, {262144, 10000}, {1 << 40, 10000},
	} {
		have := WeightOfShares(c.shares)
		if have != c.weight || have < last {
			t.Errorf("%d shares are a weight of %d, want %d", c.shares, have, c.weight)
		}
		last = have
	}
}

// TestPlanOfChanges: what is not named stays as it is.
func TestPlanOfChanges(t *testing.T) {
	type r = specs.LinuxResources
	for _, c := range []struct {
		name string
		r    r
		host Host
		want []string
	}{
		{"period", r{CPU: &specs.LinuxCPU{Period: ptr(uint64(900000))}}, Host{Quota: "500000", Period: "1000000"}, []string{"cpu.max=500000 900000"}},
		{"quota", r{CPU: &specs.LinuxCPU{Quota: ptr(int64(600000))}}, Host{Quota: "500000", Period: "900000"}, []string{"cpu.max=600000 900000"}},
		{"quota lifted", r{CPU: &specs.LinuxCPU{Quota: ptr(int64(-1))}}, Host{Quota: "500000", Period: "900000"}, []string{"cpu.max=max 900000"}},
		{"both", r{CPU: &specs.LinuxCPU{Quota: ptr(int64(1000)), Period: ptr(uint64(2000))}}, Host{}, []string{"cpu.max=1000 2000"}},
		{"swap alone", r{Memory: &specs.LinuxMemory{Swap: ptr(int64(100))}}, Host{Memory: 30}, []string{"memory.swap.max=70"}},
		{"swap lifted", r{Memory: &specs.LinuxMemory{Swap: ptr(int64(-1))}}, Host{}, []string{"~?memory.swap.max=max"}},
	} {
		limits, err := Plan(&c.r, &c.host)
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		if diff := cmp.Diff(c.want, written(t, limits)); diff != "" {
			t.Errorf("%s: %s", c.name, diff)
		}
	}
	if !NeedsQuota(&r{CPU: &specs.LinuxCPU{Period: ptr(uint64(1))}}) || NeedsQuota(&r{CPU: &specs.LinuxCPU{Period: ptr(uint64(1)), Quota: ptr(int64(1))}}) || NeedsQuota(&r{}) {
		t.Error("quota and period need each other, and only then")
	}
	if !NeedsMemory(&r{Memory: &specs.LinuxMemory{Swap: ptr(int64(1))}}) || NeedsMemory(&r{Memory: &specs.LinuxMemory{Swap: ptr(int64(-1))}}) || NeedsMemory(&r{}) {
		t.Error("a sum needs the memory limit, and only then")
	}
}

// TestPlanLegacy is about a host with all controllers in v1.
func TestPlanLegacy(t *testing.T) {
	type r = specs.LinuxResources
	disk := specs.LinuxBlockIODevice{Major: 8, Minor: 16}
	memory := func(limit, swap int64) r { return r{Memory: &specs.LinuxMemory{Limit: &limit, Swap: &swap}} }
	for _, c := range []struct {
		name string
		r    r
		host Host
		want []string
	}{
		{"nothing", r{}, Host{}, nil},
		{"a first limit", memory(100, 300), Host{Both: math.MaxInt64}, []string{"memory.limit_in_bytes=100", "memory.memsw.limit_in_bytes=300"}},
		{"a higher one", memory(400, 600), Host{Both: 300}, []string{"memory.memsw.limit_in_bytes=600", "memory.limit_in_bytes=400"}},
		{"a lower one", memory(100, 200), Host{Both: 300}, []string{"memory.limit_in_bytes=100", "memory.memsw.limit_in_bytes=200"}},
		{"no swap", memory(100, 100), Host{}, []string{"memory.limit_in_bytes=100", "?memory.memsw.limit_in_bytes=100"}},
		{"lifted", memory(-1, 0), Host{Both: 300}, []string{"~?memory.memsw.limit_in_bytes=-1", "~memory.limit_in_bytes=-1"}},
		{"sum alone", memory(0, 500), Host{Both: 300}, []string{"memory.memsw.limit_in_bytes=500"}},
		{
			"other memory",
			r{Memory: &specs.LinuxMemory{Reservation: ptr(int64(7)), Swappiness: ptr(uint64(0)), DisableOOMKiller: ptr(true), Kernel: ptr(int64(5))}},
			Host{},
			[]string{"~!memory.kernel", "memory.soft_limit_in_bytes=7", "memory.oom_control=1", "memory.swappiness=0"},
		},
		{"callers that mean nothing", r{Memory: &specs.LinuxMemory{Swappiness: ptr(uint64(math.MaxUint64)), DisableOOMKiller: ptr(false)}}, Host{}, []string{"~memory.oom_control=0"}},
		{
			"cpu",
			r{CPU: &specs.LinuxCPU{Shares: ptr(uint64(1024)), Quota: ptr(int64(-1)), Period: ptr(uint64(50000)), Burst: ptr(uint64(5)), RealtimePeriod: ptr(uint64(9)), RealtimeRuntime: ptr(int64(8)), Idle: ptr(int64(0)), Cpus: "0"}},
			Host{},
			[]string{"~cpu.idle=0", "~cpu.shares=1024", "^cpu.rt_period_us=9", "cpu.rt_runtime_us=8", "^cpu.cfs_burst_us=5", "^cpu.cfs_period_us=50000", "~cpu.cfs_quota_us=-1", "cpuset.cpus=0"},
		},
		{"pids", r{Pids: &specs.LinuxPids{Limit: ptr(int64(20))}}, Host{}, []string{"pids.max=20"}},
		{
			"blkio",
			r{BlockIO: &specs.LinuxBlockIO{
				Weight: ptr(uint16(30)), LeafWeight: ptr(uint16(40)),
				WeightDevice:          []specs.LinuxWeightDevice{{LinuxBlockIODevice: disk, Weight: ptr(uint16(20))}},
				ThrottleReadBpsDevice: []specs.LinuxThrottleDevice{{LinuxBlockIODevice: disk, Rate: 5}, {LinuxBlockIODevice: disk}},
			}},
			Host{},
			[]string{"blkio.weight=30", "blkio.leaf_weight=40", "blkio.weight_device=8:16 20", "blkio.throttle.read_bps_device=8:16 5", "~blkio.throttle.read_bps_device=8:16 0"},
		},
		{"blkio with bfq", r{BlockIO: &specs.LinuxBlockIO{Weight: ptr(uint16(30))}}, Host{BFQ: true}, []string{"blkio.bfq.weight=30"}},
		{"hugetlb", r{HugepageLimits: []specs.LinuxHugepageLimit{{Pagesize: "2MB", Limit: math.MaxUint64}}}, Host{}, []string{"hugetlb.2MB.limit_in_bytes=-1", "?hugetlb.2MB.rsvd.limit_in_bytes=-1"}},
		{
			"network",
			r{Network: &specs.LinuxNetwork{ClassID: ptr(uint32(0x100001)), Priorities: []specs.LinuxInterfacePriority{{Name: "eth0", Priority: 5}}}},
			Host{},
			[]string{"net_cls.classid=1048577", "net_prio.ifpriomap=eth0 5"},
		},
	} {
		c.host.Legacy = func(string) bool { return true }
		limits, err := Plan(&c.r, &c.host)
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		if diff := cmp.Diff(c.want, written(t, limits)); diff != "" {
			t.Errorf("%s: %s", c.name, diff)
		}
		for _, l := range limits {
			if !l.Legacy {
				t.Errorf("%s: %s is not marked", c.name, l.File)
			}
		}
	}
}

// TestPlanOfBothVersions: each limit goes where its controller is.
func TestPlanOfBothVersions(t *testing.T) {
	r := &specs.LinuxResources{
		Memory:  &specs.LinuxMemory{Limit: ptr(int64(5))},
		Pids:    &specs.LinuxPids{Limit: ptr(int64(6))},
		Unified: map[string]string{"pids.max": "7"},
	}
	memory := func(c string) bool { return c == "memory" }
	limits, err := Plan(r, &Host{Legacy: memory})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"memory.limit_in_bytes=5", "pids.max=6", "pids.max=7"}, written(t, limits)); diff != "" {
		t.Error(diff)
	}
	r.Unified["memory.high"] = "3"
	if _, err := Plan(r, &Host{Legacy: memory}); !errors.Is(err, errdefs.ErrUnsupported) || !strings.Contains(err.Error(), "invalid configuration") {
		t.Errorf("have %v", err)
	}
}

// TestPlanRefusesWhatOnlyV1Has by the name of the field.
func TestPlanRefusesWhatOnlyV1Has(t *testing.T) {
	r := &specs.LinuxResources{
		Memory:  &specs.LinuxMemory{Swappiness: ptr(uint64(3)), DisableOOMKiller: ptr(true), KernelTCP: ptr(int64(1))},
		CPU:     &specs.LinuxCPU{RealtimePeriod: ptr(uint64(1)), RealtimeRuntime: ptr(int64(1))},
		BlockIO: &specs.LinuxBlockIO{LeafWeight: ptr(uint16(10)), WeightDevice: []specs.LinuxWeightDevice{{LeafWeight: ptr(uint16(10))}}},
		Network: &specs.LinuxNetwork{ClassID: ptr(uint32(1)), Priorities: []specs.LinuxInterfacePriority{{Name: "lo"}}},
	}
	limits, err := Plan(r, &Host{})
	want := []string{
		"~!memory.kernelTCP", "!memory.swappiness", "!memory.disableOOMKiller", "!cpu.realtimeRuntime", "!cpu.realtimePeriod",
		"!blockIO.leafWeight", "!blockIO.weightDevice.leafWeight", "!network.classID", "!network.priorities",
	}
	if diff := cmp.Diff(want, written(t, limits)); err != nil || diff != "" {
		t.Error(err, diff)
	}
}

// FuzzUnified: nothing that is written leaves its line or its directory.
func FuzzUnified(f *testing.F) {
	f.Add("io.max", "8:0 rbps=1\n8:16 wbps=2\n")
	f.Add("memory.high", "max")
	f.Fuzz(func(t *testing.T, file, value string) {
		limits, err := Plan(&specs.LinuxResources{Unified: map[string]string{file: value}}, &Host{})
		for _, l := range limits {
			if err == nil && (strings.ContainsAny(l.File, "/\n") || strings.Contains(l.Value, "\n") || strings.HasPrefix(l.File, "cgroup.")) {
				t.Errorf("%+v", l)
			}
		}
	})
}
