// Package limits turns linux.resources into what is to be written into which
// interface file of a control group, of cgroup v2 or v1. It is pure: what depends
// on the host comes in as a value, and nothing is read or written.
//
// Amounts follow the specification: absent, and for most fields 0, means "as it
// is"; -1 means "no limit". So the same plan serves a new group and a change to an
// old one. Where both versions count differently the curves are those that runc,
// crun and systemd agree on.
package limits

import (
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"

	"box/internal/errdefs"
)

// Limit is one value to be written, with where it came from.
type Limit struct {
	Field      string // below linux.resources
	Controller string // in the words of its version of cgroups
	File       string
	Value      string
	// Legacy marks a file of the controller's v1 hierarchy.
	Legacy bool
	// Silent marks a value that asks for nothing: it is written where it can be,
	// and not missed where it cannot.
	Silent bool
	// Optional marks a file that not every kernel has even with the controller.
	Optional bool
	// Again marks a value that the kernel may refuse (EINVAL) until those after it
	// are written; it is then written again, last.
	Again bool
	// Refused is the reason why the field cannot be carried out at all. If it is
	// Silent as well, that is worth a warning only.
	Refused string
}

// Host is what a plan depends on beside the resources.
type Host struct {
	// Legacy tells which controllers are in v1 hierarchies; nil means none.
	Legacy func(controller string) bool
	// BFQ tells that the weights of the BFQ scheduler are there: io.bfq.weight in
	// v2, blkio.bfq.weight in v1.
	BFQ bool
	// Quota and Period are what cpu.max of v2 has now, in microseconds, for a
	// change of one of them; Quota is "max" for none. They are asked for by
	// NeedsQuota, and empty otherwise.
	Quota, Period string
	// Memory is memory.max of v2 in bytes, for a change of the sum of memory and
	// swap alone (NeedsMemory); -1 is no limit, 0 unknown.
	Memory int64
	// Both is memory.memsw.limit_in_bytes of v1, which decides the order of
	// writing; 0 is unknown.
	Both uint64
}

func (h *Host) legacy(controller string) bool { return h.Legacy != nil && h.Legacy(controller) }

// NeedsQuota tells whether Plan wants to know Host.Quota and Host.Period.
func NeedsQuota(r *specs.LinuxResources) bool {
	return r.CPU != nil && (value(r.CPU.Quota) != 0) != (value(r.CPU.Period) != 0)
}

// NeedsMemory tells whether Plan wants to know Host.Memory.
func NeedsMemory(r *specs.LinuxResources) bool {
	return r.Memory != nil && value(r.Memory.Swap) > 0 && value(r.Memory.Limit) == 0
}

// section turns one part of the resources into limits.
type section func(*specs.LinuxResources, *Host) ([]Limit, error)

// Plan returns the limits in the order of writing.
func Plan(r *specs.LinuxResources, h *Host) ([]Limit, error) {
	var limits []Limit
	for _, part := range []struct {
		controller  string // as v1 calls it
		unified, v1 section
	}{
		{"memory", memoryUnified, memoryLegacy},
		{"cpu", cpuUnified, cpuLegacy},
		{"cpuset", cpuset, cpuset},
		{"pids", pids, pids},
		{"blkio", ioUnified, ioLegacy},
		{"hugetlb", hugetlbUnified, hugetlbLegacy},
		{"rdma", rdma, rdma},
		{"net_cls", noClassID, classID},
		{"net_prio", noPriorities, priorities},
	} {
		plan, legacy := part.unified, h.legacy(part.controller)
		if legacy {
			plan = part.v1
		}
		more, err := plan(r, h)
		if err != nil {
			return nil, err
		}
		for i := range more {
			more[i].Legacy = legacy
		}
		limits = append(limits, more...)
	}
	more, err := unified(r, h)
	return append(limits, more...), err
}

// value is what an optional number points to, or 0.
func value[T any](p *T) T {
	if p == nil {
		return *new(T)
	}
	return *p
}

// builder collects the limits of one section.
type builder struct {
	section    string // of linux.resources, with its dot
	controller string
	limits     []Limit
}

// add appends a limit, which asks for nothing if its value is nothing.
func (b *builder) add(field, file, value, nothing string) *Limit {
	b.limits = append(b.limits, Limit{
		Field: b.section + field, Controller: b.controller, File: file, Value: value, Silent: value == nothing,
	})
	return &b.limits[len(b.limits)-1]
}

// refuse notes that a field is asked for that cannot be had.
func (b *builder) refuse(asked bool, field, why string) {
	if asked {
		b.limits = append(b.limits, Limit{Field: b.section + field, Controller: b.controller, Refused: why})
	}
}

// leaveOut notes that a field is deprecated and asks for what no kernel does any
// more: callers that still set it mean their containers to run all the same.
func (b *builder) leaveOut(asked bool, field string) {
	if asked {
		b.limits = append(b.limits, Limit{Field: b.section + field, Controller: b.controller, Refused: "deprecated, and kernels no longer keep it", Silent: true})
	}
}

// onlyV1 is why v2 refuses what it has no file for.
const onlyV1 = "control groups of version 2 have no such setting"

