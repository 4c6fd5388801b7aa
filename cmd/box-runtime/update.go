package main

import (
	"context"
	"strconv"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"box/internal/errdefs"
	"box/pkg/spec"
)

func updateCommand(g *globals) *command {
	r := &specs.LinuxResources{
		Memory: &specs.LinuxMemory{}, CPU: &specs.LinuxCPU{}, BlockIO: &specs.LinuxBlockIO{}, Pids: &specs.LinuxPids{},
	}
	file := ""
	return &command{
		usage: "ID", about: "change the limits of a container", min: 1, max: 1,
		flags: append(limitFlags(r),
			text(&file, "FILE", `limits as JSON, in the form of linux.resources; "-" is stdin; other flags are then left alone`, "resources", "r"),
			unavailable("l3-cache-schema", "Intel RDT/CAT: l3 cache schema is not enabled"),
			unavailable("mem-bw-schema", "Intel RDT/MBA: memory bandwidth schema is not enabled"),
		),
		run: func(ctx context.Context, args []string) error {
			if file != "" {
				var err error
				if r, err = spec.LoadResources(file); err != nil {
					return err
				}
			}
			return g.runtime().Update(ctx, args[0], r)
		},
	}
}

// limitFlags are the flags that name single limits; those that are not given leave
// their field nil, and the limit as it is.
func limitFlags(r *specs.LinuxResources) []flag {
	return []flag{
		size(&r.Memory.Limit, "memory limit", "memory"),
		size(&r.Memory.Swap, "limit on memory and swap together; -1 is none", "memory-swap"),
		size(&r.Memory.Reservation, "memory that is spared when memory runs short", "memory-reservation"),
		size(&r.Memory.Kernel, "left out with a warning: no kernel keeps it any more", "kernel-memory"), //nolint:staticcheck // SA1019: warned about
		size(&r.Memory.KernelTCP, "left out with a warning: no kernel keeps it any more", "kernel-memory-tcp"),
		unsigned(&r.CPU.Period, "period of the CPU quota, in microseconds", "cpu-period"),
		signed(&r.CPU.Quota, "CPU time in a period, in microseconds; -1 is no limit", "cpu-quota"),
		unsigned(&r.CPU.Burst, "CPU time that may be saved up, in microseconds", "cpu-burst"),
		unsigned(&r.CPU.Shares, "CPU shares, as cgroup v1 counts them", "cpu-share"),
		unsigned(&r.CPU.RealtimePeriod, "period of realtime scheduling, in microseconds", "cpu-rt-period"),
		signed(&r.CPU.RealtimeRuntime, "realtime in a period, in microseconds", "cpu-rt-runtime"),
		signed(&r.CPU.Idle, "1: run only when nobody else wants to", "cpu-idle"),
		text(&r.CPU.Cpus, "LIST", "CPUs to use: 0-3,7", "cpuset-cpus"),
		text(&r.CPU.Mems, "LIST", "memory nodes to use", "cpuset-mems"),
		weight(&r.BlockIO.Weight, "weight of input and output, 10 to 1000", "blkio-weight"),
		signed(&r.Pids.Limit, "greatest number of processes; -1 is no limit", "pids-limit"),
	}
}

func signed(p **int64, help, name string) flag {
	return flag{names: []string{name}, value: "N", help: help, set: func(v string) error {
		n, err := strconv.ParseInt(v, 10, 64)
		*p = &n
		return err
	}}
}

func unsigned(p **uint64, help, name string) flag {
	return flag{names: []string{name}, value: "N", help: help, set: func(v string) error {
		n, err := strconv.ParseUint(v, 10, 64)
		*p = &n
		return err
	}}
}

func weight(p **uint16, help, name string) flag {
	return flag{names: []string{name}, value: "N", help: help, set: func(v string) error {
		n, err := strconv.ParseUint(v, 10, 16)
		w := uint16(n)
		*p = &w
		return err
	}}
}

// size is a flag that takes an amount of memory.
func size(p **int64, help, name string) flag {
	return flag{names: []string{name}, value: "BYTES", help: help, set: func(v string) error {
		n, err := parseSize(v)
		*p = &n
		return err
	}}
}

// unavailable is a flag for what this runtime does only when a container is made; refusal
// is runc's sentence for hosts that lack it.
func unavailable(name, refusal string) flag {
	return flag{names: []string{name}, value: "SCHEMA", help: "refused: a running container keeps its group of caches", set: func(string) error {
		return errdefs.New(errdefs.ErrUnsupported, "%s", refusal)
	}}
}
