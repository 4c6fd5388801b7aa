package limits

import (
	"math"
	"strconv"

	"github.com/opencontainers/runtime-spec/specs-go"

	"box/internal/errdefs"
)

// bytesOrMax writes an amount, where a negative one means no limit.
func bytesOrMax(n int64) string {
	if n < 0 {
		return "max"
	}
	return strconv.FormatInt(n, 10)
}

// memoryUnified: absent and 0 mean "as it is", -1 "no limit".
func memoryUnified(r *specs.LinuxResources, h *Host) ([]Limit, error) {
	m := r.Memory
	if m == nil {
		return nil, nil
	}
	b := builder{section: "memory.", controller: "memory"}
	b.leaveOut(asked(m.Kernel), "kernel") //nolint:staticcheck // SA1019: warned about
	b.leaveOut(asked(m.KernelTCP), "kernelTCP")
	b.refuse(m.Swappiness != nil && *m.Swappiness != math.MaxUint64, "swappiness", onlyV1)
	b.refuse(value(m.DisableOOMKiller), "disableOOMKiller", onlyV1)
	if n := value(m.Reservation); n != 0 {
		b.add("reservation", "memory.low", bytesOrMax(n), "max")
	}
	limit := value(m.Limit)
	if limit != 0 {
		b.add("limit", "memory.max", bytesOrMax(limit), "max")
	} else {
		limit = h.Memory
	}
	swap, set, err := swapOnly(limit, value(m.Swap), value(m.Limit) != 0)
	if err != nil {
		return nil, err
	}
	if set {
		// Without swap accounting there is no swap to limit, and a limit of
		// none is met; any other amount is missed.
		b.add("swap", "memory.swap.max", bytesOrMax(swap), "max").Optional = swap <= 0
	}
	return b.limits, nil
}

// asked tells whether an amount asks for something: not absent, not 0 and not the
// -1 that stands for "no limit".
func asked[T ~int64 | ~uint64 | ~uint32 | ~uint16](n *T) bool { return n != nil && *n > 0 }

// swapOnly turns the specification's sum of memory and swap into swap alone, as
// cgroup v2 has it. changed tells whether the memory limit is new or the one that
// stands.
func swapOnly(limit, sum int64, changed bool) (swap int64, set bool, err error) {
	switch {
	case sum == 0 && limit < 0 && changed:
		return -1, true, nil // lifting the memory limit lifts that on swap
	case sum == 0:
		return 0, false, nil
	case sum < 0:
		return -1, true, nil
	case limit <= 0:
		return 0, false, errdefs.New(errdefs.ErrInvalid, "linux.resources.memory.swap: %d is memory and swap together, and needs a memory limit", sum)
	case sum < limit:
		return 0, false, errdefs.New(errdefs.ErrInvalid, "linux.resources.memory.swap: %d is memory and swap together, and less than the memory limit %d", sum, limit)
	}
	return sum - limit, true, nil
}

// defaultPeriod is the kernel's cpu period in microseconds.
const defaultPeriod = "100000"

func cpuUnified(r *specs.LinuxResources, h *Host) ([]Limit, error) {
	c := r.CPU
	if c == nil {
		return nil, nil
	}
	b := builder{section: "cpu.", controller: "cpu"}
	b.refuse(asked(c.RealtimeRuntime), "realtimeRuntime", onlyV1)
	b.refuse(asked(c.RealtimePeriod), "realtimePeriod", onlyV1)
	idle := c.Idle != nil && *c.Idle == 1
	if c.Idle != nil {
		b.add("idle", "cpu.idle", strconv.FormatInt(*c.Idle, 10), "0")
	}
	if n := value(c.Shares); n != 0 && !idle { // an idle group has no weight
		b.add("shares", "cpu.weight", strconv.FormatUint(WeightOfShares(n), 10), "100")
	}
	if c.Burst != nil {
		b.add("burst", "cpu.max.burst", strconv.FormatUint(*c.Burst, 10), "0").Again = true // it may not exceed the quota
	}
	if value(c.Quota) != 0 || value(c.Period) != 0 {
		b.add("quota", "cpu.max", cpuMax(c, h), "max "+defaultPeriod)
	}
	return b.limits, nil
}

