package stats

import (
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// group makes a directory with interface files.
func group(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, content := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func none(string) string { return "" }

func TestUnified(t *testing.T) {
	dir := group(t, map[string]string{
		"cpu.stat":              "usage_usec 30\nuser_usec 20\nsystem_usec 10\nnr_periods 4\nnr_throttled 3\nthrottled_usec 2\n",
		"cpu.pressure":          "some avg10=1.50 avg60=0.25 avg300=0.00 total=77\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=5\n",
		"cpuset.cpus.effective": "0-1\n", "cpuset.mems.effective": "0\n",
		"memory.current": "4096\n", "memory.max": "8192\n", "memory.peak": "5000\n", "memory.events": "low 0\nmax 9\noom_kill 1\n",
		"memory.swap.current": "100\n", "memory.swap.max": "max\n", "memory.stat": "anon 1\nfile 2048\n",
		"pids.current": "3\n", "pids.max": "max\n",
		"io.stat":             "8:16 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=0 dios=0\n253:0 \n",
		"hugetlb.2MB.current": "1\n", "hugetlb.2MB.rsvd.current": "2097152\n", "hugetlb.2MB.events": "max 2\n",
		"hugetlb.1GB.current": "7\n",
	})
	have, err := Collect(dir, none)
	if err != nil {
		t.Fatal(err)
	}
	want := &Stats{
		CPU: CPU{
			Usage: CPUUsage{Total: 30000, User: 20000, Kernel: 10000}, Throttling: Throttling{4, 3, 2000},
			PSI: &PSI{Some: PSIData{Avg10: 1.5, Avg60: 0.25, Total: 77}, Full: PSIData{Total: 5}},
		},
		CPUSet: CPUSet{CPUs: []uint16{0, 1}, Mems: []uint16{0}},
		Memory: Memory{
			Cache: 2048, Raw: map[string]uint64{"anon": 1, "file": 2048},
			Usage: MemoryEntry{Limit: 8192, Usage: 4096, Max: 5000, Failcnt: 9},
			Swap:  MemoryEntry{Limit: math.MaxUint64, Usage: 4196},
		},
		Pids: Pids{Current: 3},
		Blkio: Blkio{
			IoServiceBytesRecursive: []BlkioEntry{{8, 16, "Read", 1}, {8, 16, "Write", 2}, {8, 16, "Discard", 0}},
			IoServicedRecursive:     []BlkioEntry{{8, 16, "Read", 3}, {8, 16, "Write", 4}, {8, 16, "Discard", 0}},
		},
		Hugetlb: map[string]Hugetlb{"2MB": {Usage: 2097152, Failcnt: 2}, "1GB": {Usage: 7}},
	}
	if diff := cmp.Diff(want, have); diff != "" {
		t.Error(diff)
	}
}

func TestLegacy(t *testing.T) {
	dirs := map[string]string{
		"cpu": group(t, map[string]string{"cpu.stat": "nr_periods 4\nnr_throttled 3\nthrottled_time 2000\n"}),
		"cpuacct": group(t, map[string]string{
			"cpuacct.usage": "300\n", "cpuacct.usage_percpu": "100 200 \n", "cpuacct.usage_percpu_user": "1 2\n",
			"cpuacct.usage_percpu_sys": "3 4\n", "cpuacct.stat": "user 5\nsystem 6\n",
		}),
		"cpuset": group(t, map[string]string{"cpuset.cpus": "0,3\n", "cpuset.mems": "0\n", "cpuset.sched_load_balance": "1\n", "cpuset.sched_relax_domain_level": "-1\n"}),
		"memory": group(t, map[string]string{
			"memory.stat": "cache 9\n", "memory.limit_in_bytes": "9223372036854771712\n", "memory.usage_in_bytes": "8\n",
			"memory.max_usage_in_bytes": "7\n", "memory.failcnt": "6\n",
			"memory.memsw.usage_in_bytes": "5\n", "memory.kmem.tcp.usage_in_bytes": "4\n",
		}),
		"pids":    group(t, map[string]string{"pids.current": "2\n", "pids.max": "20\n"}),
		"blkio":   group(t, map[string]string{"blkio.throttle.io_serviced_recursive": "8:0 Read 1\n8:0 Total 1\nTotal 1\n", "blkio.throttle.io_service_bytes_recursive": "8:0 Read 512\n"}),
		"hugetlb": group(t, map[string]string{"hugetlb.2MB.usage_in_bytes": "1\n", "hugetlb.2MB.max_usage_in_bytes": "2\n", "hugetlb.2MB.failcnt": "3\n"}),
	}
	have, err := Collect("", func(c string) string { return dirs[c] })
	if err != nil {
		t.Fatal(err)
	}
	want := &Stats{
		CPU: CPU{
			Usage:      CPUUsage{Total: 300, Percpu: []uint64{100, 200}, PercpuUser: []uint64{1, 2}, PercpuKernel: []uint64{3, 4}, User: 5e7, Kernel: 6e7},
			Throttling: Throttling{4, 3, 2000},
		},
		CPUSet: CPUSet{CPUs: []uint16{0, 3}, Mems: []uint16{0}, SchedLoadBalance: 1, SchedRelaxDomainLevel: -1},
		Memory: Memory{
			Cache: 9, Raw: map[string]uint64{"cache": 9},
			Usage: MemoryEntry{9223372036854771712, 8, 7, 6}, Swap: MemoryEntry{Usage: 5}, KernelTCP: MemoryEntry{Usage: 4},
		},
		Pids: Pids{2, 20},
		Blkio: Blkio{
			IoServiceBytesRecursive: []BlkioEntry{{8, 0, "Read", 512}},
			IoServicedRecursive:     []BlkioEntry{{8, 0, "Read", 1}, {8, 0, "Total", 1}},
		},
		Hugetlb: map[string]Hugetlb{"2MB": {1, 2, 3}},
	}
	if diff := cmp.Diff(want, have); diff != "" {
		t.Error(diff)
	}
}

// TestHybrid: each figure comes from where its controller is, pressure always from
// the unified hierarchy.
func TestHybrid(t *testing.T) {
	unified := group(t, map[string]string{"pids.current": "9\n", "cpu.stat": "usage_usec 1\nuser_usec 1\n", "io.pressure": "some total=3\n"})
	pids := group(t, map[string]string{"pids.current": "4\n"})
	have, err := Collect(unified, func(c string) string {
		if c == "pids" {
			return pids
		}
		return ""
	})
	if err != nil || have.Pids.Current != 4 || have.CPU.Usage.Total != 1000 || have.Blkio.PSI == nil || have.Blkio.PSI.Some.Total != 3 {
		t.Errorf("%+v, %v", have, err)
	}
}

// TestForm pins the names that readers of "events --stats" look for.
func TestForm(t *testing.T) {
	s, err := Collect(group(t, map[string]string{"pids.current": "3\n", "pids.max": "7\n", "cpu.pressure": "some avg10=0.00 total=1\n"}), none)
	if err != nil {
		t.Fatal(err)
	}
	have, err := json.Marshal(s)
	const want = `{"cpu":{"psi":{"some":{"avg10":0,"avg60":0,"avg300":0,"total":1},"full":{"avg10":0,"avg60":0,"avg300":0,"total":0}}},` +
		`"cpuset":{"cpu_exclusive":0,"mem_hardwall":0,"mem_exclusive":0,"memory_migrate":0,"memory_spread_page":0,"memory_spread_slab":0,"memory_pressure":0,"sched_load_balance":0,"sched_relax_domain_level":0},` +
		`"memory":{},"pids":{"current":3,"limit":7},"blkio":{},"hugetlb":{}}`
	if err != nil || string(have) != want {
		t.Errorf("have %s\nwant %s", have, want)
	}
}

func FuzzFigures(f *testing.F) {
	f.Add("8:0 Read 1\nTotal 5\n")
	f.Add("some avg10=0.00 avg60=0.00 avg300=0.00 total=0\nfull avg10=x\n")
	f.Add("1 2 3")
	f.Fuzz(func(t *testing.T, data string) {
		for _, e := range parseBlkio(data) {
			if e.Major > math.MaxUint32 || e.Minor > math.MaxUint32 || e.Op == "" {
				t.Errorf("%+v", e)
			}
		}
		if p := parsePressure(data); p != nil {
			_, _ = json.Marshal(p)
		}
		numbers(data)
	})
}
