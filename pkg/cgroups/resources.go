package cgroups

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"

	"box/internal/errdefs"
)

// plan turns resources into what is written to which file, in the order of
// writing. It is pure. Fields that cgroup v2 does not have are refused where the
// configuration is validated (package spec).
func plan(r *specs.LinuxResources, t traits) ([]limit, error) {
	var limits []limit
	for _, section := range []func(*specs.LinuxResources, traits) ([]limit, error){
		memoryLimits, cpuLimits, cpusetLimits, pidsLimits, ioLimits, hugetlbLimits, rdmaLimits, unifiedLimits,
	} {
		more, err := section(r, t)
		if err != nil {
			return nil, err
		}
		limits = append(limits, more...)
	}
	return limits, nil
}

// bytesOrMax writes an amount, where a negative one means no limit.
func bytesOrMax(n int64) string {
	if n < 0 {
		return "max"
	}
	return strconv.FormatInt(n, 10)
}

// memoryLimits: absent and 0 mean "as it is", -1 "no limit".
func memoryLimits(r *specs.LinuxResources, _ traits) ([]limit, error) {
	m := r.Memory
	if m == nil {
		return nil, nil
	}
	var limits []limit
	add := func(field, file, value, nothing string) {
		limits = append(limits, limit{field: "memory." + field, controller: "memory", file: file, value: value, silent: value == nothing})
	}
	if n := value(m.Reservation); n != 0 {
		add("reservation", "memory.low", bytesOrMax(n), "max")
	}
	if n := value(m.Limit); n != 0 {
		add("limit", "memory.max", bytesOrMax(n), "max")
	}
	swap, set, err := swapOnly(value(m.Limit), value(m.Swap))
	if err != nil {
		return nil, err
	}
	if set {
		add("swap", "memory.swap.max", bytesOrMax(swap), "max")
		// Without swap accounting there is no swap to limit, and a limit of
		// none is met; any other amount is missed.
		limits[len(limits)-1].optional = swap <= 0
	}
	return limits, nil
}

