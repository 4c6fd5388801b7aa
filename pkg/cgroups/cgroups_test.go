package cgroups

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"

	"box/internal/errdefs"
)

func TestResolve(t *testing.T) {
	for _, c := range []struct{ path, own, want string }{
		{"/box/abc", "/ignored", "/box/abc"},
		{"/box//abc/.", "/", "/box/abc"},
		{"", "/", "/id"},
		{"", "/user.slice/session.scope", "/user.slice/id"},
		{"machine/abc", "/user.slice/session.scope", "/user.slice/machine/abc"},
		{"machine/abc", "/", "/machine/abc"},
		{"/with:one/colon:more:x", "/", "/with:one/colon:more:x"},
		{"pods.slice:cri-containerd:abc", "/", "/pods.slice:cri-containerd:abc"},
	} {
		if have, err := resolve(c.path, "id", c.own); err != nil || have != c.want {
			t.Errorf("%q beside %s: %q, %v; want %q", c.path, c.own, have, err, c.want)
		}
	}
}

func TestResolveRefuses(t *testing.T) {
	for path, text := range map[string]string{
		"/..":          `linux.cgroupsPath: bad sub cgroup path "/.."`,
		"/box/../../x": `linux.cgroupsPath: bad sub cgroup path "/box/../../x"`,
		"../x":         `linux.cgroupsPath: bad sub cgroup path "../x"`,
		"/a\nb":        `linux.cgroupsPath: bad sub cgroup path "/a\nb"`,
		"/":            `linux.cgroupsPath: "/" is the root of the hierarchy`,
		".":            `linux.cgroupsPath: "." is the group of the caller`,
		"/./":          `linux.cgroupsPath: "/./" is the root of the hierarchy`,
	} {
		have, err := resolve(path, "id", "/")
		if err == nil || err.Error() != text {
			t.Errorf("%q: %q, %v", path, have, err)
		}
	}
}

func TestFindMount(t *testing.T) {
	const info = `31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
40 31 0:37 / /sys/fs/cgroup/systemd rw,relatime - cgroup cgroup rw,name=systemd
41 31 0:38 /part /mnt/part rw,relatime shared:3 - cgroup2 cgroup2 rw
42 31 0:38 / /mnt/whole rw,relatime shared:3 master:4 - cgroup2 cgroup2 rw
`
	if have := findMount(strings.NewReader(info)); have != "/mnt/whole" {
		t.Errorf("have %q", have)
	}
	if have := findMount(strings.NewReader("")); have != "" {
		t.Errorf("have %q", have)
	}
}

func ptr[T any](v T) *T { return &v }

