package legacy

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"box/internal/errdefs"
)

const procCgroup = `9:name=systemd:/init.scope
4:memory:/user/7
2:cpu,cpuacct:/
1:net_cls:/x
0::/unified
`

// mounted is a host where net_cls is mounted nowhere.
func mounted(name string) string {
	if name == "net_cls" {
		return ""
	}
	return "/sys/fs/cgroup/" + strings.TrimPrefix(name, "name=")
}

func TestFind(t *testing.T) {
	have := find(procCgroup, mounted)
	want := []hierarchy{
		{"name=systemd", nil, "/sys/fs/cgroup/systemd", "/init.scope"},
		{"memory", []string{"memory"}, "/sys/fs/cgroup/memory", "/user/7"},
		{"cpu,cpuacct", []string{"cpu", "cpuacct"}, "/sys/fs/cgroup/cpu,cpuacct", "/"},
	}
	if diff := cmp.Diff(want, have, cmp.AllowUnexported(hierarchy{})); diff != "" {
		t.Error(diff)
	}
	if all := find("0::/\n", mounted); len(all) != 0 {
		t.Errorf("a pure v2 host has %v", all)
	}
}

func TestFindMount(t *testing.T) {
	const info = `32 31 0:29 / /cg/cpu rw,relatime shared:1 - cgroup cgroup rw,cpu,cpuacct
33 31 0:30 /part /cg/part rw - cgroup cgroup rw,memory
34 31 0:31 / /cg/memory rw master:2 - cgroup none rw,memory
35 31 0:32 / /cg/systemd rw - cgroup cgroup rw,xattr,name=systemd
36 31 0:33 / /cg/v2 rw - cgroup2 cgroup2 rw,pids
37 31 0:33 / /short - cgroup
`
	for name, want := range map[string]string{
		"cpu,cpuacct": "/cg/cpu", "memory": "/cg/memory", "name=systemd": "/cg/systemd", "pids": "", "cpu": "/cg/cpu",
	} {
		if have := findMount(info, name); have != want {
			t.Errorf("%s: %q, want %q", name, have, want)
		}
	}
}

func FuzzFind(f *testing.F) {
	f.Add(procCgroup, "32 31 0:29 / /cg/cpu rw shared:1 - cgroup cgroup rw,cpu\n")
	f.Fuzz(func(t *testing.T, data, info string) {
		for _, h := range find(data, func(name string) string { return findMount(info, name) }) {
			if h.mount == "" || h.name == "" || !strings.HasPrefix(h.own, "/") || strings.Contains(h.own, "/../") {
				t.Errorf("%+v", h)
			}
		}
	})
}

// group is one at the given path in the hierarchies of procCgroup.
func group(p string) *Group {
	g := &Group{}
	for _, h := range find(procCgroup, mounted) {
		g.members = append(g.members, member{h, p})
	}
	return g
}

func TestPathsTravel(t *testing.T) {
	g := group("/box/a")
	if g.Differing("/box/a") != nil {
		t.Error("nothing differs")
	}
	paths := map[string]string{"memory": "/user/7/a", "gone": "/x"}
	if err := g.Move(paths); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(map[string]string{"memory": "/user/7/a"}, g.Differing("/box/a")); diff != "" {
		t.Error(diff)
	}
	var none *Group
	if none.Differing("/") != nil || none.Move(paths) != nil || none.Has("memory") || none.Dir("memory") != "" || none.Exists() {
		t.Error("a host without v1 has hierarchies")
	}
	if err := g.Move(map[string]string{"memory": "/.."}); !errors.Is(err, errdefs.ErrInvalid) {
		t.Errorf("moved to the root group: %v", err)
	}
}

func TestDescend(t *testing.T) {
	for _, c := range []struct{ controllers, below, want string }{
		{"", "sub", "/box/a/sub /box/a/sub /box/a/sub"},
		{"", "/", "/box/a /box/a /box/a"},
		{"memory", "sub", "/box/a /box/a/sub /box/a"},
		{"cpu,cpuacct", "sub", "/box/a /box/a /box/a/sub"},
	} {
		g := group("/box/a")
		err := g.Clone().Descend(c.controllers, "no")
		if err != nil {
			t.Fatal(err)
		}
		err = g.Descend(c.controllers, c.below)
		var have []string
		for _, m := range g.members {
			have = append(have, m.path)
		}
		if err != nil || !slices.Equal(have, strings.Fields(c.want)) {
			t.Errorf("%+v: %v, %v", c, have, err)
		}
	}
	if err := group("/box/a").Descend("whaaat", "/"); err == nil || !strings.HasPrefix(err.Error(), "unknown controller ") {
		t.Errorf("have %v", err)
	}
}