// swapOnly turns the specification's sum of memory and swap into swap alone, as
// cgroup v2 has it.
func swapOnly(limit, sum int64) (swap int64, set bool, err error) {
	switch {
	case sum == 0 && limit < 0:
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

// value is what an optional number points to, or 0.
func value[T any](p *T) T {
	if p == nil {
		return *new(T)
	}
	return *p
}

// defaultPeriod is the kernel's cpu period in microseconds.
const defaultPeriod = 100_000

func cpuLimits(r *specs.LinuxResources, _ traits) ([]limit, error) {
	c := r.CPU
	if c == nil {
		return nil, nil
	}
	var limits []limit
	add := func(field, file, value, nothing string) {
		limits = append(limits, limit{field: "cpu." + field, controller: "cpu", file: file, value: value, silent: value == nothing})
	}
	idle := c.Idle != nil && *c.Idle == 1
	if c.Idle != nil {
		add("idle", "cpu.idle", strconv.FormatInt(*c.Idle, 10), "0")
	}
	if n := value(c.Shares); n != 0 && !idle { // an idle group has no weight
		add("shares", "cpu.weight", strconv.FormatUint(weightOfShares(n), 10), "100")
	}
	if quota, period := value(c.Quota), value(c.Period); quota != 0 || period != 0 {
		if period == 0 {
			period = defaultPeriod
		}
		if quota == 0 {
			quota = -1
		}
		add("quota", "cpu.max", bytesOrMax(quota)+" "+strconv.FormatUint(period, 10), "max "+strconv.Itoa(defaultPeriod))
	}
	if c.Burst != nil {
		add("burst", "cpu.max.burst", strconv.FormatUint(*c.Burst, 10), "0")
	}
	return limits, nil
}

// weightOfShares maps the shares of cgroup v1 (2 to 262144, default 1024) to the
// weight of v2 (1 to 10000, default 100) such that the ends and the defaults meet.
// It is the curve that runc and crun agreed on, 10 to the power of
// (l² + 125 l)/612 - 7/34, where l is the binary logarithm. The straight line of
// before made 1024 shares a weight of 39.
func weightOfShares(shares uint64) uint64 {
	if shares <= 2 {
		return 1
	}
	if shares >= 262144 {
		return 10000
	}
	l := math.Log2(float64(shares))
	return uint64(math.Ceil(math.Pow(10, (l*l+125*l)/612-7.0/34)))
}

func cpusetLimits(r *specs.LinuxResources, _ traits) ([]limit, error) {
	if r.CPU == nil {
		return nil, nil
	}
	var limits []limit
	for _, s := range []struct{ field, file, list string }{
		{"cpu.cpus", "cpuset.cpus", r.CPU.Cpus},
		{"cpu.mems", "cpuset.mems", r.CPU.Mems},
	} {
		if s.list == "" {
			continue
		}
		// The kernel parses the list; what is kept from it is size
		// (CVE-2018-20699) and more than one line.
		if len(s.list) > 4096 || strings.Trim(s.list, "0123456789,-") != "" {
			return nil, errdefs.New(errdefs.ErrInvalid, "linux.resources.%s: %.40q is not a list such as 0-3,7", s.field, s.list)
		}
		limits = append(limits, limit{field: s.field, controller: "cpuset", file: s.file, value: s.list})
	}
	return limits, nil
}

// podmanPids is the limit that podman and CRI-O write if nobody asks for one.
const podmanPids = 2048

// pidsLimits takes 0 as "no limit", although the specification of today calls it
// a valid limit: callers built before release 1.3 write 0 for "unset", and a
// container that may not hold one process cannot be started.
func pidsLimits(r *specs.LinuxResources, _ traits) ([]limit, error) {
	if r.Pids == nil || r.Pids.Limit == nil {
		return nil, nil
	}
	n := *r.Pids.Limit
	l := limit{field: "pids.limit", controller: "pids", file: "pids.max", value: "max", silent: n <= 0 || n == podmanPids}
	if n > 0 {
		l.value = strconv.FormatInt(n, 10)
	}
	return []limit{l}, nil
}

func ioLimits(r *specs.LinuxResources, t traits) ([]limit, error) {
	b := r.BlockIO
	if b == nil {
		return nil, nil
	}
	var limits []limit
	if w := value(b.Weight); w != 0 {
		file, v := ioWeight(w, t)
		limits = append(limits, limit{field: "blockIO.weight", controller: "io", file: file, value: v, silent: v == "100"})
	}
	for _, d := range b.WeightDevice {
		if w := value(d.Weight); w != 0 {
			file, v := ioWeight(w, t)
			limits = append(limits, limit{field: "blockIO.weightDevice", controller: "io", file: file, value: device(d.LinuxBlockIODevice) + " " + v})
		}
	}
	for _, throttle := range []struct {
		field, key string
		devices    []specs.LinuxThrottleDevice
	}{
		{"throttleReadBpsDevice", "rbps", b.ThrottleReadBpsDevice},
		{"throttleWriteBpsDevice", "wbps", b.ThrottleWriteBpsDevice},
		{"throttleReadIOPSDevice", "riops", b.ThrottleReadIOPSDevice},
		{"throttleWriteIOPSDevice", "wiops", b.ThrottleWriteIOPSDevice},
	} {
		for _, d := range throttle.devices {
			rate := "max" // what 0 means in v1
			if d.Rate != 0 {
				rate = strconv.FormatUint(d.Rate, 10)
			}
			limits = append(limits, limit{
				field: "blockIO." + throttle.field, controller: "io", file: "io.max",
				value: device(d.LinuxBlockIODevice) + " " + throttle.key + "=" + rate, silent: d.Rate == 0,
			})
		}
	}
	return limits, nil
}

// ioWeight returns the file and value for a weight of 10 to 1000. BFQ has that
// scale; io.weight has 1 to 10000, onto which it is stretched.
func ioWeight(w uint16, t traits) (file, value string) {
	if t.bfq {
		return "io.bfq.weight", strconv.Itoa(int(w))
	}
	return "io.weight", strconv.Itoa(max(1, 1+(int(w)-10)*9999/990))
}

func device(d specs.LinuxBlockIODevice) string {
	return strconv.FormatInt(d.Major, 10) + ":" + strconv.FormatInt(d.Minor, 10)
}

// hugetlbLimits limits reservations, and usage for kernels that count no
// reservations (before Linux 5.7).
func hugetlbLimits(r *specs.LinuxResources, _ traits) ([]limit, error) {
	var limits []limit
	for i, h := range r.HugepageLimits {
		if !isPageSize(h.Pagesize) {
			return nil, errdefs.New(errdefs.ErrInvalid, "linux.resources.hugepageLimits[%d].pageSize: %q is not a size such as 2MB", i, h.Pagesize)
		}
		v, nothing := strconv.FormatUint(h.Limit, 10), false
		if h.Limit > math.MaxInt64 {
			v, nothing = "max", true
		}
		for _, f := range []struct {
			infix    string
			optional bool
		}{{"", false}, {".rsvd", true}} {
			limits = append(limits, limit{
				field: "hugepageLimits", controller: "hugetlb", file: "hugetlb." + h.Pagesize + f.infix + ".max",
				value: v, silent: nothing, optional: f.optional,
			})
		}
	}
	return limits, nil
}

// isPageSize checks a size such as 64KB or 1GB, which becomes part of a file name.
func isPageSize(s string) bool {
	number := strings.TrimRight(s, "KMGB")
	unit := s[len(number):]
	return number != "" && strings.Trim(number, "0123456789") == "" && slices.Contains([]string{"KB", "MB", "GB"}, unit)
}

func rdmaLimits(r *specs.LinuxResources, _ traits) ([]limit, error) {
	var limits []limit
	for _, dev := range slices.Sorted(maps.Keys(r.Rdma)) {
		if strings.ContainsAny(dev, " \n") || dev == "" {
			return nil, errdefs.New(errdefs.ErrInvalid, "linux.resources.rdma: %q is not the name of a device", dev)
		}
		d := r.Rdma[dev]
		v := dev
		if d.HcaHandles != nil {
			v += fmt.Sprintf(" hca_handle=%d", *d.HcaHandles)
		}
		if d.HcaObjects != nil {
			v += fmt.Sprintf(" hca_object=%d", *d.HcaObjects)
		}
		limits = append(limits, limit{field: "rdma." + dev, controller: "rdma", file: "rdma.max", value: v})
	}
	return limits, nil
}

// unifiedLimits are written as they are, last, so that they win over what the
// older fields were translated to.
func unifiedLimits(r *specs.LinuxResources, _ traits) ([]limit, error) {
	var limits []limit
	for _, file := range slices.Sorted(maps.Keys(r.Unified)) {
		controller, _, ok := strings.Cut(file, ".")
		// The files of the core (cgroup.procs, cgroup.kill …) are no limits.
		if !ok || controller == "cgroup" || strings.ContainsAny(file, "/\n") {
			return nil, errdefs.New(errdefs.ErrInvalid, "linux.resources.unified: %q is not a file of a controller", file)
		}
		for line := range strings.SplitSeq(strings.TrimSpace(r.Unified[file]), "\n") {
			limits = append(limits, limit{field: "unified." + file, controller: controller, file: file, value: line, silent: line == "max"})
		}
	}
	return limits, nil
}
