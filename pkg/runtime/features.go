package runtime

import (
	goruntime "runtime"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"github.com/opencontainers/runtime-spec/specs-go/features"

	"box/pkg/plan"
	"box/pkg/sched"
	"box/pkg/seccomp"
)

// Features says what this runtime carries out, in the form of the OCI runtime
// spec's features document. What is not listed is refused, by name.
func Features(version string) *features.Features {
	yes := new(true)
	knownFlags, supportedFlags := seccomp.KnownFlags()
	return &features.Features{
		OCIVersionMin: "1.0.0",
		OCIVersionMax: specs.Version,
		Hooks: []string{
			hookPrestart, hookCreateRuntime, hookCreateContainer, hookStartContainer, hookPoststart, hookPoststop,
		},
		MountOptions: mountOptions,
		Linux: &features.Linux{
			Namespaces:   namespaceNames,
			Capabilities: plan.Capabilities(),
			Cgroup:       &features.Cgroup{V1: yes, V2: yes, Systemd: yes, SystemdUser: yes, Rdma: yes},
			Seccomp: &features.Seccomp{
				Enabled: yes, Actions: seccompActions, Operators: seccompOperators, Archs: seccompArchs,
				KnownFlags: knownFlags, SupportedFlags: supportedFlags,
			},
			MemoryPolicy: &features.MemoryPolicy{Modes: sched.MemoryModes(), Flags: sched.MemoryFlags()},
			Apparmor:     &features.Apparmor{Enabled: yes},
			Selinux:      &features.Selinux{Enabled: yes},
			IntelRdt:     &features.IntelRdt{Enabled: yes, Schemata: yes, Monitoring: yes},
			MountExtensions: &features.MountExtensions{
				IDMap: &features.IDMap{Enabled: yes},
			},
			NetDevices: &features.NetDevices{Enabled: yes},
		},
		// What an image must not decide: criu's settings, properties of the systemd unit.
		PotentiallyUnsafeConfigAnnotations: []string{"org.criu.config", "org.systemd.property."},
		Annotations:                        map[string]string{"box.runtime.version": version, "box.runtime.arch": goruntime.GOARCH},
	}
}

// What the packages below carry out, as lists. Tests give each word to the package
// that has to understand it.
var (
	namespaceNames = []string{"cgroup", "ipc", "mount", "network", "pid", "time", "user", "uts"}

	// mountOptions are those of every mount; a file system's own come on top.
	mountOptions = []string{
		"async", "atime", "bind", "defaults", "dev", "diratime", "exec", "idmap", "loud", "noatime", "nodev",
		"nodiratime", "noexec", "noiversion", "nolazytime", "nomand", "norelatime", "nostrictatime", "nosuid",
		"nosymfollow", "private", "ratime", "rbind", "rdev", "rdiratime", "relatime", "remount", "rexec",
		"ridmap", "rnoatime", "rnodev", "rnodiratime", "rnoexec", "rnorelatime", "rnostrictatime", "rnosuid",
		"rnosymfollow", "ro", "rprivate", "rrelatime", "rro", "rrw", "rshared", "rslave", "rstrictatime",
		"rsuid", "rsymfollow", "runbindable", "rw", "shared", "silent", "slave", "strictatime", "suid",
		"symfollow", "tmpcopyup", "unbindable",
	}

	seccompActions = []string{
		"SCMP_ACT_ALLOW", "SCMP_ACT_ERRNO", "SCMP_ACT_KILL", "SCMP_ACT_KILL_PROCESS", "SCMP_ACT_KILL_THREAD",
		"SCMP_ACT_LOG", "SCMP_ACT_NOTIFY", "SCMP_ACT_TRACE", "SCMP_ACT_TRAP",
	}
	seccompOperators = []string{
		"SCMP_CMP_EQ", "SCMP_CMP_GE", "SCMP_CMP_GT", "SCMP_CMP_LE", "SCMP_CMP_LT", "SCMP_CMP_MASKED_EQ", "SCMP_CMP_NE",
	}
	seccompArchs = []string{"SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM", "SCMP_ARCH_X32", "SCMP_ARCH_X86", "SCMP_ARCH_X86_64"}
)
