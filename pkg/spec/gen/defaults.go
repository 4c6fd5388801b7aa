package gen

import (
	"path/filepath"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// DefaultCapabilities returns the capabilities that Docker leaves a container:
// enough for a package manager and a daemon that drops to another user, and
// none that reaches beyond the container's own namespaces.
func DefaultCapabilities() []string {
	return []string{
		"CAP_CHOWN",
		"CAP_DAC_OVERRIDE",
		"CAP_FSETID",
		"CAP_FOWNER",
		"CAP_MKNOD",
		"CAP_NET_RAW",
		"CAP_SETGID",
		"CAP_SETUID",
		"CAP_SETFCAP",
		"CAP_SETPCAP",
		"CAP_NET_BIND_SERVICE",
		"CAP_SYS_CHROOT",
		"CAP_KILL",
		"CAP_AUDIT_WRITE",
	}
}

// defaultMounts returns Docker's mounts, parents first. shmSize is in bytes.
func defaultMounts(shmSize int64) []specs.Mount {
	return []specs.Mount{
		{Destination: "/proc", Type: "proc", Source: "proc", Options: []string{"nosuid", "noexec", "nodev"}},
		{Destination: "/dev", Type: "tmpfs", Source: "tmpfs", Options: []string{"nosuid", "strictatime", "mode=755", "size=65536k"}},
		// gid=5 is the group tty on every distribution; the terminal belongs to it.
		{Destination: "/dev/pts", Type: "devpts", Source: "devpts", Options: []string{"nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"}},
		{Destination: "/sys", Type: "sysfs", Source: "sysfs", Options: []string{"nosuid", "noexec", "nodev", "ro"}},
		{Destination: "/sys/fs/cgroup", Type: "cgroup", Source: "cgroup", Options: []string{"ro", "nosuid", "noexec", "nodev"}},
		{Destination: "/dev/mqueue", Type: "mqueue", Source: "mqueue", Options: []string{"nosuid", "noexec", "nodev"}},
		{Destination: "/dev/shm", Type: "tmpfs", Source: "shm", Options: []string{"nosuid", "noexec", "nodev", "mode=1777", shmOption(shmSize)}},
	}
}

// maskedPaths returns the files and directories that the container must not
// see: each leaks facts of the host or reaches into it. They equal those of
// moby (daemon/pkg/oci/defaults.go); thermal is its part that depends on the
// machine.
func maskedPaths(thermal []string) []string {
	return append([]string{
		"/proc/acpi",
		"/proc/asound",
		"/proc/interrupts", // timing of other tenants' keystrokes: GHSA-6fw5-f8r9-fgfm
		"/proc/kcore",
		"/proc/keys",
		"/proc/latency_stats",
		"/proc/sched_debug",
		"/proc/scsi", // CVE-2017-16539
		"/proc/timer_list",
		"/proc/timer_stats",
		"/sys/devices/virtual/powercap", // power as a side channel: CVE-2020-8694
		"/sys/firmware",
	}, thermal...)
}

// hostThermalPaths returns the per-CPU interrupt counters of this machine,
// which leak as /proc/interrupts does (GHSA-6fw5-f8r9-fgfm). Most virtual
// machines have none.
func hostThermalPaths() []string {
	// The only error of Glob is a malformed pattern.
	paths, _ := filepath.Glob("/sys/devices/system/cpu/cpu[0-9]*/thermal_throttle")
	return paths
}

// readonlyPaths returns the parts of /proc that change the host when written.
func readonlyPaths() []string {
	return []string{
		"/proc/bus",
		"/proc/fs",
		"/proc/irq",
		"/proc/sys",
		"/proc/sysrq-trigger",
	}
}

// defaultDeviceRules returns Docker's device rules: deny everything, allow what
// every program expects, and leave FUSE closed even if a runtime would open it.
// Unlike Docker's they leave out 5:1: a node of that number is the host's console,
// with what is typed there, and the container's /dev/console is a pseudo terminal.
// Runtimes add the pseudo terminals and mknod(2) of their own accord.
func defaultDeviceRules() []specs.LinuxDeviceCgroup {
	char := func(allow bool, major, minor int64) specs.LinuxDeviceCgroup {
		return specs.LinuxDeviceCgroup{Allow: allow, Type: "c", Major: &major, Minor: &minor, Access: "rwm"}
	}
	return []specs.LinuxDeviceCgroup{
		{Allow: false, Access: "rwm"},
		char(true, 1, 5),     // zero
		char(true, 1, 3),     // null
		char(true, 1, 9),     // urandom
		char(true, 1, 8),     // random
		char(true, 5, 0),     // tty
		char(false, 10, 229), // fuse
	}
}

// Runtime returns the configuration that `box-runtime spec` prints: a shell on
// a terminal in a read-only root file system, as runc's does, to be edited by
// hand.
func Runtime() *specs.Spec {
	caps := []string{"CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE"}
	s := &specs.Spec{
		Version:  specs.Version,
		Process:  runtimeProcess(caps),
		Root:     &specs.Root{Path: "rootfs", Readonly: true},
		Hostname: "box",
		Mounts:   runtimeMounts(),
		Linux: &specs.Linux{
			Resources:     &specs.LinuxResources{Devices: []specs.LinuxDeviceCgroup{{Allow: false, Access: "rwm"}}},
			Namespaces:    namespaces(Options{}),
			MaskedPaths:   maskedPaths(nil),
			ReadonlyPaths: readonlyPaths(),
		},
	}
	return s
}

// runtimeProcess is the process of Runtime.
func runtimeProcess(caps []string) *specs.Process {
	return &specs.Process{
		Terminal:        true,
		Args:            []string{"sh"},
		Env:             []string{"PATH=" + DefaultPath, "TERM=xterm"},
		Cwd:             "/",
		Capabilities:    capabilities(caps, 0),
		Rlimits:         []specs.POSIXRlimit{{Type: "RLIMIT_NOFILE", Hard: 1024, Soft: 1024}},
		NoNewPrivileges: true,
	}
}

// runtimeMounts are the default mounts in the form runc writes them: the cgroup
// mount may be updated by remounting, and /dev/shm has no size of its own.
func runtimeMounts() []specs.Mount {
	list := defaultMounts(defaultShmSize)
	for i := range list {
		switch list[i].Destination {
		case "/proc":
			list[i].Options = nil
		case "/dev/shm":
			list[i].Options = append(list[i].Options[:4:4], "size=65536k")
		case "/sys/fs/cgroup":
			list[i].Options = []string{"nosuid", "noexec", "nodev", "relatime", "ro"}
		}
	}
	return list
}
