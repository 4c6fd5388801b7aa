package stats

import (
	"errors"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"box/pkg/cgroups/kernfs"
)

func errnoOf(err error) (unix.Errno, bool) { return errors.AsType[unix.Errno](err) }

func cpuLegacy(r *reader, s *Stats) {
	stat := r.flat("cpu.stat")
	s.CPU.Throttling = Throttling{stat["nr_periods"], stat["nr_throttled"], stat["throttled_time"]}
}

// tick is USER_HZ, which is 100 on every architecture that we run on, in
// nanoseconds.
const tick = 1e9 / 100

func cpuacctLegacy(r *reader, s *Stats) {
	u := &s.CPU.Usage
	u.Total = r.value("cpuacct.usage")
	u.Percpu = numbers(r.text("cpuacct.usage_percpu"))
	u.PercpuUser = numbers(r.text("cpuacct.usage_percpu_user"))
	u.PercpuKernel = numbers(r.text("cpuacct.usage_percpu_sys"))
	stat := r.flat("cpuacct.stat")
	u.User, u.Kernel = stat["user"]*tick, stat["system"]*tick
}

// numbers parses a line of numbers, up to what is none.
func numbers(data string) []uint64 {
	var list []uint64
	for word := range strings.FieldsSeq(data) {
		n, err := strconv.ParseUint(word, 10, 64)
		if err != nil {
			break
		}
		list = append(list, n)
	}
	return list
}

func cpusetLegacy(r *reader, s *Stats) {
	c := &s.CPUSet
	c.CPUs, _ = kernfs.List(r.text("cpuset.cpus"))
	c.Mems, _ = kernfs.List(r.text("cpuset.mems"))
	for _, f := range []struct {
		file string
		to   *uint64
	}{
		{"cpuset.cpu_exclusive", &c.CPUExclusive},
		{"cpuset.mem_hardwall", &c.MemHardwall},
		{"cpuset.mem_exclusive", &c.MemExclusive},
		{"cpuset.memory_migrate", &c.MemoryMigrate},
		{"cpuset.memory_spread_page", &c.MemorySpreadPage},
		{"cpuset.memory_spread_slab", &c.MemorySpreadSlab},
		{"cpuset.memory_pressure", &c.MemoryPressure},
		{"cpuset.sched_load_balance", &c.SchedLoadBalance},
	} {
		*f.to = r.value(f.file)
	}
	// -1 is the default: as the system has it.
	c.SchedRelaxDomainLevel, _ = strconv.ParseInt(strings.TrimSpace(r.text("cpuset.sched_relax_domain_level")), 10, 64)
}

func memoryLegacy(r *reader, s *Stats) {
	m := &s.Memory
	m.Raw = r.flat("memory.stat")
	m.Cache = m.Raw["cache"]
	m.Usage = r.memory("memory")
	m.Swap = r.memory("memory.memsw")
	m.Kernel = r.memory("memory.kmem")
	m.KernelTCP = r.memory("memory.kmem.tcp")
}

func (r *reader) memory(prefix string) MemoryEntry {
	return MemoryEntry{
		Limit: r.value(prefix + ".limit_in_bytes"), Usage: r.value(prefix + ".usage_in_bytes"),
		Max: r.value(prefix + ".max_usage_in_bytes"), Failcnt: r.value(prefix + ".failcnt"),
	}
}

// blkioLegacy prefers the figures of the BFQ scheduler, where it is in use, to
// those of the throttling layer above it.
func blkioLegacy(r *reader, s *Stats) {
	s.Blkio.IoServiceBytesRecursive = parseBlkio(r.text("blkio.bfq.io_service_bytes_recursive"))
	s.Blkio.IoServicedRecursive = parseBlkio(r.text("blkio.bfq.io_serviced_recursive"))
	if len(s.Blkio.IoServicedRecursive) == 0 {
		s.Blkio.IoServiceBytesRecursive = parseBlkio(r.text("blkio.throttle.io_service_bytes_recursive"))
		s.Blkio.IoServicedRecursive = parseBlkio(r.text("blkio.throttle.io_serviced_recursive"))
	}
}

// parseBlkio parses lines of device, operation and figure. The last line, the
// total of all devices, has no device and is left out.
func parseBlkio(data string) []BlkioEntry {
	var list []BlkioEntry
	for line := range strings.Lines(data) {
		f := strings.Fields(line)
		if len(f) != 3 {
			continue
		}
		if e, ok := blkioEntry(f[0], f[1], f[2]); ok {
			list = append(list, e)
		}
	}
	return list
}

func hugetlbLegacy(r *reader, s *Stats) {
	for _, size := range r.pageSizes(".usage_in_bytes") {
		p := "hugetlb." + size
		s.Hugetlb[size] = Hugetlb{
			Usage: r.value(p + ".usage_in_bytes"), Max: r.value(p + ".max_usage_in_bytes"), Failcnt: r.value(p + ".failcnt"),
		}
	}
}
