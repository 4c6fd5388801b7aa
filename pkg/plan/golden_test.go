package plan

import (
	"flag"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"box/pkg/launch"
	"box/pkg/namespaces"
	"box/pkg/rootfs"
	"box/pkg/spec/gen"
)

var update = flag.Bool("update", false, "write the golden files instead of comparing")

// goldenFacts are a host: one that holds every capability there is.
var goldenFacts = Facts{Held: 1<<(unix.CAP_LAST_CAP+1) - 1, LastCap: unix.CAP_LAST_CAP}

// planOf assembles the plan of a spec on an imagined host where no mount point is
// missing. Nothing of the real one is looked at.
func planOf(t *testing.T, s *specs.Spec) *Assembly {
	t.Helper()
	return planAt(t, s, nil)
}

// planAt is planOf on a host that edit makes different.
func planAt(t *testing.T, s *specs.Spec, edit func(*rootfs.Facts)) *Assembly {
	t.Helper()
	f := factsOf(s)
	if edit != nil {
		edit(&f.Root)
	}
	c := draftOf(t, s, f)
	b, err := c.Assemble()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// factsOf is the imagined host, with sources for the mounts of s.
func factsOf(s *specs.Spec) *Facts {
	f := goldenFacts
	f.Root = rootfs.Facts{Root: "/bundle/rootfs", Cgroup2: "/sys/fs/cgroup", Kcore: true}
	for _, m := range s.Mounts {
		facts := rootfs.MountFacts{}
		if m.Type == "bind" {
			facts.Source, facts.File = m.Source, strings.HasPrefix(m.Destination, "/etc/")
		}
		f.Root.Mounts = append(f.Root.Mounts, facts)
	}
	return &f
}

// draftOf is what the plan of s is made from, with descriptors and a terminal if s has
// one.
func draftOf(t *testing.T, s *specs.Spec, f *Facts) *Container {
	t.Helper()
	set, err := namespaces.From(s.Linux)
	if err != nil {
		t.Fatal(err)
	}
	c, err := NewContainer("c1", s, set, f, append(s.Process.Env, "HOME=/root"))
	if err != nil {
		t.Fatal(err)
	}
	c.LayOut()
	if c.Terminal != nil {
		c.Terminal.Rows, c.Terminal.Cols = 24, 80
	}
	return c
}

// outline is a plan with one line for each step: its call and its name. Arguments and
// jumps are pinned where they are made, in the golden files of pkg/rootfs and others.
func outline(p *launch.Plan) string {
	var b strings.Builder
	for _, s := range p.Steps() {
		fmt.Fprintf(&b, "%-14s %s\n", s.Call, s.Name)
	}
	return b.String()
}

// The golden files are the outlines of whole plans. A change in them is a change in
// what a container is made by: read it as you would read code.
func TestGoldenPlans(t *testing.T) {
	for name, change := range map[string]func(*specs.Spec){
		"default": func(*specs.Spec) {},
		"full": func(s *specs.Spec) {
			mask := uint32(0o77)
			s.Process.User = specs.User{UID: 1000, GID: 100, AdditionalGids: []uint32{100, 7}, Umask: &mask}
			s.Process.Cwd, s.Process.NoNewPrivileges = "/srv/app", false
			s.Process.Rlimits = []specs.POSIXRlimit{{Type: "RLIMIT_NOFILE", Soft: 64, Hard: 128}}
			s.Process.Capabilities.Ambient = []string{"CAP_KILL"}
			s.Process.Capabilities.Inheritable = []string{"CAP_KILL"}
			s.Process.Args = []string{"/srv/app/serve", "--port", "80"}
			s.Hooks = &specs.Hooks{CreateRuntime: []specs.Hook{{Path: "/bin/true"}}}
			s.Linux.Sysctl = map[string]string{"net.ipv4.ip_forward": "0"}
			s.Linux.Namespaces = append(s.Linux.Namespaces, specs.LinuxNamespace{Type: specs.TimeNamespace})
			s.Linux.Seccomp = &specs.LinuxSeccomp{DefaultAction: specs.ActAllow, Syscalls: []specs.LinuxSyscall{
				{Names: []string{"swapon"}, Action: specs.ActErrno},
			}}
			for i, ns := range s.Linux.Namespaces {
				if ns.Type == specs.NetworkNamespace {
					s.Linux.Namespaces[i].Path = "/run/netns/n1"
				}
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := gen.Runtime()
			change(s)
			compareGolden(t, "testdata/plan-"+name+".golden", outline(planOf(t, s).Plan))
		})
	}
}

func compareGolden(t *testing.T, path, got string) {
	t.Helper()
	if *update {
		if err := os.MkdirAll(filepath.Dir(path), fs.ModePerm); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got == string(want) {
		return
	}
	g, w := strings.Split(got, "\n"), strings.Split(string(want), "\n")
	for i := range min(len(g), len(w)) {
		if g[i] != w[i] {
			t.Fatalf("%s differs in line %d:\n got %s\nwant %s\n(run with -update if that is meant)", path, i+1, g[i], w[i])
		}
	}
	t.Fatalf("%s has %d lines, the plan %d", path, len(w), len(g))
}

// positions returns where each name first stands in the plan.
func positions(t *testing.T, p *launch.Plan, names ...string) []int {
	t.Helper()
	var at []int
	for _, name := range names {
		found := -1
		for i, s := range p.Steps() {
			if strings.HasPrefix(s.Name, name) {
				found = i
				break
			}
		}
		if found < 0 {
			t.Fatalf("no step %q", name)
		}
		at = append(at, found)
	}
	return at
}

// The order is what makes a container safe; this says so in words, where the golden
// files only say that it has not changed.
func TestOrderOfSteps(t *testing.T) {
	s := gen.Runtime()
	s.Process.NoNewPrivileges = false
	s.Linux.Seccomp = &specs.LinuxSeccomp{DefaultAction: specs.ActAllow}
	s.Hooks = &specs.Hooks{Prestart: []specs.Hook{{Path: "/bin/true"}}} //nolint:staticcheck // SA1019: still called by dockerd
	inOrder := func(names ...string) {
		t.Helper()
		at := positions(t, planOf(t, s).Plan, names...)
		for i := 1; i < len(at); i++ {
			if at[i] <= at[i-1] {
				t.Errorf("%q (step %d) comes before %q (step %d)", names[i], at[i], names[i-1], at[i-1])
			}
		}
	}
	inOrder("become untraceable", "mount proc", MarkHooks, "wait for the parent", "pivot root",
		"enter working directory", "close descriptors", "drop CAP_CHOWN", "become group", "become user",
		"set capabilities", "look for", "set the umask", "load the seccomp filter", MarkReady, "wait for start", "execute")
	if n := strings.Count(outline(planOf(t, s).Plan), " set capabilities"); n != 2 {
		t.Errorf("capabilities are set %d times: CAP_SYS_ADMIN is given up after the filter was loaded", n)
	}
	s.Process.NoNewPrivileges = true
	inOrder("set capabilities", "set no_new_privs", "load the seccomp filter", MarkReady)
	if n := strings.Count(outline(planOf(t, s).Plan), " set capabilities"); n != 1 {
		t.Errorf("with no_new_privs, capabilities are set %d times", n)
	}
}

// Every step explains itself, and every plan compiles for both machines.
func TestPlansAreWhole(t *testing.T) {
	s := gen.Runtime()
	s.Process.Terminal = true
	p := planOf(t, s).Plan
	for i, step := range p.Steps() {
		if step.Name == "" {
			t.Errorf("step %d has no name", i)
		}
	}
	for _, arch := range []launch.Arch{"amd64", "arm64"} {
		if _, err := launch.Compile(p, arch); err != nil {
			t.Errorf("%s: %v", arch, err)
		}
	}
}

// TestLateProgramWaitsForItsCgroup: the root of a cgroup namespace is the group of
// whoever makes it, and a successor is born where the process before it is, so the wait
// comes first.
func TestLateProgramWaitsForItsCgroup(t *testing.T) {
	cases := map[string]struct {
		change func(*specs.Spec)
		later  []string
	}{
		"simple": {func(*specs.Spec) {}, []string{"create cgroup namespace"}},
		"mapped by newuidmap": {
			func(s *specs.Spec) {
				s.Linux.Namespaces = append(s.Linux.Namespaces, specs.LinuxNamespace{Type: specs.UserNamespace})
				s.Linux.UIDMappings, s.Linux.GIDMappings = shifted, shifted
			},
			[]string{"join user namespace", "enter the pid namespace", "create cgroup namespace"},
		},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			s := gen.Runtime()
			tc.change(s)
			c := draftOf(t, s, factsOf(s))
			c.Set.Unprivileged(1000, 1000)
			c.LayOut()
			c.Late = true
			b, err := c.Assemble()
			if err != nil {
				t.Fatal(err)
			}
			at := positions(t, b.Plan, append([]string{"wait for the cgroup"}, tc.later...)...)
			for i, name := range tc.later {
				if at[i+1] < at[0] {
					t.Errorf("the wait is step %d, %q step %d", at[0], name, at[i+1])
				}
			}
		})
	}
}