// fakeHierarchy makes a directory that looks like a hierarchy to the code that
// enables controllers: plain files take whatever is written.
func fakeHierarchy(t *testing.T, files map[string]string) *Cgroup {
	t.Helper()
	root := t.TempDir()
	for name, content := range files {
		name = filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return &Cgroup{root: root, path: "/box/id"}
}

func TestApplyEnablesAndWrites(t *testing.T) {
	c := fakeHierarchy(t, map[string]string{
		"cgroup.controllers": "cpu io memory pids\n", "cgroup.subtree_control": "cpu memory pids\n",
		"box/cgroup.controllers": "cpu memory pids\n", "box/cgroup.subtree_control": "", "box/cgroup.procs": "",
		"box/id/memory.max": "", "box/id/pids.max": "",
	})
	r := &specs.LinuxResources{Memory: &specs.LinuxMemory{Limit: ptr(int64(4096)), Swap: ptr(int64(4096))}, Pids: &specs.LinuxPids{Limit: ptr(int64(-1))}}
	if notes, err := c.Apply(r); err != nil || len(notes) != 0 {
		t.Fatalf("%v, %v", notes, err)
	}
	for file, want := range map[string]string{
		"box/id/memory.max": "4096", "box/id/pids.max": "max",
		// Only what is wanted and not on; the last write is what a plain file keeps.
		"box/cgroup.subtree_control": "+pidsry", "cgroup.subtree_control": "cpu memory pids\n",
	} {
		have, err := os.ReadFile(filepath.Join(c.root, file))
		if err != nil || string(have) != want {
			t.Errorf("%s: %q, %v; want %q", file, have, err, want)
		}
	}
}

func TestApplyRefusesWhatIsMissing(t *testing.T) {
	c := fakeHierarchy(t, map[string]string{
		"cgroup.controllers": "hugetlb memory\n", "cgroup.subtree_control": "memory\n",
		"box/cgroup.controllers": "\n", "box/cgroup.subtree_control": "",
		"box/id/cgroup.events": "",
	})
	for name, step := range map[string]struct {
		r    specs.LinuxResources
		text string
	}{
		"above": {
			specs.LinuxResources{Memory: &specs.LinuxMemory{Limit: ptr(int64(4096))}},
			"linux.resources.memory.limit: cannot set memory.max of cgroup /box/id: the cgroup /box does not have the controller memory",
		},
		"host": {
			specs.LinuxResources{Rdma: map[string]specs.LinuxRdma{"x": {}}},
			"linux.resources.rdma.x: cannot set rdma.max of cgroup /box/id: this kernel offers no controller rdma",
		},
	} {
		_, err := c.Apply(&step.r)
		if !errors.Is(err, errdefs.ErrUnsupported) || err.Error() != step.text || errdefs.Hint(err) == "" {
			t.Errorf("%s: %v\nwant %s", name, err, step.text)
		}
	}
	notes, err := c.Apply(&specs.LinuxResources{CPU: &specs.LinuxCPU{Shares: ptr(uint64(1024))}})
	if err != nil || len(notes) != 1 || !strings.Contains(notes[0].Text, "cpu.weight not set to 100, which asks for nothing") {
		t.Errorf("%v, %v", notes, err)
	}
}

func TestCheckBeforeUpdate(t *testing.T) {
	c := fakeHierarchy(t, map[string]string{"box/id/memory.current": "5000\n"})
	r := &specs.LinuxResources{Memory: &specs.LinuxMemory{Limit: ptr(int64(4096)), CheckBeforeUpdate: ptr(true)}}
	if _, err := c.Apply(r); !errors.Is(err, errdefs.ErrConflict) || err.Error() != "rejecting memory limit 4096 <= usage 5000" {
		t.Errorf("have %v", err)
	}
}

// runProgram interprets a device program: the dozen instructions it is made of.
func runProgram(t *testing.T, code []uint64, kind, access, major, minor uint32) bool {
	t.Helper()
	var reg [11]uint32
	context := []uint32{access<<16 | kind, major, minor}
	for pc := 0; pc < len(code); pc++ {
		i := code[pc]
		op, dst, src := i&0xff, i>>8&15, i>>12&15
		offset, imm := int16(i>>16), uint32(i>>32)
		switch op {
		case opLoadWord:
			reg[dst] = context[offset/4]
		case opMove:
			reg[dst] = reg[src]
		case opMoveImm:
			reg[dst] = imm
		case opAndImm:
			reg[dst] &= imm
		case opShiftImm:
			reg[dst] >>= imm
		case opJumpEQ:
			if reg[dst] == imm {
				pc += int(offset)
			}
		case opJumpNE:
			if reg[dst] != imm {
				pc += int(offset)
			}
		case opExit:
			return reg[regResult] == 1
		default:
			t.Fatalf("opcode %#x", op)
		}
	}
	t.Fatal("the program runs off its end")
	return false
}

// permitted asks for each kind of access apart what the last matching rule says.
func permitted(rules []deviceRule, kind, access, major, minor uint32) bool {
	for bit := uint32(1); bit <= accessWrite; bit <<= 1 {
		allowed := false
		for _, r := range rules {
			if (r.kind == anyType || uint32(r.kind) == kind) && (r.major == anyNumber || uint32(r.major) == major) &&
				(r.minor == anyNumber || uint32(r.minor) == minor) && uint32(r.access)&bit != 0 {
				allowed = r.allow
			}
		}
		if access&bit != 0 && !allowed {
			return false
		}
	}
	return true
}

// TestDeviceProgram holds programs against the meaning of their rules.
func TestDeviceProgram(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	number := func() int64 { return int64(r.IntN(4)) - 1 }
	for round := range 3000 {
		var rules []deviceRule
		for range r.IntN(6) {
			rules = append(rules, deviceRule{r.IntN(2) == 0, int32(r.IntN(3)), number(), number(), int32(1 + r.IntN(7))})
		}
		code := deviceProgram(rules)
		for range 40 {
			kind, access := uint32(1+r.IntN(2)), uint32(1+r.IntN(7))
			major, minor := uint32(r.IntN(4)), uint32(r.IntN(4))
			have, want := runProgram(t, code, kind, access, major, minor), permitted(rules, kind, access, major, minor)
			if have != want {
				t.Fatalf("round %d: kind %d access %d %d:%d: program %v, rules %v\n%+v", round, kind, access, major, minor, have, want, rules)
			}
		}
	}
}

func TestParseRules(t *testing.T) {
	for _, c := range []struct {
		rule specs.LinuxDeviceCgroup
		want string
	}{
		{specs.LinuxDeviceCgroup{Allow: true, Access: "rwm"}, "{true 0 -1 -1 7}"},
		{specs.LinuxDeviceCgroup{Type: "a", Major: ptr(int64(-1))}, "{false 0 -1 -1 7}"},
		{specs.LinuxDeviceCgroup{Allow: true, Type: "c", Major: ptr(int64(10)), Minor: ptr(int64(229)), Access: "wr"}, "{true 2 10 229 6}"},
		{specs.LinuxDeviceCgroup{Type: "c", Access: "rwa"}, "{false 2 -1 -1 6}"},
		{specs.LinuxDeviceCgroup{Type: "b", Access: "m"}, "{false 1 -1 -1 1}"},
		{specs.LinuxDeviceCgroup{Type: "d"}, `linux.resources.devices[0].type: unknown device type "d", want a, b or c`},
		{specs.LinuxDeviceCgroup{Access: "rx"}, `linux.resources.devices[0].access: unknown letter 'x' in "rx", want r, w or m`},
		{specs.LinuxDeviceCgroup{Minor: ptr(int64(-2))}, "linux.resources.devices[0].minor: -2 is not a device number"},
		{specs.LinuxDeviceCgroup{Major: ptr(int64(1 << 32))}, "linux.resources.devices[0].major: 4294967296 is not a device number"},
	} {
		rules, err := parseRules([]specs.LinuxDeviceCgroup{c.rule})
		have := fmt.Sprint(err)
		if err == nil {
			have = fmt.Sprint(rules[0])
		}
		if have != c.want {
			t.Errorf("%+v: %s, want %s", c.rule, have, c.want)
		}
	}
}
