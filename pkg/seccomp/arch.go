package seccomp

import (
	"runtime"
	"slices"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"box/internal/errdefs"
)

// The columns of the table of system calls.
const (
	amd64 = iota
	i386
	x32
	arm64
	arm
	archCount
)

// syscallRow is one line of the table: a name and its numbers, -1 where an
// architecture lacks the call.
type syscallRow struct {
	name string
	nr   [archCount]int16
}

const (
	// x32Bit marks the calls of x32, which share AUDIT_ARCH_X86_64
	// (__X32_SYSCALL_BIT in asm/unistd.h).
	x32Bit = 0x40000000
	// privateMark in the table stands for privateBase, the first number of the
	// private calls of ARM (__ARM_NR_BASE).
	privateMark = 0x4000
	privateBase = 0x0f0000
)

// arch is an architecture as a filter sees it.
type arch struct {
	name   specs.Arch
	column int
	audit  uint32 // seccomp_data.arch
	wide   bool   // arguments are 64 bits
}

var archs = [archCount]arch{
	amd64: {specs.ArchX86_64, amd64, unix.AUDIT_ARCH_X86_64, true},
	i386:  {specs.ArchX86, i386, unix.AUDIT_ARCH_I386, false},
	x32:   {specs.ArchX32, x32, unix.AUDIT_ARCH_X86_64, false},
	arm64: {specs.ArchAARCH64, arm64, unix.AUDIT_ARCH_AARCH64, true},
	arm:   {specs.ArchARM, arm, unix.AUDIT_ARCH_ARM, false},
}

// foreign are the architectures of the specification whose calls never reach a
// kernel that this program runs on. Listing them changes nothing.
var foreign = []specs.Arch{
	specs.ArchMIPS, specs.ArchMIPS64, specs.ArchMIPS64N32, specs.ArchMIPSEL, specs.ArchMIPSEL64,
	specs.ArchMIPSEL64N32, specs.ArchPPC, specs.ArchPPC64, specs.ArchPPC64LE, specs.ArchS390,
	specs.ArchS390X, specs.ArchPARISC, specs.ArchPARISC64, specs.ArchRISCV64, specs.ArchLOONGARCH64,
	specs.ArchM68K, specs.ArchSH, specs.ArchSHEB,
}

// native is the architecture of this program. The runtime is built for amd64 and
// arm64 only.
func native() *arch {
	if runtime.GOARCH == "arm64" {
		return &archs[arm64]
	}
	return &archs[amd64]
}

// findArchs returns the architectures to filter, the native one first.
func findArchs(names []specs.Arch, own *arch) ([]*arch, error) {
	list := []*arch{own}
	for i, name := range names {
		at := slices.IndexFunc(archs[:], func(a arch) bool { return a.name == name })
		switch {
		case at >= 0 && !slices.Contains(list, &archs[at]):
			list = append(list, &archs[at])
		case at < 0 && !slices.Contains(foreign, name):
			return nil, errdefs.New(errdefs.ErrInvalid, "linux.seccomp.architectures[%d]: unknown architecture %q", i, name)
		}
	}
	return list, nil
}
