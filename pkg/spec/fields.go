package spec

import (
	"slices"

	"github.com/opencontainers/runtime-spec/specs-go"

	"box/internal/errdefs"
)

// Field says of one field of the configuration whether box-runtime carries it
// out. The table is data so that it can be listed (`box-runtime features`), and
// so that a test can hold it against specs.Spec: a field that a new release of
// the specification adds is in neither column and fails that test.
type Field struct {
	// Path is the JSON path; elements of arrays and maps have no mark of their
	// own. A field stands for all that is below it.
	Path string
	// Refused is the reason why the field may not be set. Empty means that the
	// field is carried out, or asks for nothing that could be.
	Refused string
	// set tells whether a configuration uses a refused field. It is nil for
	// those that other rules refuse (values, other platforms).
	set func(*specs.Spec) bool
}

// Fields returns the table, in the order of the specification.
func Fields() []Field { return fields }

const (
	notYet     = "not supported yet"
	otherOS    = "not supported: box-runtime runs Linux containers"
	v1Only     = "not supported: control groups of version 2 have no such setting"
	noListener = "not supported yet: seccomp notifications need an agent"
)

// fields is the table. Sections with nothing refused in them are one line.
var fields = []Field{
	{Path: "ociVersion"},

	{Path: "process.terminal"},
	{Path: "process.consoleSize"},
	{Path: "process.user.uid"},
	{Path: "process.user.gid"},
	{Path: "process.user.umask"},
	{Path: "process.user.additionalGids"},
	{"process.user.username", otherOS, func(s *specs.Spec) bool { return processOf(s).User.Username != "" }},
	{Path: "process.args"},
	{"process.commandLine", otherOS, func(s *specs.Spec) bool { return processOf(s).CommandLine != "" }},
	{Path: "process.env"},
	{Path: "process.cwd"},
	{Path: "process.capabilities"},
	{Path: "process.rlimits"},
	{Path: "process.noNewPrivileges"},
	{"process.apparmorProfile", notYet, func(s *specs.Spec) bool {
		return processOf(s).ApparmorProfile != "" && processOf(s).ApparmorProfile != "unconfined"
	}},
	{Path: "process.oomScoreAdj"},
	{"process.scheduler", notYet, func(s *specs.Spec) bool { return processOf(s).Scheduler != nil }},
	{"process.selinuxLabel", notYet, func(s *specs.Spec) bool { return processOf(s).SelinuxLabel != "" }},
	{"process.ioPriority", notYet, func(s *specs.Spec) bool { return processOf(s).IOPriority != nil }},
	{"process.execCPUAffinity", notYet, func(s *specs.Spec) bool { return processOf(s).ExecCPUAffinity != nil }},

	{Path: "root"},
	{Path: "hostname"},
	{Path: "domainname"},

	{Path: "mounts.destination"},
	{Path: "mounts.type"},
	{Path: "mounts.source"},
	{Path: "mounts.options"},
	{"mounts.uidMappings", notYet, func(s *specs.Spec) bool {
		return slices.ContainsFunc(s.Mounts, func(m specs.Mount) bool { return m.UIDMappings != nil })
	}},
	{"mounts.gidMappings", notYet, func(s *specs.Spec) bool {
		return slices.ContainsFunc(s.Mounts, func(m specs.Mount) bool { return m.GIDMappings != nil })
	}},

	{Path: "hooks"},
	{Path: "annotations"},

	{Path: "linux.uidMappings"},
	{Path: "linux.gidMappings"},
	{Path: "linux.sysctl"},
	{Path: "linux.resources.devices"},
	{Path: "linux.resources.memory.limit"},
	{Path: "linux.resources.memory.reservation"},
	{Path: "linux.resources.memory.swap"},
	{"linux.resources.memory.kernel", v1Only, func(s *specs.Spec) bool { return positive(memoryOf(s).Kernel) }},
	{"linux.resources.memory.kernelTCP", v1Only, func(s *specs.Spec) bool { return positive(memoryOf(s).KernelTCP) }},
	{"linux.resources.memory.swappiness", v1Only, func(s *specs.Spec) bool {
		return memoryOf(s).Swappiness != nil && *memoryOf(s).Swappiness != ^uint64(0)
	}},
	{"linux.resources.memory.disableOOMKiller", v1Only, func(s *specs.Spec) bool { return memoryOf(s).DisableOOMKiller != nil && *memoryOf(s).DisableOOMKiller }},
	{"linux.resources.memory.useHierarchy", v1Only, func(s *specs.Spec) bool { return memoryOf(s).UseHierarchy != nil && !*memoryOf(s).UseHierarchy }},
	{Path: "linux.resources.memory.checkBeforeUpdate"},
	{Path: "linux.resources.cpu.shares"},
	{Path: "linux.resources.cpu.quota"},
	{Path: "linux.resources.cpu.burst"},
	{Path: "linux.resources.cpu.period"},
	{"linux.resources.cpu.realtimeRuntime", v1Only, func(s *specs.Spec) bool { return positive(cpuOf(s).RealtimeRuntime) }},
	{"linux.resources.cpu.realtimePeriod", v1Only, func(s *specs.Spec) bool { return positive(cpuOf(s).RealtimePeriod) }},
	{Path: "linux.resources.cpu.cpus"},
	{Path: "linux.resources.cpu.mems"},
	{Path: "linux.resources.cpu.idle"},
	{Path: "linux.resources.pids"},
	{Path: "linux.resources.blockIO.weight"},
	{"linux.resources.blockIO.leafWeight", v1Only, func(s *specs.Spec) bool { return positive(blockIOOf(s).LeafWeight) }},
	{Path: "linux.resources.blockIO.weightDevice.major"},
	{Path: "linux.resources.blockIO.weightDevice.minor"},
	{Path: "linux.resources.blockIO.weightDevice.weight"},
	{"linux.resources.blockIO.weightDevice.leafWeight", v1Only, deviceLeafWeight},
	{Path: "linux.resources.blockIO.throttleReadBpsDevice"},
	{Path: "linux.resources.blockIO.throttleWriteBpsDevice"},
	{Path: "linux.resources.blockIO.throttleReadIOPSDevice"},
	{Path: "linux.resources.blockIO.throttleWriteIOPSDevice"},
	{Path: "linux.resources.hugepageLimits"},
	{"linux.resources.network.classID", v1Only, func(s *specs.Spec) bool { return positive(networkOf(s).ClassID) }},
	{"linux.resources.network.priorities", v1Only, func(s *specs.Spec) bool { return len(networkOf(s).Priorities) > 0 }},
	{Path: "linux.resources.rdma"},
	{Path: "linux.resources.unified"},
	{Path: "linux.cgroupsPath"},
	{Path: "linux.namespaces"},
	{Path: "linux.devices"},
	{"linux.netDevices", notYet, func(s *specs.Spec) bool { return len(linuxOf(s).NetDevices) > 0 }},
	{Path: "linux.seccomp.defaultAction"},
	{Path: "linux.seccomp.defaultErrnoRet"},
	{Path: "linux.seccomp.architectures"},
	{Path: "linux.seccomp.flags"},
	{"linux.seccomp.listenerPath", noListener, func(s *specs.Spec) bool { return seccompOf(s).ListenerPath != "" }},
	{"linux.seccomp.listenerMetadata", noListener, func(s *specs.Spec) bool { return seccompOf(s).ListenerMetadata != "" }},
	{Path: "linux.seccomp.syscalls"},
	{Path: "linux.rootfsPropagation"},
	{Path: "linux.maskedPaths"},
	{Path: "linux.readonlyPaths"},
	{"linux.mountLabel", notYet, func(s *specs.Spec) bool { return linuxOf(s).MountLabel != "" }},
	{"linux.intelRdt", notYet, func(s *specs.Spec) bool { return linuxOf(s).IntelRdt != nil }},
	{"linux.memoryPolicy", notYet, func(s *specs.Spec) bool { return linuxOf(s).MemoryPolicy != nil }},
	{"linux.personality", notYet, func(s *specs.Spec) bool { return linuxOf(s).Personality != nil }},
	{Path: "linux.timeOffsets"},

	{"solaris", otherOS, func(s *specs.Spec) bool { return s.Solaris != nil }},
	{"windows", otherOS, func(s *specs.Spec) bool { return s.Windows != nil }},
	{"vm", otherOS, func(s *specs.Spec) bool { return s.VM != nil }},
	{"zos", otherOS, func(s *specs.Spec) bool { return s.ZOS != nil }},
	{"freebsd", otherOS, func(s *specs.Spec) bool { return s.FreeBSD != nil }},
}

