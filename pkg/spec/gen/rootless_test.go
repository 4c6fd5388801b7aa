package gen

import (
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
)

func TestRootless(t *testing.T) {
	s := Runtime()
	Rootless(s, 1000, 100)
	var kinds []string
	for _, n := range s.Linux.Namespaces {
		kinds = append(kinds, string(n.Type))
	}
	slices.Sort(kinds)
	if got := strings.Join(kinds, " "); got != "cgroup ipc mount pid user uts" {
		t.Errorf("namespaces: %s", got)
	}
	if u, g := s.Linux.UIDMappings, s.Linux.GIDMappings; len(u) != 1 || len(g) != 1 ||
		u[0] != (specs.LinuxIDMapping{HostID: 1000, Size: 1}) || g[0] != (specs.LinuxIDMapping{HostID: 100, Size: 1}) {
		t.Errorf("maps: %v %v", u, g)
	}
	if s.Linux.Resources != nil {
		t.Errorf("resources: %+v", s.Linux.Resources)
	}
	for _, m := range s.Mounts {
		if m.Destination == "/sys" && (m.Source != "/sys" || !slices.Contains(m.Options, "rbind")) {
			t.Errorf("/sys: %+v", m)
		}
		for _, o := range m.Options {
			if strings.HasPrefix(o, "gid=") || strings.HasPrefix(o, "uid=") {
				t.Errorf("%s has %s", m.Destination, o)
			}
		}
	}
}

func TestWithoutNamespace(t *testing.T) {
	s := Runtime()
	before := len(s.Linux.Namespaces)
	WithoutNamespace(s, specs.CgroupNamespace)
	if len(s.Linux.Namespaces) != before-1 {
		t.Errorf("%v", s.Linux.Namespaces)
	}
}
