package namespaces

import (
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"box/pkg/launch"
)

// mapped is a configuration with a user namespace and maps of the given lines.
func mapped(lines ...specs.LinuxIDMapping) *specs.Linux {
	l := linux("user", "mount", "pid", "network=/ns")
	l.UIDMappings, l.GIDMappings = lines, lines
	return l
}

func TestUnprivilegedWithOwnIDs(t *testing.T) {
	s, err := From(mapped(specs.LinuxIDMapping{ContainerID: 0, HostID: 1000, Size: 1}))
	if err != nil {
		t.Fatal(err)
	}
	s.Unprivileged(1000, 1000)
	var sys syscall.SysProcAttr
	s.Configure(&sys)
	if sys.Cloneflags&unix.CLONE_NEWUSER == 0 || sys.GidMappingsEnableSetgroups || !sys.Credential.NoSetGroups || len(s.Joins) != 0 {
		t.Errorf("%+v, joins %v", sys, s.Joins)
	}
}

func TestUnprivilegedWithOthersIDs(t *testing.T) {
	for name, lines := range map[string][]specs.LinuxIDMapping{
		"subordinate": {{ContainerID: 0, HostID: 1000, Size: 1}, {ContainerID: 1, HostID: 100000, Size: 65536}},
		"somebody":    {{ContainerID: 0, HostID: 1001, Size: 1}},
		"range":       {{ContainerID: 0, HostID: 1000, Size: 2}},
	} {
		s, err := From(mapped(lines...))
		if err != nil {
			t.Fatal(err)
		}
		s.Unprivileged(1000, 1000)
		var sys syscall.SysProcAttr
		s.Configure(&sys)
		if sys.Cloneflags != 0 || s.Creates(specs.UserNamespace) || s.Shares(specs.UserNamespace) || !s.Succeeds() {
			t.Errorf("%s: clone flags %#x, %+v", name, sys.Cloneflags, s)
		}
		if len(s.Joins) != 2 || s.Joins[0].Type != specs.UserNamespace || s.Joins[1].Path != "/ns" || len(s.ParentJoins) != 0 {
			t.Errorf("%s: joins %v and %v", name, s.Joins, s.ParentJoins)
		}
	}
}

func TestUnprivilegedChangesNothingElse(t *testing.T) {
	s, err := From(linux("mount", "user=/other"))
	if err != nil {
		t.Fatal(err)
	}
	s.Unprivileged(1000, 1000)
	if len(s.Joins) != 1 || s.Joins[0].Path != "/other" || s.mapper != byKernel {
		t.Errorf("%+v", s)
	}
}

// TestUnprivilegedJoinsPid: the rights over a pid namespace come with the user namespace.
func TestUnprivilegedJoinsPid(t *testing.T) {
	s, err := From(linux("mount", "cgroup=/c", "pid=/p", "user=/u", "network=/n"))
	if err != nil {
		t.Fatal(err)
	}
	if s.Succeeds() || len(s.ParentJoins) != 1 {
		t.Errorf("with privileges: %+v", s)
	}
	s.Unprivileged(1000, 1000)
	if got := types(s.Joins); got != "user network pid cgroup" || len(s.ParentJoins) != 0 || !s.Succeeds() {
		t.Errorf("joins %s and %v", got, s.ParentJoins)
	}
}

// TestVisible: who has privileges needs no help to find a process, and a program that
// somebody else could trace stays untraceable until it has nothing more to lose.
func TestVisible(t *testing.T) {
	sub := []specs.LinuxIDMapping{{ContainerID: 0, HostID: 1000, Size: 1}, {ContainerID: 1, HostID: 100000, Size: 65536}}
	for _, c := range []struct {
		name  string
		spec  *specs.Linux
		root  bool
		early int
		later bool
	}{
		{"root", linux("user=/u", "pid"), true, 0, false},
		{"own ids: executed inside", mapped(specs.LinuxIDMapping{ContainerID: 0, HostID: 1000, Size: 1}), false, 0, false},
		{"subordinate ids", mapped(sub...), false, 1, true},
		{"joined, alone in a new pid namespace", linux("user=/u", "pid"), false, 1, true},
		{"joined, among others", linux("user=/u", "pid=/p"), false, 0, true},
	} {
		s, err := From(c.spec)
		if err != nil {
			t.Fatal(err)
		}
		if !c.root {
			s.Unprivileged(1000, 1000)
		}
		var early launch.Plan
		s.AddJoins(&early, make([]int, len(s.Joins)))
		if n := prctls(&early); n != c.early || s.Hides() != c.later {
			t.Errorf("%s: %d steps, hides %t, want %d and %t", c.name, n, s.Hides(), c.early, c.later)
		}
	}
}

func prctls(p *launch.Plan) (n int) {
	for _, s := range p.Steps() {
		if s.Call == launch.Prctl {
			n++
		}
	}
	return n
}

func TestMapArgs(t *testing.T) {
	got := mapArgs(7, []syscall.SysProcIDMap{{ContainerID: 0, HostID: 1000, Size: 1}, {ContainerID: 1, HostID: 100000, Size: 65536}})
	if want := strings.Fields("7 0 1000 1 1 100000 65536"); !slices.Equal(got, want) {
		t.Errorf("%q", got)
	}
}
