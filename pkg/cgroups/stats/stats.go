// Package stats reads what the kernel counts for a control group, in cgroup v2
// and in v1, into one form.
//
// The form is that of the data object in the output of runc's "events --stats",
// with runc's names and units, because that is what its readers know; only its
// members intel_rdt and network_interfaces, which are not about control groups,
// are left to the caller. Where v2 counts differently, the figures are converted to
// what the names say: nanoseconds, and swap as memory and swap together.
//
// A controller that the group does not have leaves zeros. Nothing is computed over
// time, and nothing is remembered.
package stats

// Stats are the figures of one group and those below it.
type Stats struct {
	CPU     CPU                `json:"cpu"`
	CPUSet  CPUSet             `json:"cpuset"`
	Memory  Memory             `json:"memory"`
	Pids    Pids               `json:"pids"`
	Blkio   Blkio              `json:"blkio"`
	Hugetlb map[string]Hugetlb `json:"hugetlb"` // by page size: "2MB"
}

// CPU is use and want of processor time.
type CPU struct {
	Usage      CPUUsage   `json:"usage,omitzero"`
	Throttling Throttling `json:"throttling,omitzero"`
	PSI        *PSI       `json:"psi,omitempty"`
}

// CPUUsage is in nanoseconds. The kernel tells single CPUs apart in v1 only.
type CPUUsage struct {
	Total        uint64   `json:"total,omitempty"`
	Percpu       []uint64 `json:"percpu,omitempty"`
	PercpuKernel []uint64 `json:"percpu_kernel,omitempty"`
	PercpuUser   []uint64 `json:"percpu_user,omitempty"`
	Kernel       uint64   `json:"kernel"`
	User         uint64   `json:"user"`
}

// Throttling counts periods of the quota, and nanoseconds.
type Throttling struct {
	Periods          uint64 `json:"periods,omitempty"`
	ThrottledPeriods uint64 `json:"throttledPeriods,omitempty"`
	ThrottledTime    uint64 `json:"throttledTime,omitempty"`
}

// CPUSet has the CPUs and memory nodes of the group (in v2 those that it really
// gets), and the switches that only v1 has (cgroup-v1/cpusets.rst).
type CPUSet struct {
	CPUs                  []uint16 `json:"cpus,omitempty"`
	CPUExclusive          uint64   `json:"cpu_exclusive"`
	Mems                  []uint16 `json:"mems,omitempty"`
	MemHardwall           uint64   `json:"mem_hardwall"`
	MemExclusive          uint64   `json:"mem_exclusive"`
	MemoryMigrate         uint64   `json:"memory_migrate"`
	MemorySpreadPage      uint64   `json:"memory_spread_page"`
	MemorySpreadSlab      uint64   `json:"memory_spread_slab"`
	MemoryPressure        uint64   `json:"memory_pressure"`
	SchedLoadBalance      uint64   `json:"sched_load_balance"`
	SchedRelaxDomainLevel int64    `json:"sched_relax_domain_level"`
}

// Memory is in bytes.
type Memory struct {
	Cache     uint64            `json:"cache,omitempty"` // of files
	Usage     MemoryEntry       `json:"usage,omitzero"`
	Swap      MemoryEntry       `json:"swap,omitzero"` // memory and swap together
	Kernel    MemoryEntry       `json:"kernel,omitzero"`
	KernelTCP MemoryEntry       `json:"kernelTCP,omitzero"`
	Raw       map[string]uint64 `json:"raw,omitempty"` // memory.stat
	PSI       *PSI              `json:"psi,omitempty"`
}

// MemoryEntry is one kind of memory. No limit is math.MaxUint64 in v2 and what the
// kernel says in v1. Failcnt counts how often the limit was hit.
type MemoryEntry struct {
	Limit   uint64 `json:"limit"`
	Usage   uint64 `json:"usage,omitempty"`
	Max     uint64 `json:"max,omitempty"` // the highest usage so far
	Failcnt uint64 `json:"failcnt"`
}

// Pids counts processes and threads. No limit is 0.
type Pids struct {
	Current uint64 `json:"current,omitempty"`
	Limit   uint64 `json:"limit,omitempty"`
}

// Blkio has bytes and operations for each block device and direction. The lists
// that only the CFQ scheduler filled, which is gone from the kernel, are not here.
type Blkio struct {
	IoServiceBytesRecursive []BlkioEntry `json:"ioServiceBytesRecursive,omitempty"`
	IoServicedRecursive     []BlkioEntry `json:"ioServicedRecursive,omitempty"`
	PSI                     *PSI         `json:"psi,omitempty"`
}

// BlkioEntry is one figure of one device. Op is "Read", "Write", and in v1 also
// "Sync", "Async", "Discard", "Total".
type BlkioEntry struct {
	Major uint64 `json:"major,omitempty"`
	Minor uint64 `json:"minor,omitempty"`
	Op    string `json:"op,omitempty"`
	Value uint64 `json:"value,omitempty"`
}

// Hugetlb is in bytes.
type Hugetlb struct {
	Usage   uint64 `json:"usage,omitempty"`
	Max     uint64 `json:"max,omitempty"`
	Failcnt uint64 `json:"failcnt"`
}

// PSI is pressure stall information (Documentation/accounting/psi.rst): how long
// some, or all, tasks of the group waited for the resource.
type PSI struct {
	Some PSIData `json:"some"`
	Full PSIData `json:"full"`
}

// PSIData has percentages of the last 10, 60 and 300 seconds, and microseconds in
// all.
type PSIData struct {
	Avg10  float64 `json:"avg10"`
	Avg60  float64 `json:"avg60"`
	Avg300 float64 `json:"avg300"`
	Total  uint64  `json:"total"`
}

// Collect reads the figures of a group: unified is its directory in cgroup v2, and
// legacy gives that of a controller which is in a v1 hierarchy. Either may be "".
// A group that does not exist is an error.
func Collect(unified string, legacy func(controller string) string) (*Stats, error) {
	s := &Stats{Hugetlb: map[string]Hugetlb{}}
	for _, part := range []struct {
		controller string
		v2, v1     func(*reader, *Stats)
	}{
		{"cpu", cpuUnified, cpuLegacy},
		{"cpuacct", nil, cpuacctLegacy},
		{"cpuset", cpusetUnified, cpusetLegacy},
		{"memory", memoryUnified, memoryLegacy},
		{"pids", pidsBoth, pidsBoth},
		{"blkio", ioUnified, blkioLegacy},
		{"hugetlb", hugetlbUnified, hugetlbLegacy},
	} {
		r, read := &reader{dir: unified}, part.v2
		if dir := legacy(part.controller); dir != "" {
			r.dir, read = dir, part.v1
		}
		if r.dir == "" || read == nil {
			continue
		}
		if read(r, s); r.err != nil {
			return nil, r.err
		}
	}
	return s, pressure(unified, s)
}
