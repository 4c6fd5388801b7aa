package limits

import (
	"math"
	"strconv"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"

	"box/internal/errdefs"
)

// unlimited is how v1 is told that there is no limit.
const unlimited = "-1"

// memoryLegacy writes memory and the sum of memory and swap in the order that the
// kernel accepts: the sum is never below the memory.
func memoryLegacy(r *specs.LinuxResources, h *Host) ([]Limit, error) {
	m := r.Memory
	if m == nil {
		return nil, nil
	}
	b := builder{section: "memory.", controller: "memory"}
	b.leaveOut(asked(m.Kernel), "kernel") //nolint:staticcheck // SA1019: warned about
	b.leaveOut(asked(m.KernelTCP), "kernelTCP")
	memory, both := value(m.Limit), value(m.Swap)
	if memory < 0 && both == 0 {
		both = -1 // lifting the memory limit lifts that on swap
	}
	limit := func() {
		if memory != 0 {
			b.add("limit", "memory.limit_in_bytes", strconv.FormatInt(max(memory, -1), 10), unlimited)
		}
	}
	raised := both < 0 || h.Both != 0 && uint64(both) > h.Both
	if !raised {
		limit()
	}
	if both != 0 {
		l := b.add("swap", "memory.memsw.limit_in_bytes", strconv.FormatInt(max(both, -1), 10), unlimited)
		l.Optional = both < 0 || both == memory // without swap accounting there is no swap
	}
	if raised {
		limit()
	}
	if n := value(m.Reservation); n != 0 {
		b.add("reservation", "memory.soft_limit_in_bytes", strconv.FormatInt(max(n, -1), 10), unlimited)
	}
	err := b.memoryKnobs(m)
	return b.limits, err
}

// memoryKnobs adds what is no amount.
func (b *builder) memoryKnobs(m *specs.LinuxMemory) error {
	if m.DisableOOMKiller != nil {
		v := "0"
		if *m.DisableOOMKiller {
			v = "1"
		}
		b.add("disableOOMKiller", "memory.oom_control", v, "0")
	}
	switch s := m.Swappiness; {
	case s == nil || *s == math.MaxUint64: // -1 of old callers
	case *s > 100:
		return errdefs.New(errdefs.ErrInvalid, "linux.resources.memory.swappiness: %d is not between 0 and 100", *s)
	default:
		b.add("swappiness", "memory.swappiness", strconv.FormatUint(*s, 10), "60")
	}
	return nil
}

// cpuLegacy: periods come before what is limited in them. A period that is shorter
// than the present quota allows is refused until the quota is written.
func cpuLegacy(r *specs.LinuxResources, _ *Host) ([]Limit, error) {
	c := r.CPU
	if c == nil {
		return nil, nil
	}
	b := builder{section: "cpu.", controller: "cpu"}
	if c.Idle != nil {
		b.add("idle", "cpu.idle", strconv.FormatInt(*c.Idle, 10), "0")
	}
	if n := value(c.Shares); n != 0 && (c.Idle == nil || *c.Idle != 1) {
		b.add("shares", "cpu.shares", strconv.FormatUint(n, 10), "1024")
	}
	if n := value(c.RealtimePeriod); n != 0 {
		b.add("realtimePeriod", "cpu.rt_period_us", strconv.FormatUint(n, 10), "1000000").Again = true
	}
	if n := value(c.RealtimeRuntime); n != 0 {
		b.add("realtimeRuntime", "cpu.rt_runtime_us", strconv.FormatInt(n, 10), "")
	}
	if c.Burst != nil {
		b.add("burst", "cpu.cfs_burst_us", strconv.FormatUint(*c.Burst, 10), "0").Again = true
	}
	if n := value(c.Period); n != 0 {
		b.add("period", "cpu.cfs_period_us", strconv.FormatUint(n, 10), defaultPeriod).Again = true
	}
	if n := value(c.Quota); n != 0 {
		b.add("quota", "cpu.cfs_quota_us", strconv.FormatInt(max(n, -1), 10), unlimited)
	}
	return b.limits, nil
}

// ioLegacy: BFQ has taken the place of the scheduler whose files had no such word
// in their names (Linux 5.0).
func ioLegacy(r *specs.LinuxResources, h *Host) ([]Limit, error) {
	io := r.BlockIO
	if io == nil {
		return nil, nil
	}
	b := builder{section: "blockIO.", controller: "blkio"}
	prefix := "blkio."
	if h.BFQ {
		prefix = "blkio.bfq."
	}
	weight := func(field, file, device string, w *uint16) {
		if n := value(w); n != 0 {
			b.add(field, file, strings.TrimSpace(device+" "+strconv.Itoa(int(n))), "")
		}
	}
	weight("weight", prefix+"weight", "", io.Weight)
	weight("leafWeight", "blkio.leaf_weight", "", io.LeafWeight)
	for _, d := range io.WeightDevice {
		weight("weightDevice.weight", prefix+"weight_device", device(d.LinuxBlockIODevice), d.Weight)
		weight("weightDevice.leafWeight", "blkio.leaf_weight_device", device(d.LinuxBlockIODevice), d.LeafWeight)
	}
	for _, t := range throttles(io) {
		for _, d := range t.devices {
			rate := strconv.FormatUint(d.Rate, 10)
			b.add(t.field, t.v1, device(d.LinuxBlockIODevice)+" "+rate, "").Silent = d.Rate == 0
		}
	}
	return b.limits, nil
}

func hugetlbLegacy(r *specs.LinuxResources, _ *Host) ([]Limit, error) {
	return hugetlb(r, ".limit_in_bytes", func(n uint64) string {
		if n > math.MaxInt64 {
			return unlimited
		}
		return strconv.FormatUint(n, 10)
	})
}

// classID is the mark of the group's packets for traffic control.
func classID(r *specs.LinuxResources, _ *Host) ([]Limit, error) {
	if r.Network == nil || r.Network.ClassID == nil {
		return nil, nil
	}
	b := builder{section: "network.", controller: "net_cls"}
	b.add("classID", "net_cls.classid", strconv.FormatUint(uint64(*r.Network.ClassID), 10), "0")
	return b.limits, nil
}

// priorities are those of the group's packets on each interface.
func priorities(r *specs.LinuxResources, _ *Host) ([]Limit, error) {
	if r.Network == nil {
		return nil, nil
	}
	b := builder{section: "network.", controller: "net_prio"}
	for i, p := range r.Network.Priorities {
		if p.Name == "" || strings.ContainsAny(p.Name, " \n/") {
			return nil, errdefs.New(errdefs.ErrInvalid, "linux.resources.network.priorities[%d].name: %q is not the name of an interface", i, p.Name)
		}
		b.add("priorities", "net_prio.ifpriomap", p.Name+" "+strconv.FormatUint(uint64(p.Priority), 10), "")
	}
	return b.limits, nil
}
