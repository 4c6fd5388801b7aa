package plan

import (
	"encoding/json"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"box/pkg/launch"
	"box/pkg/namespaces"
	"box/pkg/rootfs"
	"box/pkg/spec"
	"box/pkg/spec/gen"
)

// FuzzConfig takes a configuration the whole way from text to program: whatever
// passes validation is refused by a later stage or makes a program for both machines.
func FuzzConfig(f *testing.F) {
	for _, s := range configSeeds() {
		data, err := json.Marshal(s)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	sent, err := filepath.Glob(engines + "*.json")
	if err != nil {
		f.Fatal(err)
	}
	for _, file := range sent {
		data, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) { checkConfig(t, data) })
}

// FuzzConfigTree does the same with configurations that are JSON to begin with:
// the seeds, with values moved, dropped and replaced as the number says.
func FuzzConfigTree(f *testing.F) {
	for n := range uint64(50) {
		f.Add(n)
	}
	seeds := configSeeds()
	f.Fuzz(func(t *testing.T, n uint64) {
		r := rand.New(rand.NewPCG(n, 3))
		var tree any
		data, err := json.Marshal(seeds[r.IntN(len(seeds))])
		if err == nil {
			err = json.Unmarshal(data, &tree)
		}
		if err != nil {
			t.Fatal(err)
		}
		for range 1 + r.IntN(6) {
			tree = mutate(r, tree)
		}
		if data, err = json.Marshal(tree); err != nil {
			t.Fatal(err)
		}
		checkConfig(t, data)
	})
}

func checkConfig(t *testing.T, data []byte) {
	t.Helper()
	s, err := spec.Decode("config.json", data)
	if err != nil || spec.Validate(s) != nil {
		return
	}
	plan := tryPlan(s)
	if plan == nil {
		return
	}
	for _, arch := range []launch.Arch{"amd64", "arm64"} {
		if _, err := launch.Compile(plan, arch); err != nil {
			t.Errorf("%s: a plan that was made does not compile: %v\n%s", arch, err, data)
		}
	}
}

// odd are values that have been trouble somewhere.
var odd = []any{
	nil, "", "/", ".", "..", "../..", "a/b", "/proc/self/fd/7", "//", "a:b", "-", "a=b", "a\x00b", "\n", "%s", strings.Repeat("a", 5000), "0", "-1",
	0.0, 1.0, -1.0, 2147483648.0, 4294967295.0, 4294967296.0, 9223372036854774784.0, 1e300, 0.5, true, false,
	"bind", "rbind", "tmpfs", "ro", "rro", "idmap", "tmpcopyup", "shared", "mode=7777", "user", "time", "/dev/null",
}

// strange is one of them, or a container, new each time: what it is put into is changed
// again.
func strange(r *rand.Rand) any {
	switch i := r.IntN(len(odd) + 4); i - len(odd) {
	case 0:
		return map[string]any{}
	case 1:
		return []any{}
	case 2:
		return map[string]any{"a": 1.0}
	case 3:
		return []any{"a"}
	default:
		return odd[i]
	}
}

// mutate changes one place of a JSON tree: it goes down by chance, and replaces,
// drops or doubles what it meets.
func mutate(r *rand.Rand, tree any) any {
	switch v := tree.(type) {
	case map[string]any:
		keys := slices.Sorted(maps.Keys(v))
		if len(keys) == 0 || r.IntN(12) == 0 {
			return strange(r)
		}
		key := keys[r.IntN(len(keys))]
		if r.IntN(10) == 0 {
			delete(v, key)
			return v
		}
		v[key] = mutate(r, v[key])
		return v
	case []any:
		if len(v) == 0 || r.IntN(12) == 0 {
			return strange(r)
		}
		i := r.IntN(len(v))
		switch r.IntN(8) {
		case 0:
			return slices.Delete(v, i, i+1)
		case 1:
			return append(v, strange(r))
		}
		v[i] = mutate(r, v[i])
		return v
	}
	return strange(r)
}

