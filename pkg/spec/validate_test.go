package spec

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"box/internal/errdefs"
)

// valid is a small configuration without a mistake.
func valid() *specs.Spec {
	return &specs.Spec{
		Version: "1.2.0",
		Process: &specs.Process{Args: []string{"true"}, Cwd: "/", Env: []string{"PATH=/bin", "PEM=a\nb", "EMPTY="}},
		Root:    &specs.Root{Path: "rootfs"},
		Mounts: []specs.Mount{
			{Destination: "/proc", Type: "proc", Source: "proc"},
			{Destination: "/data", Source: "/a", Options: []string{"rbind"}},
		},
		Linux: &specs.Linux{Namespaces: []specs.LinuxNamespace{
			{Type: specs.MountNamespace}, {Type: specs.UTSNamespace}, {Type: specs.IPCNamespace}, {Type: specs.NetworkNamespace},
		}},
	}
}

func ptr[T any](v T) *T { return &v }

func withNamespace(s *specs.Spec, t specs.LinuxNamespaceType, path string) {
	s.Linux.Namespaces = append(s.Linux.Namespaces, specs.LinuxNamespace{Type: t, Path: path})
}

func TestValid(t *testing.T) {
	for name, change := range map[string]func(*specs.Spec){
		"as it is":       func(*specs.Spec) {},
		"newest version": func(s *specs.Spec) { s.Version = "1.99.0-dev" },
		"names":          func(s *specs.Spec) { s.Hostname, s.Domainname = "host", "example.org" },
		"largest id":     func(s *specs.Spec) { s.Process.User = specs.User{UID: maxID, GID: maxID, Umask: ptr(uint32(0o777))} },
		"sysctls": func(s *specs.Spec) {
			s.Linux.Sysctl = map[string]string{
				"net.ipv4.ping_group_range": "0 0", "net/ipv4/conf/eth0.1/forwarding": "1",
				"kernel.shmmax": "1", "fs.mqueue.msg_max": "10", "kernel.domainname": "d",
			}
		},
		"a user namespace": func(s *specs.Spec) {
			withNamespace(s, specs.UserNamespace, "")
			s.Linux.UIDMappings = []specs.LinuxIDMapping{{HostID: 100000, Size: 65536}}
			s.Linux.GIDMappings = s.Linux.UIDMappings
		},
		"a joined user namespace": func(s *specs.Spec) { withNamespace(s, specs.UserNamespace, "/proc/1/ns/user") },
		"clocks": func(s *specs.Spec) {
			withNamespace(s, specs.TimeNamespace, "")
			s.Linux.TimeOffsets = map[string]specs.LinuxTimeOffset{"boottime": {Secs: -1, Nanosecs: 999_999_999}}
		},
		"hooks": func(s *specs.Spec) {
			s.Hooks = &specs.Hooks{Poststop: []specs.Hook{{Path: "/bin/true", Timeout: ptr(1)}}}
		},
		"devices": func(s *specs.Spec) { s.Linux.Devices = []specs.LinuxDevice{{Path: "/dev/x", Type: "p", Major: -1}} },
		"limits": func(s *specs.Spec) {
			s.Process.Rlimits = []specs.POSIXRlimit{{Type: "RLIMIT_NOFILE", Hard: 2, Soft: 1}, {Type: "RLIMIT_RTTIME"}}
		},
		"group": func(s *specs.Spec) { s.Linux.CgroupsPath = "/a/..b" },
	} {
		s := valid()
		change(s)
		if err := Validate(s); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestInvalid(t *testing.T) {
	long := strings.Repeat("x", maxPath)
	for text, change := range map[string]func(*specs.Spec){
		"ociVersion: missing":                                        func(s *specs.Spec) { s.Version = "" },
		"process: missing":                                           func(s *specs.Spec) { s.Process = nil },
		"root.path: missing":                                         func(s *specs.Spec) { s.Root = nil },
		"linux: missing":                                             func(s *specs.Spec) { s.Linux = nil },
		"process.args: missing":                                      func(s *specs.Spec) { s.Process.Args = nil },
		"process.args[0]: empty":                                     func(s *specs.Spec) { s.Process.Args = []string{""} },
		"process.cwd: missing":                                       func(s *specs.Spec) { s.Process.Cwd = "" },
		`process.cwd: "a" is not an absolute path`:                   func(s *specs.Spec) { s.Process.Cwd = "a" },
		"process.cwd: longer than 4095 bytes":                        func(s *specs.Spec) { s.Process.Cwd = "/" + long },
		`process.args[1]: "a\x00b" contains a NUL byte`:              func(s *specs.Spec) { s.Process.Args = []string{"a", "a\x00b"} },
		`process.env[0]: "FOO" is not NAME=value`:                    func(s *specs.Spec) { s.Process.Env = []string{"FOO"} },
		`process.env[0]: "=x" is not NAME=value`:                     func(s *specs.Spec) { s.Process.Env = []string{"=x"} },
		`process.env[0]: "A=\x00" contains a NUL byte`:               func(s *specs.Spec) { s.Process.Env = []string{"A=\x00"} },
		`process.env[0]: "A\nB=1" has a line break`:                  func(s *specs.Spec) { s.Process.Env = []string{"A\nB=1"} },
		`process.env[0]: "HOME=/\nroot" has a line break`:            func(s *specs.Spec) { s.Process.Env = []string{"HOME=/\nroot"} },
		"process.user.uid: 2147483648 is larger than 2147483647":     func(s *specs.Spec) { s.Process.User.UID = 1 << 31 },
		"process.user.gid: 4294967295 is larger than 2147483647":     func(s *specs.Spec) { s.Process.User.GID = 1<<32 - 1 },
		"process.user.umask: 01000 is larger than 0777":              func(s *specs.Spec) { s.Process.User.Umask = ptr(uint32(0o1000)) },
		"process.oomScoreAdj: 1001 is not between -1000 and 1000":    func(s *specs.Spec) { s.Process.OOMScoreAdj = ptr(1001) },
		`process.rlimits[0].type: unknown limit "NOFILE"`:            func(s *specs.Spec) { s.Process.Rlimits = []specs.POSIXRlimit{{Type: "NOFILE"}} },
		"process.rlimits[0].soft: 2 is larger than the hard limit 1": func(s *specs.Spec) { s.Process.Rlimits = []specs.POSIXRlimit{{Type: "RLIMIT_CPU", Soft: 2, Hard: 1}} },
		"process.rlimits[1].type: RLIMIT_CPU is set twice": func(s *specs.Spec) {
			s.Process.Rlimits = []specs.POSIXRlimit{{Type: "RLIMIT_CPU"}, {Type: "RLIMIT_CPU"}}
		},
		"process.user.additionalGids[1]: 2147483648 is larger than 2147483647": func(s *specs.Spec) { s.Process.User.AdditionalGids = []uint32{1, 1 << 31} },
		"process.capabilities.effective: CAP_KILL is not in the permitted set": func(s *specs.Spec) {
			s.Process.Capabilities = &specs.LinuxCapabilities{Effective: []string{"CAP_KILL"}}
		},
		"hostname: longer than 64 bytes":      func(s *specs.Spec) { s.Hostname = strings.Repeat("h", 65) },
		`hostname: "a\nb" has a line break`:   func(s *specs.Spec) { s.Hostname = "a\nb" },
		`domainname: "a\nb" has a line break`: func(s *specs.Spec) { s.Domainname = "a\nb" },
		"hostname: cannot be set without a uts namespace": func(s *specs.Spec) {
			s.Hostname, s.Linux.Namespaces = "h", []specs.LinuxNamespace{{Type: specs.MountNamespace}}
		},
		"mounts[0].source: longer than 4095 bytes":   func(s *specs.Spec) { s.Mounts[0].Source = long },
		"mounts[0].options: longer than 4095 bytes":  func(s *specs.Spec) { s.Mounts[0].Options = []string{long} },
		"mounts[0].type: missing":                    func(s *specs.Spec) { s.Mounts[0].Type = "" },
		"mounts[1].source: missing for a bind mount": func(s *specs.Spec) { s.Mounts[1].Source = "" },
		`hooks.prestart[0].path: "x" is not an absolute path`: func(s *specs.Spec) {
			s.Hooks = &specs.Hooks{Prestart: []specs.Hook{{Path: "x"}}} //nolint:staticcheck // what dockerd writes
		},
		"hooks.poststop[1].timeout: 0 is not a positive number of seconds": func(s *specs.Spec) {
			s.Hooks = &specs.Hooks{Poststop: []specs.Hook{{Path: "/x"}, {Path: "/x", Timeout: ptr(0)}}}
		},
		`linux.namespaces[4].type: unknown namespace "x"`:        func(s *specs.Spec) { withNamespace(s, "x", "") },
		"linux.namespaces[4].type: mount occurs twice":           func(s *specs.Spec) { withNamespace(s, specs.MountNamespace, "") },
		`linux.namespaces[4].path: "ns" is not an absolute path`: func(s *specs.Spec) { withNamespace(s, specs.PIDNamespace, "ns") },
		"linux.uidMappings: set without a user namespace":        func(s *specs.Spec) { s.Linux.UIDMappings = []specs.LinuxIDMapping{{Size: 1}} },
		"linux.uidMappings: missing for a new user namespace":    func(s *specs.Spec) { withNamespace(s, specs.UserNamespace, "") },
		"linux.timeOffsets: set without a new time namespace":    func(s *specs.Spec) { s.Linux.TimeOffsets = map[string]specs.LinuxTimeOffset{"boottime": {}} },
		"linux.maskedPaths, linux.readonlyPaths: unable to restrict sys entries without a private MNT namespace": func(s *specs.Spec) {
			s.Linux.Namespaces = s.Linux.Namespaces[1:]
			s.Linux.MaskedPaths = []string{"/proc/kcore"}
		},
		`linux.maskedPaths[0]: "proc" is not an absolute path`:   func(s *specs.Spec) { s.Linux.MaskedPaths = []string{"proc"} },
		`linux.readonlyPaths[0]: "../x" is not an absolute path`: func(s *specs.Spec) { s.Linux.ReadonlyPaths = []string{"../x"} },
		`linux.cgroupsPath: "/a/../b" contains ".."`:             func(s *specs.Spec) { s.Linux.CgroupsPath = "/a/../b" },
		`linux.rootfsPropagation: unknown propagation "x"`:       func(s *specs.Spec) { s.Linux.RootfsPropagation = "x" },
		`linux.devices[0].path: "dev" is not an absolute path`:   func(s *specs.Spec) { s.Linux.Devices = []specs.LinuxDevice{{Path: "dev"}} },
		`linux.devices[0].type: unknown device type "x", want b, c, u or p`: func(s *specs.Spec) {
			s.Linux.Devices = []specs.LinuxDevice{{Path: "/dev/x", Type: "x"}}
		},
		"linux.devices[0]: device number -1:0 is negative": func(s *specs.Spec) {
			s.Linux.Devices = []specs.LinuxDevice{{Path: "/dev/x", Type: "c", Major: -1}}
		},
		"linux.devices[0].gid: 4294967295 is larger than 2147483647": func(s *specs.Spec) {
			s.Linux.Devices = []specs.LinuxDevice{{Path: "/dev/x", Type: "c", GID: ptr(uint32(1<<32 - 1))}}
		},
		"linux.gidMappings[0]: 2 ids from 0 to 2147483647 are outside 0 to 2147483647": func(s *specs.Spec) {
			withNamespace(s, specs.UserNamespace, "")
			s.Linux.UIDMappings = []specs.LinuxIDMapping{{Size: 1}}
			s.Linux.GIDMappings = []specs.LinuxIDMapping{{HostID: maxID, Size: 2}}
		},
		`linux.timeOffsets: unknown clock "realtime", want monotonic or boottime`: func(s *specs.Spec) {
			withNamespace(s, specs.TimeNamespace, "")
			s.Linux.TimeOffsets = map[string]specs.LinuxTimeOffset{"realtime": {}}
		},
		"linux.timeOffsets.boottime.nanosecs: 1000000000 is a second or more": func(s *specs.Spec) {
			withNamespace(s, specs.TimeNamespace, "")
			s.Linux.TimeOffsets = map[string]specs.LinuxTimeOffset{"boottime": {Nanosecs: 1_000_000_000}}
		},
	} {
		s := valid()
		change(s)
		if err := Validate(s); !errors.Is(err, errdefs.ErrInvalid) || err.Error() != text {
			t.Errorf("have %v\nwant %s", err, text)
		}
	}
}

func TestUnsupported(t *testing.T) {
	for text, change := range map[string]func(*specs.Spec){
		`ociVersion: "2.0.0" is not supported, want 1.x`:                        func(s *specs.Spec) { s.Version = "2.0.0" },
		`ociVersion: "10.0" is not supported, want 1.x`:                         func(s *specs.Spec) { s.Version = "10.0" },
		"process.commandLine: not supported: box-runtime runs Linux containers": func(s *specs.Spec) { s.Process.CommandLine = "dir" },
	} {
		s := valid()
		change(s)
		if err := Validate(s); !errors.Is(err, errdefs.ErrUnsupported) || err.Error() != text {
			t.Errorf("have %v\nwant %s", err, text)
		}
	}
}

// TestSysctls: what would change the host is refused, however it is written
// (CVE-2022-0532, CVE-2022-0811).
func TestSysctls(t *testing.T) {
	for _, c := range []struct{ name, value, text string }{
		{"kernel.core_pattern", "x", "linux.sysctl: kernel.core_pattern belongs to no namespace: it would change the host"},
		{"kernel/core_pattern", "x", "linux.sysctl: kernel/core_pattern belongs to no namespace: it would change the host"},
		{"net/../kernel/core_pattern", "x", `linux.sysctl: "net/../kernel/core_pattern" is not the name of a kernel setting`},
		{"/proc/sys/kernel/core_pattern", "x", `linux.sysctl: "/proc/sys/kernel/core_pattern" is not the name of a kernel setting`},
		{"net..ipv4", "x", `linux.sysctl: "net..ipv4" is not the name of a kernel setting`},
		{"", "x", `linux.sysctl: "" is not the name of a kernel setting`},
		{"kernel.shmmaxx", "1", "linux.sysctl: kernel.shmmaxx belongs to no namespace: it would change the host"},
		{"kernel.hostname", "h", "linux.sysctl: kernel.hostname is set by the field hostname"},
		{"user.max_user_namespaces", "1", "linux.sysctl: user.max_user_namespaces needs a user namespace: it would change the host"},
		{"kernel.shmmax", "1+kernel.core_pattern=|/x", `linux.sysctl: value "1+kernel.core_pattern=|/x" of kernel.shmmax has a line break or '='`},
		{"kernel.shmmax", "1\nx", `linux.sysctl: value "1\nx" of kernel.shmmax has a line break or '='`},
	} {
		s := valid()
		s.Linux.Sysctl = map[string]string{c.name: c.value}
		if err := Validate(s); !errors.Is(err, errdefs.ErrInvalid) || err.Error() != c.text {
			t.Errorf("%s: have %v\nwant %s", c.name, err, c.text)
		}
	}
}

// TestSysctlsOfSharedNamespaces: without a namespace of its own, and with the
// host's in disguise.
func TestSysctlsOfSharedNamespaces(t *testing.T) {
	s := valid()
	s.Linux.Sysctl = map[string]string{"net.ipv4.ip_forward": "1"}
	s.Linux.Namespaces = s.Linux.Namespaces[:3]
	if err := Validate(s); err == nil || !strings.Contains(err.Error(), "needs a network namespace") {
		t.Errorf("have %v", err)
	}
	link := filepath.Join(t.TempDir(), "ns")
	if err := os.Symlink("/proc/self/ns/net", link); err != nil {
		t.Fatal(err)
	}
	withNamespace(s, specs.NetworkNamespace, link)
	if err := Validate(s); err == nil || !strings.HasSuffix(err.Error(), link+" is its network namespace") {
		t.Errorf("have %v", err)
	}
	s.Linux.Namespaces[3].Path = "/proc/self/ns/pid" // any other: joining it is not our business
	if err := Validate(s); err != nil {
		t.Errorf("have %v", err)
	}
}

func TestSysctlPath(t *testing.T) {
	for name, want := range map[string]string{
		"net.ipv4.ip_forward":             "net/ipv4/ip_forward",
		"net/ipv4/ip_forward":             "net/ipv4/ip_forward",
		"net.ipv4.conf.eth0/1.forwarding": "net/ipv4/conf/eth0.1/forwarding",
		"net/ipv4/conf/eth0.1/forwarding": "net/ipv4/conf/eth0.1/forwarding",
	} {
		if have, err := SysctlPath(name); err != nil || have != want {
			t.Errorf("%s: %s, %v; want %s", name, have, err, want)
		}
	}
}

func TestRlimit(t *testing.T) {
	for name, want := range map[string]int{"RLIMIT_CPU": unix.RLIMIT_CPU, "RLIMIT_NOFILE": unix.RLIMIT_NOFILE, "RLIMIT_MEMLOCK": unix.RLIMIT_MEMLOCK, "RLIMIT_RTTIME": unix.RLIMIT_RTTIME} {
		if have, ok := Rlimit(name); !ok || have != want {
			t.Errorf("%s: %d, want %d", name, have, want)
		}
	}
}

func TestLoad(t *testing.T) {
	dir := t.TempDir()
	config := filepath.Join(dir, ConfigFile)
	write := func(text string) {
		if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := Load(dir); !errors.Is(err, os.ErrNotExist) || !strings.Contains(err.Error(), config) {
		t.Errorf("without a file: %v", err)
	}
	write(`{"ociVersion":"1.0.0"`)
	if _, err := Load(dir); err == nil || err.Error() != config+":1:22: want ',' or '}', have the end of the file" {
		t.Errorf("half a file: %v", err)
	}
	write(`{"ociVersion":"1.0.0"}`)
	if _, err := Load(dir); err == nil || err.Error() != config+": process: missing" || !errors.Is(err, errdefs.ErrInvalid) {
		t.Errorf("too little: %v", err)
	}
	write(`{"ociVersion":"1.0.0","process":{"args":["a"],"cwd":"/","user":{}},"root":{"path":"r"},"linux":{"namespaces":[{"type":"mount"}]}}`)
	s, err := Load(dir)
	if err != nil || s.Process.Args[0] != "a" {
		t.Errorf("%+v, %v", s, err)
	}
	if err := os.Truncate(config, maxConfig+1); err != nil {
		t.Fatal(err)
	}
	if _, err := Load(dir); err == nil || !strings.Contains(err.Error(), "larger than 32 MiB") {
		t.Errorf("too much: %v", err)
	}
}

// TestForesee: what is foreseen is what the whole configuration says, where it is one.
func TestForesee(t *testing.T) {
	for text, want := range map[string][]specs.LinuxNamespace{
		`{"linux":{"namespaces":[{"type":"mount"},{"type":"network","path":"/x"}]}}`:                                                      {{Type: "mount"}, {Type: "network", Path: "/x"}},
		`{"mounts":[{"a":[1,{}]}],"linux":{"resources":{"namespaces":[]},"namespaces":[{"type":"ipc"}]},"x":{"linux":{"namespaces":[]}}}`: {{Type: "ipc"}},
		`{"process":{"args":["{\"linux\":{"]}}`: nil,
		`{"linux":null}`:                        nil,
		`{"linux":{"namespaces":7}}`:            nil,
		`[]`:                                    nil,
		``:                                      nil,
	} {
		got := Foresee([]byte(text))
		if !slices.Equal(got, want) {
			t.Errorf("%s: %v, want %v", text, got, want)
		}
		if whole, err := Decode("", []byte(text)); err == nil && whole.Linux != nil && !slices.Equal(got, whole.Linux.Namespaces) {
			t.Errorf("%s: %v, the whole says %v", text, got, whole.Linux.Namespaces)
		}
	}
}

func TestLoadProcess(t *testing.T) {
	file := filepath.Join(t.TempDir(), "process.json")
	if err := os.WriteFile(file, []byte(`{"args":["a"],"cwd":"/","user":{"uid":5},"env":["A=1"]}`), 0o600); err != nil {
		t.Fatal(err)
	}
	if p, err := LoadProcess(file); err != nil || p.User.UID != 5 {
		t.Errorf("%+v, %v", p, err)
	}
	if err := os.WriteFile(file, []byte(`{"args":["a"],"cwd":"/","user":{},"commandLine":"x"}`), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := LoadProcess(file); !errors.Is(err, errdefs.ErrUnsupported) || err.Error() != file+": process.commandLine: "+otherOS {
		t.Errorf("have %v", err)
	}
}

// TestLoadFromPipe: exec is given its process as /dev/fd/N.
func TestLoadFromPipe(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if _, err := w.WriteString(`{"args":["a"],"cwd":"/","user":{}}` + strings.Repeat(" ", 3000)); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if p, err := LoadProcess("/dev/fd/" + strconv.Itoa(int(r.Fd()))); err != nil || p.Args[0] != "a" {
		t.Errorf("%+v, %v", p, err)
	}
}

func TestResources(t *testing.T) {
	r, err := DecodeResources("-", []byte(`{"memory":{"limit":5},"pids":{"limit":-1}}`))
	if err != nil || *r.Memory.Limit != 5 || *r.Pids.Limit != -1 {
		t.Errorf("%+v, %v", r, err)
	}
	if err := ValidateResources(r); err != nil {
		t.Error(err)
	}
	r.Memory.UseHierarchy = ptr(false)
	if err := ValidateResources(r); !errors.Is(err, errdefs.ErrUnsupported) {
		t.Errorf("have %v", err)
	}
}