// cpuset is the same in both versions.
func cpuset(r *specs.LinuxResources, _ *Host) ([]Limit, error) {
	if r.CPU == nil {
		return nil, nil
	}
	b := builder{section: "cpu.", controller: "cpuset"}
	for _, s := range []struct{ field, list string }{{"cpus", r.CPU.Cpus}, {"mems", r.CPU.Mems}} {
		if s.list == "" {
			continue
		}
		// The kernel parses the list; what is kept from it is size
		// (CVE-2018-20699) and more than one line.
		if len(s.list) > 4096 || strings.Trim(s.list, "0123456789,- ") != "" {
			return nil, errdefs.New(errdefs.ErrInvalid, "linux.resources.cpu.%s: %.40q is not a list such as 0-3,7", s.field, s.list)
		}
		b.add(s.field, "cpuset."+s.field, s.list, "")
	}
	return b.limits, nil
}

// podmanPids is the limit that podman and CRI-O write if nobody asks for one.
const podmanPids = 2048

// pids is the same in both versions. 0 becomes 1, as for runc: systemd knows no
// smaller limit, and since the container's first process is placed and not forked
// there is no difference.
func pids(r *specs.LinuxResources, _ *Host) ([]Limit, error) {
	if r.Pids == nil || r.Pids.Limit == nil {
		return nil, nil
	}
	n := *r.Pids.Limit
	b := builder{section: "pids.", controller: "pids"}
	if n < 0 {
		b.add("limit", "pids.max", "max", "max")
	} else {
		b.add("limit", "pids.max", strconv.FormatInt(max(n, 1), 10), strconv.Itoa(podmanPids))
	}
	return b.limits, nil
}

// rdma is the same in both versions.
func rdma(r *specs.LinuxResources, _ *Host) ([]Limit, error) {
	b := builder{section: "rdma.", controller: "rdma"}
	for _, dev := range slices.Sorted(maps.Keys(r.Rdma)) {
		if strings.ContainsAny(dev, " \n") || dev == "" {
			return nil, errdefs.New(errdefs.ErrInvalid, "linux.resources.rdma: %q is not the name of a device", dev)
		}
		d := r.Rdma[dev]
		v := dev
		if d.HcaHandles != nil {
			v += " hca_handle=" + strconv.FormatUint(uint64(*d.HcaHandles), 10)
		}
		if d.HcaObjects != nil {
			v += " hca_object=" + strconv.FormatUint(uint64(*d.HcaObjects), 10)
		}
		b.add(dev, "rdma.max", v, "")
	}
	return b.limits, nil
}

// unified are written as they are, last, so that they win over what the older
// fields were translated to. v1 has no such files.
func unified(r *specs.LinuxResources, h *Host) ([]Limit, error) {
	var limits []Limit
	for _, file := range slices.Sorted(maps.Keys(r.Unified)) {
		controller, _, ok := strings.Cut(file, ".")
		// The files of the core (cgroup.procs, cgroup.kill …) are no limits.
		if !ok || controller == "cgroup" || strings.ContainsAny(file, "/\n") {
			return nil, errdefs.New(errdefs.ErrInvalid, "linux.resources.unified: %q is not a file of a controller", file)
		}
		if h.legacy(controller) || controller == "io" && h.legacy("blkio") {
			return nil, errdefs.New(errdefs.ErrUnsupported,
				"invalid configuration: linux.resources.unified: %q cannot be set: the controller %s is mounted as cgroup v1 on this host", file, controller)
		}
		for line := range strings.SplitSeq(strings.TrimSpace(r.Unified[file]), "\n") {
			limits = append(limits, Limit{Field: "unified." + file, Controller: controller, File: file, Value: line, Silent: line == "max"})
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

func checkPageSizes(r *specs.LinuxResources) error {
	for i, h := range r.HugepageLimits {
		if !isPageSize(h.Pagesize) {
			return errdefs.New(errdefs.ErrInvalid, "linux.resources.hugepageLimits[%d].pageSize: %q is not a size such as 2MB", i, h.Pagesize)
		}
	}
	return nil
}

func device(d specs.LinuxBlockIODevice) string {
	return strconv.FormatInt(d.Major, 10) + ":" + strconv.FormatInt(d.Minor, 10)
}

// throttles lists the four kinds of limits of devices, with what the two versions
// call them.
func throttles(b *specs.LinuxBlockIO) []throttle {
	return []throttle{
		{"throttleReadBpsDevice", "rbps", "blkio.throttle.read_bps_device", b.ThrottleReadBpsDevice},
		{"throttleWriteBpsDevice", "wbps", "blkio.throttle.write_bps_device", b.ThrottleWriteBpsDevice},
		{"throttleReadIOPSDevice", "riops", "blkio.throttle.read_iops_device", b.ThrottleReadIOPSDevice},
		{"throttleWriteIOPSDevice", "wiops", "blkio.throttle.write_iops_device", b.ThrottleWriteIOPSDevice},
	}
}

type throttle struct {
	field, key, v1 string
	devices        []specs.LinuxThrottleDevice
}