// tryPlan is planOf without a test to fail: nil for what is refused.
func tryPlan(s *specs.Spec) *launch.Plan {
	set, err := namespaces.From(s.Linux)
	if err != nil {
		return nil
	}
	f := goldenFacts
	f.Root = rootfs.Facts{Root: "/bundle/rootfs", Cgroup2: "/sys/fs/cgroup", Kcore: true, Mounts: make([]rootfs.MountFacts, len(s.Mounts))}
	c, err := NewContainer("c1", s, set, &f, Environment(s.Process, func(uint32) string { return "/" }))
	if err != nil {
		return nil
	}
	c.LayOut()
	b, err := c.Assemble()
	if err != nil {
		return nil
	}
	return b.Plan
}

// configSeeds are specs that between them set most fields.
func configSeeds() []*specs.Spec {
	mask, code := uint32(0o77), uint(38)
	seeds := []*specs.Spec{gen.Runtime(), gen.Runtime(), gen.Runtime(), gen.Runtime()}
	seeds[1].Process.User = specs.User{UID: 1000, GID: 100, AdditionalGids: []uint32{100, 7}, Umask: &mask}
	seeds[1].Process.Rlimits = []specs.POSIXRlimit{{Type: "RLIMIT_NOFILE", Soft: 64, Hard: 128}}
	seeds[1].Process.Terminal, seeds[1].Process.ConsoleSize = true, &specs.Box{Height: 24, Width: 80}
	seeds[1].Process.Scheduler = &specs.Scheduler{Policy: specs.SchedBatch, Nice: 3}
	seeds[1].Process.IOPriority = &specs.LinuxIOPriority{Class: specs.IOPRIO_CLASS_BE, Priority: 4}
	seeds[1].Hooks = &specs.Hooks{CreateContainer: []specs.Hook{{Path: "/bin/true", Args: []string{"true"}}}}
	seeds[2].Linux.Namespaces = append(seeds[2].Linux.Namespaces,
		specs.LinuxNamespace{Type: specs.TimeNamespace}, specs.LinuxNamespace{Type: specs.UserNamespace})
	seeds[2].Linux.UIDMappings = []specs.LinuxIDMapping{{ContainerID: 0, HostID: 100000, Size: 65536}}
	seeds[2].Linux.GIDMappings = seeds[2].Linux.UIDMappings
	seeds[2].Linux.TimeOffsets = map[string]specs.LinuxTimeOffset{"boottime": {Secs: 5, Nanosecs: 6}}
	seeds[2].Linux.Sysctl = map[string]string{"net.ipv4.ip_forward": "0"}
	seeds[2].Linux.Devices = []specs.LinuxDevice{{Path: "/dev/fuse", Type: "c", Major: 10, Minor: 229, FileMode: nil}}
	seeds[2].Mounts = append(seeds[2].Mounts, specs.Mount{
		Destination: "/data", Type: "bind", Source: "/srv", Options: []string{"rbind", "rro", "rslave", "nosuid"},
	})
	seeds[3].Linux.Seccomp = &specs.LinuxSeccomp{
		DefaultAction: specs.ActErrno, DefaultErrnoRet: &code, Architectures: []specs.Arch{specs.ArchX86_64, specs.ArchX86},
		Flags: []specs.LinuxSeccompFlag{specs.LinuxSeccompFlagLog},
		Syscalls: []specs.LinuxSyscall{
			{Names: []string{"read", "write"}, Action: specs.ActAllow},
			{Names: []string{"socket"}, Action: specs.ActAllow, Args: []specs.LinuxSeccompArg{{Index: 0, Value: 16, ValueTwo: 1, Op: specs.OpMaskedEqual}}},
		},
	}
	seeds[3].Linux.MemoryPolicy = &specs.LinuxMemoryPolicy{Mode: specs.MpolBind, Nodes: "0"}
	seeds[3].Linux.Personality = &specs.LinuxPersonality{Domain: specs.PerLinux32}
	return seeds
}