// refuse returns an error for the first field that is set and not carried out.
func refuse(s *specs.Spec) error {
	for _, f := range fields {
		if f.set != nil && f.set(s) {
			return errdefs.New(errdefs.ErrUnsupported, "%s: %s", f.Path, f.Refused)
		}
	}
	return nil
}

// positive tells whether a limit asks for something: not absent, not 0 and not
// the -1 that stands for "no limit".
func positive[T ~int64 | ~uint16 | ~uint32 | ~uint64](v *T) bool { return v != nil && *v > 0 }

// deviceLeafWeight looks for a leaf weight among the weights of devices.
func deviceLeafWeight(s *specs.Spec) bool {
	return slices.ContainsFunc(blockIOOf(s).WeightDevice, func(d specs.LinuxWeightDevice) bool { return positive(d.LeafWeight) })
}

// The functions below return a section of the configuration, an empty one where
// it is absent. They keep the table free of closures, which would have to be
// made each time the program starts.

func processOf(s *specs.Spec) *specs.Process { return orEmpty(s.Process) }

func linuxOf(s *specs.Spec) *specs.Linux { return orEmpty(s.Linux) }

func seccompOf(s *specs.Spec) *specs.LinuxSeccomp { return orEmpty(linuxOf(s).Seccomp) }

func resourcesOf(s *specs.Spec) *specs.LinuxResources { return orEmpty(linuxOf(s).Resources) }

func memoryOf(s *specs.Spec) *specs.LinuxMemory { return orEmpty(resourcesOf(s).Memory) }

func cpuOf(s *specs.Spec) *specs.LinuxCPU { return orEmpty(resourcesOf(s).CPU) }

func blockIOOf(s *specs.Spec) *specs.LinuxBlockIO { return orEmpty(resourcesOf(s).BlockIO) }

func networkOf(s *specs.Spec) *specs.LinuxNetwork { return orEmpty(resourcesOf(s).Network) }

func orEmpty[T any](p *T) *T {
	if p == nil {
		return new(T)
	}
	return p
}
