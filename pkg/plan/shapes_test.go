package plan

import (
	"slices"
	"strings"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"box/pkg/rootfs"
	"box/pkg/spec/gen"
)

// shape is a configuration as somebody sends it, and the host that it meets.
type shape struct {
	edit func(*specs.Spec)
	look func(*rootfs.Facts)
}

// shapes are the corners of namespaces and mounts. What engines send is in engines_test.go.
var shapes = map[string]shape{
	"privileged": {edit: privilegedShape},
	"readonly": {edit: func(s *specs.Spec) {
		s.Root.Readonly = true
		mounts(s, tmpfs("/tmp", "rw", "tmpcopyup"), tmpfs("/run", "rw", "nosuid", "size=64m"), tmpfs("/sealed", "ro"))
	}},
	"userns": {edit: func(s *specs.Spec) {
		ownIDs(s)
		mounts(s, bind("/srv/data", "/data", "rbind", "ro"))
	}},
	"userns-joined": {edit: func(s *specs.Spec) {
		s.Linux.Namespaces = append(s.Linux.Namespaces, specs.LinuxNamespace{Type: specs.UserNamespace})
		joined(s, specs.UserNamespace, specs.NetworkNamespace)
	}},
	"idmap": {edit: func(s *specs.Spec) {
		own := bind("/srv/data", "/data", "rbind", "ridmap")
		own.UIDMappings, own.GIDMappings = shifted, shifted
		mounts(s, own)
	}},
	"rootless": {edit: func(s *specs.Spec) { gen.Rootless(s, 1000, 1000) }},
	"host-mounts": {edit: func(s *specs.Spec) {
		s.Linux.Namespaces = slices.DeleteFunc(s.Linux.Namespaces, func(n specs.LinuxNamespace) bool { return n.Type == specs.MountNamespace })
		s.Linux.MaskedPaths, s.Linux.ReadonlyPaths = nil, nil
	}},
	"no-pivot": {look: func(f *rootfs.Facts) { f.NoPivot, f.Full = true, []string{"/sys", "/proc"} }},
	"hierarchies": {look: func(f *rootfs.Facts) {
		f.Hierarchies = []rootfs.Hierarchy{{Name: "cpu,cpuacct", Dir: "/sys/fs/cgroup/cpu,cpuacct/c1"}, {Name: "name=systemd", Dir: "/sys/fs/cgroup/systemd/c1"}}
	}},
}

func mounts(s *specs.Spec, list ...specs.Mount) { s.Mounts = append(s.Mounts, list...) }

func bind(source, dest string, options ...string) specs.Mount {
	return specs.Mount{Type: "bind", Source: source, Destination: dest, Options: options}
}

func tmpfs(dest string, options ...string) specs.Mount {
	return specs.Mount{Type: "tmpfs", Source: "tmpfs", Destination: dest, Options: options}
}

// joined makes the container live in existing namespaces of these types.
func joined(s *specs.Spec, types ...specs.LinuxNamespaceType) {
	for i, ns := range s.Linux.Namespaces {
		if slices.Contains(types, ns.Type) {
			s.Linux.Namespaces[i].Path = "/run/ns/" + string(ns.Type)
		}
	}
}

// shifted is a map of ids that the host does not use.
var shifted = []specs.LinuxIDMapping{{ContainerID: 0, HostID: 100000, Size: 65536}}

func ownIDs(s *specs.Spec) {
	s.Linux.Namespaces = append(s.Linux.Namespaces, specs.LinuxNamespace{Type: specs.UserNamespace})
	s.Linux.UIDMappings, s.Linux.GIDMappings = shifted, shifted
}

// privilegedShape: podman --privileged lists the host's devices, ptmx among them.
func privilegedShape(s *specs.Spec) {
	s.Linux.MaskedPaths, s.Linux.ReadonlyPaths = nil, nil
	s.Linux.Devices = []specs.LinuxDevice{
		{Path: "/dev/ptmx", Type: "c", Major: 5, Minor: 2},
		{Path: "/dev/fuse", Type: "c", Major: 10, Minor: 229},
		{Path: "/dev/vda", Type: "b", Major: 254},
		{Path: "/dev/net/tun", Type: "c", Major: 10, Minor: 200},
	}
	for i, m := range s.Mounts {
		s.Mounts[i].Options = slices.DeleteFunc(slices.Clone(m.Options), func(o string) bool { return o == "ro" })
	}
}

// TestGoldenShapes pins how the plan of each shape differs from the default one, and
// that each step says why it is there.
func TestGoldenShapes(t *testing.T) {
	usual := strings.Split(outline(planOf(t, gen.Runtime()).Plan), "\n")
	for name, sh := range shapes {
		t.Run(name, func(t *testing.T) {
			s := gen.Runtime()
			if sh.edit != nil {
				sh.edit(s)
			}
			p := planAt(t, s, sh.look).Plan
			compareGolden(t, "testdata/shape-"+name+".golden", difference(usual, strings.Split(outline(p), "\n")))
			checkWhole(t, p)
		})
	}
}

// difference shows what must be taken from a (-) and added (+) to make b of it, each
// change below the line (@) that it follows.
func difference(a, b []string) string {
	// common[i][j] is the length of the longest common subsequence of a[i:] and b[j:].
	common := make([][]int, len(a)+1)
	for i := range common {
		common[i] = make([]int, len(b)+1)
	}
	for i := len(a) - 1; i >= 0; i-- {
		for j := len(b) - 1; j >= 0; j-- {
			common[i][j] = max(common[i+1][j], common[i][j+1])
			if a[i] == b[j] {
				common[i][j] = 1 + common[i+1][j+1]
			}
		}
	}
	var out strings.Builder
	last := "the beginning"
	change := func(sign, line string) {
		if last != "" {
			out.WriteString("@ " + last + "\n")
		}
		last = ""
		out.WriteString(sign + " " + line + "\n")
	}
	for i, j := 0, 0; i < len(a) || j < len(b); {
		switch {
		case i < len(a) && j < len(b) && a[i] == b[j]:
			last = a[i]
			i, j = i+1, j+1
		case j == len(b) || i < len(a) && common[i+1][j] >= common[i][j+1]:
			change("-", a[i])
			i++
		default:
			change("+", b[j])
			j++
		}
	}
	return out.String()
}

func TestDifference(t *testing.T) {
	got := difference([]string{"a", "b", "c", "d"}, []string{"a", "x", "c", "d", "e"})
	if want := "@ a\n- b\n+ x\n@ d\n+ e\n"; got != want {
		t.Errorf("difference = %q, want %q", got, want)
	}
}