// cpuMax is quota and period, of which one may be what it was.
func cpuMax(c *specs.LinuxCPU, h *Host) string {
	quota, period := h.Quota, h.Period
	if n := value(c.Quota); n != 0 {
		quota = bytesOrMax(n)
	}
	if n := value(c.Period); n != 0 {
		period = strconv.FormatUint(n, 10)
	}
	if quota == "" {
		quota = "max"
	}
	if period == "" {
		period = defaultPeriod
	}
	return quota + " " + period
}

// WeightOfShares maps the shares of cgroup v1 (2 to 262144, default 1024) to the
// weight of v2 (1 to 10000, default 100) such that the ends and the defaults meet.
// It is the curve that runc and crun agreed on, 10 to the power of
// (l² + 125 l)/612 - 7/34, where l is the binary logarithm. The straight line of
// before made 1024 shares a weight of 39.
func WeightOfShares(shares uint64) uint64 {
	if shares <= 2 {
		return 1
	}
	if shares >= 262144 {
		return 10000
	}
	l := math.Log2(float64(shares))
	return uint64(math.Ceil(math.Pow(10, (l*l+125*l)/612-7.0/34)))
}

func ioUnified(r *specs.LinuxResources, h *Host) ([]Limit, error) {
	io := r.BlockIO
	if io == nil {
		return nil, nil
	}
	b := builder{section: "blockIO.", controller: "io"}
	b.refuse(asked(io.LeafWeight), "leafWeight", onlyV1)
	if w := value(io.Weight); w != 0 {
		file, v := ioWeight(w, h)
		b.add("weight", file, v, "100")
	}
	for _, d := range io.WeightDevice {
		b.refuse(asked(d.LeafWeight), "weightDevice.leafWeight", onlyV1)
		if w := value(d.Weight); w != 0 {
			file, v := ioWeight(w, h)
			b.add("weightDevice", file, device(d.LinuxBlockIODevice)+" "+v, "")
		}
	}
	for _, t := range throttles(io) {
		for _, d := range t.devices {
			rate := "max" // what 0 means in v1
			if d.Rate != 0 {
				rate = strconv.FormatUint(d.Rate, 10)
			}
			b.add(t.field, "io.max", device(d.LinuxBlockIODevice)+" "+t.key+"="+rate, "").Silent = d.Rate == 0
		}
	}
	return b.limits, nil
}

// ioWeight returns the file and value for a weight of 10 to 1000. BFQ has that
// scale; io.weight has 1 to 10000, onto which it is stretched.
func ioWeight(w uint16, h *Host) (file, value string) {
	if h.BFQ {
		return "io.bfq.weight", strconv.Itoa(int(w))
	}
	return "io.weight", strconv.Itoa(max(1, 1+(int(w)-10)*9999/990))
}

// hugetlbUnified limits reservations, and usage for kernels that count no
// reservations (before Linux 5.7).
func hugetlbUnified(r *specs.LinuxResources, _ *Host) ([]Limit, error) {
	return hugetlb(r, ".max", func(n uint64) string {
		if n > math.MaxInt64 {
			return "max"
		}
		return strconv.FormatUint(n, 10)
	})
}

func hugetlb(r *specs.LinuxResources, suffix string, format func(uint64) string) ([]Limit, error) {
	if err := checkPageSizes(r); err != nil {
		return nil, err
	}
	b := builder{controller: "hugetlb"}
	for _, h := range r.HugepageLimits {
		b.add("hugepageLimits", "hugetlb."+h.Pagesize+suffix, format(h.Limit), "max")
		b.add("hugepageLimits", "hugetlb."+h.Pagesize+".rsvd"+suffix, format(h.Limit), "max").Optional = true
	}
	return b.limits, nil
}

func noClassID(r *specs.LinuxResources, _ *Host) ([]Limit, error) {
	b := builder{section: "network.", controller: "net_cls"}
	b.refuse(r.Network != nil && asked(r.Network.ClassID), "classID", "no hierarchy of cgroup v1 has the controller net_cls")
	return b.limits, nil
}

func noPriorities(r *specs.LinuxResources, _ *Host) ([]Limit, error) {
	b := builder{section: "network.", controller: "net_prio"}
	b.refuse(r.Network != nil && len(r.Network.Priorities) > 0, "priorities", "no hierarchy of cgroup v1 has the controller net_prio")
	return b.limits, nil
}
