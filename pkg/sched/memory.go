package sched

import (
	"slices"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"box/internal/errdefs"
	"box/pkg/launch"
)

// maxNodes is the largest number of NUMA nodes that a kernel is built for
// (CONFIG_NODES_SHIFT is at most 10).
const maxNodes = 1024

// memoryModes are the policies of linux/mempolicy.h, each at its number.
var memoryModes = []specs.MemoryPolicyModeType{
	specs.MpolDefault, specs.MpolPreferred, specs.MpolBind, specs.MpolInterleave, specs.MpolLocal,
	specs.MpolPreferredMany, specs.MpolWeightedInterleave,
}

// MemoryModes and MemoryFlags list the words of linux.memoryPolicy.
func MemoryModes() []string { return words(memoryModes) }

// MemoryFlags lists the flags of linux.memoryPolicy.
func MemoryFlags() []string {
	return words([]specs.MemoryPolicyFlagType{specs.MpolFNumaBalancing, specs.MpolFRelativeNodes, specs.MpolFStaticNodes})
}

func words[T ~string](list []T) (out []string) {
	for _, w := range list {
		out = append(out, string(w))
	}
	return out
}

// memoryFlag is the bit of a flag, which travels in the same argument as the mode.
func memoryFlag(f specs.MemoryPolicyFlagType) (bit int, ok bool) {
	switch f {
	case specs.MpolFStaticNodes:
		return unix.MPOL_F_STATIC_NODES, true
	case specs.MpolFRelativeNodes:
		return unix.MPOL_F_RELATIVE_NODES, true
	case specs.MpolFNumaBalancing:
		return unix.MPOL_F_NUMA_BALANCING, true
	}
	return 0, false
}

// parseMemory reads linux.memoryPolicy into the arguments of set_mempolicy(2).
func parseMemory(m *specs.LinuxMemoryPolicy) (mode int, nodes Mask, err error) {
	mode = slices.Index(memoryModes, m.Mode)
	if mode < 0 {
		return 0, nil, invalid("linux.memoryPolicy.mode: invalid memory policy mode %q", m.Mode)
	}
	if nodes, err = ParseList(m.Nodes, maxNodes); err != nil {
		return 0, nil, errdefs.New(errdefs.ErrInvalid, "linux.memoryPolicy.nodes: invalid memory policy nodes %q: %w", m.Nodes, err)
	}
	for i, f := range m.Flags {
		bit, ok := memoryFlag(f)
		if !ok {
			return 0, nil, invalid("linux.memoryPolicy.flags[%d]: invalid memory policy flag %q", i, f)
		}
		mode |= bit
	}
	return mode, nodes, checkNodes(m.Mode, nodes.Count())
}

// checkNodes checks what the kernel would only call EINVAL. MPOL_PREFERRED takes any
// number: none stands for the node of the CPU.
func checkNodes(mode specs.MemoryPolicyModeType, count int) error {
	switch mode {
	case specs.MpolDefault, specs.MpolLocal:
		if count > 0 {
			return invalid("linux.memoryPolicy.nodes: memory policy mode requires 0 nodes but got %d", count)
		}
	case specs.MpolBind, specs.MpolInterleave, specs.MpolWeightedInterleave, specs.MpolPreferredMany:
		if count == 0 {
			return invalid("linux.memoryPolicy.nodes: memory policy mode requires at least one node but got 0")
		}
	}
	return nil
}

// CheckMemoryPolicy checks linux.memoryPolicy; nil is none.
func CheckMemoryPolicy(m *specs.LinuxMemoryPolicy) error {
	if m == nil {
		return nil
	}
	_, _, err := parseMemory(m)
	return err
}

// AddMemoryPolicy adds the step that says which nodes the program's memory, and later
// its command's, comes from. A process can say so only of itself.
func AddMemoryPolicy(p *launch.Plan, m *specs.LinuxMemoryPolicy) error {
	if m == nil {
		return nil
	}
	mode, nodes, err := parseMemory(m)
	if err != nil {
		return err
	}
	step := launch.Step{
		Name: "set memory policy " + string(m.Mode), Call: launch.SetMempolicy,
		Args: launch.Args{launch.Int(mode), launch.Nil, launch.Int(0)},
		Why:  "it is the process's own and stays over execve; a filter may forbid the call later",
	}
	if len(nodes) > 0 {
		mask := launch.Bytes(nodes, func() string { return "{" + m.Nodes + "}" })
		step.Args[1] = mask
		step.Args[2] = launch.Int(maxNodes + 1) // the kernel takes one off (mm/mempolicy.c, get_nodes)
	}
	p.Add(step)
	return nil
}
