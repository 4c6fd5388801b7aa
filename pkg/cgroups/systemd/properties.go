package systemd

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"box/internal/errdefs"
	"box/pkg/cgroups/kernfs"
	"box/pkg/cgroups/limits"
)

// Releases of systemd that brought properties (systemd.resource-control(5)).
const (
	sinceQuotaPeriod = 242
	sinceAllowedCPUs = 244
	sinceIdleWeight  = 252 // CPUWeight=idle
)

// SinceDeviceNumbers is the release from which on devices may be named by numbers, as
// /dev/char/1:3 and char-136, whether there is a node of that name or not.
const SinceDeviceNumbers = 240

// Device is an entry of DeviceAllow: what it is called, and some of the letters "rwm".
type Device struct{ Path, Access string }

// OnlyDevices returns the properties of a unit that may use these devices and no others.
// The empty list takes away what systemd has, to which it would add; and it stands before
// the policy, or the unit is for ever in need of a daemon-reload (systemd issue 35710).
func OnlyDevices(devices []Device) []Property {
	return []Property{{"DeviceAllow", []Device{}}, {"DevicePolicy", "strict"}, {"DeviceAllow", devices}}
}

// sinceScopePolicy is the release from which on a scope may have an OOMPolicy
// (systemd.scope(5)), and memory.oom.group is written from it.
const sinceScopePolicy = 253

// KilledTogether returns the properties of a new unit of which all processes are killed
// when one is, for want of memory: memory.oom.group is 1. Where systemd does not know of
// that it leaves the file alone.
func KilledTogether(version int) []Property {
	if version < sinceScopePolicy {
		return nil
	}
	return []Property{{"OOMPolicy", "kill"}}
}

// amountOf returns the property that holds the same amount as an interface file, of
// v2 or v1; "" if there is none.
func amountOf(file string) string {
	switch file {
	case "memory.min":
		return "MemoryMin"
	case "memory.low":
		return "MemoryLow"
	case "memory.high":
		return "MemoryHigh"
	case "memory.max":
		return "MemoryMax"
	case "memory.swap.max":
		return "MemorySwapMax"
	case "memory.limit_in_bytes":
		return "MemoryLimit"
	case "cpu.weight":
		return "CPUWeight"
	case "cpu.shares":
		return "CPUShares"
	case "io.weight":
		return "IOWeight"
	case "blkio.weight":
		return "BlockIOWeight"
	case "pids.max":
		return "TasksMax"
	}
	return ""
}

// FromLimits returns the properties for limits that systemd has words for, so that
// it does not undo them when it next writes the files of the group. The later of
// two about the same thing wins. version is systemd's: what it does not know yet is
// left to the files.
func FromLimits(list []limits.Limit, version int) ([]Property, error) {
	var all []Property
	for _, l := range list {
		if l.Refused != "" {
			continue
		}
		switch name := amountOf(l.File); {
		case name != "":
			if n, ok := amount(l.Value); ok {
				if name == "TasksMax" {
					n = max(n, 1) // systemd knows no limit of none
				}
				all = put(all, name, n)
			}
		case l.File == "cpu.idle" && l.Value == "1" && version >= sinceIdleWeight:
			all = put(all, "CPUWeight", uint64(0))
		case l.File == "cpu.max":
			perSec, period := quota(l.Value)
			all = put(all, "CPUQuotaPerSecUSec", perSec)
			if version >= sinceQuotaPeriod {
				all = put(all, "CPUQuotaPeriodUSec", period)
			}
		case version >= sinceAllowedCPUs && (l.File == "cpuset.cpus" || l.File == "cpuset.mems"):
			mask, err := bitmask(l)
			if err != nil {
				return nil, err
			}
			all = put(all, allowed(l.File), mask)
		}
	}
	return all, nil
}

// AsHeld returns the limits as systemd can hold them, for what it holds it writes again
// at its own time: a quota in steps of a hundredth of a CPU, and for a group that is
// idle no weight, which is the same property. Weightless says that there was one.
func AsHeld(list []limits.Limit) (held []limits.Limit, weightless bool) {
	idle := slices.ContainsFunc(list, func(l limits.Limit) bool { return l.File == "cpu.idle" && l.Value == "1" })
	for _, l := range list {
		switch {
		case l.File == "cpu.weight" && idle:
			weightless = true
			continue
		case l.File == "cpu.max":
			l.Value = roundQuota(l.Value)
		}
		held = append(held, l)
	}
	return held, weightless
}

// roundQuota is cpu.max as systemd writes it.
func roundQuota(cpuMax string) string {
	perSec, period := quota(cpuMax)
	if perSec > math.MaxUint64/period { // none, or one that the kernel refuses
		return cpuMax
	}
	return fmt.Sprintf("%d %d", perSec*period/second, period)
}

// allowed is the property for a file of the controller cpuset.
func allowed(file string) string {
	if file == "cpuset.mems" {
		return "AllowedMemoryNodes"
	}
	return "AllowedCPUs"
}

// put sets a property that may be in the list already.
func put(list []Property, name string, value any) []Property {
	for i := range list {
		if list[i].Name == name {
			list[i].Value = value
			return list
		}
	}
	return append(list, Property{name, value})
}

// amount is what systemd holds for the value of a file: MaxUint64 is no limit. A
// value about one device only is none.
func amount(value string) (uint64, bool) {
	if value == "-1" {
		return math.MaxUint64, true
	}
	return kernfs.Value(value)
}

// second in microseconds.
const second = 1_000_000

// quota turns "quota period", in microseconds, into microseconds per second, rounded
// up to what systemd can hold (10 ms), and the period.
func quota(cpuMax string) (perSec, period uint64) {
	const step = 10_000
	q, p, _ := strings.Cut(cpuMax, " ")
	period, err := strconv.ParseUint(p, 10, 64)
	if err != nil || period == 0 {
		period = second / 10
	}
	n, err := strconv.ParseUint(q, 10, 64)
	if err != nil || n > math.MaxUint64/second {
		return math.MaxUint64, period // "max"
	}
	perSec = n * second / period
	return (perSec + step - 1) / step * step, period
}

// bitmask turns a list of CPUs or nodes into bits, the lowest first.
func bitmask(l limits.Limit) ([]byte, error) {
	numbers, ok := kernfs.List(strings.ReplaceAll(l.Value, " ", ""))
	if !ok || len(numbers) == 0 {
		return nil, errdefs.New(errdefs.ErrInvalid, "linux.resources.%s: %.40q is not a list such as 0-3,7", l.Field, l.Value)
	}
	var mask []byte
	for _, n := range numbers {
		for int(n)/8 >= len(mask) {
			mask = append(mask, 0)
		}
		mask[n/8] |= 1 << (n % 8)
	}
	return mask, nil
}

// Scope returns the properties of a container's scope: where it is, that what is
// in it is our business, that everything in it is counted, and who is in it first.
// legacy is for a host with cgroup v1.
func Scope(description, slice string, pid uint32, legacy bool) []Property {
	io := "IOAccounting"
	if legacy {
		io = "BlockIOAccounting"
	}
	return []Property{
		{"Description", description},
		{"Slice", slice},
		{"Delegate", true},
		{"PIDs", []uint32{pid}},
		{"CPUAccounting", true},
		{"MemoryAccounting", true},
		{"TasksAccounting", true},
		{io, true},
		// The scope is not to wait for, nor be stopped with, the host's targets
		// in an order that only its engine knows.
		{"DefaultDependencies", false},
	}
}
