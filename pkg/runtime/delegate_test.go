package runtime

import (
	"os"
	"slices"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"box/pkg/namespaces"
	"box/pkg/rootfs"
	"box/pkg/spec/gen"
)

// TestLateProgramWaitsForItsCgroup: the root of a cgroup namespace is the group of
// whoever makes it, so the wait comes first.
func TestLateProgramWaitsForItsCgroup(t *testing.T) {
	s := gen.Runtime()
	set, err := namespaces.From(s.Linux)
	if err != nil {
		t.Fatal(err)
	}
	look := rootfs.Facts{Root: "/bundle/rootfs", Cgroup2: "/sys/fs/cgroup", Kcore: true, Mounts: make([]rootfs.MountFacts, len(s.Mounts))}
	f := goldenFacts
	bp, err := design(&Runtime{}, "c1", s, set, look, &f, s.Process.Env)
	if err != nil {
		t.Fatal(err)
	}
	bp.lay()
	bp.late = true
	b, err := bp.plan()
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, step := range b.plan.Steps() {
		names = append(names, step.Name)
	}
	wait, unshare := slices.Index(names, "wait for the cgroup"), slices.Index(names, "create cgroup namespace")
	if wait < 0 || unshare < wait {
		t.Errorf("the wait is step %d, the namespace step %d", wait, unshare)
	}
}

func TestCgroupOwner(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can give a group away")
	}
	config := func() *specs.Spec {
		return &specs.Spec{
			Mounts: []specs.Mount{{Destination: "/sys/fs/cgroup/", Type: "cgroup", Options: []string{"nosuid"}}},
			Linux: &specs.Linux{
				Namespaces:  []specs.LinuxNamespace{{Type: specs.CgroupNamespace}, {Type: specs.UserNamespace}},
				UIDMappings: []specs.LinuxIDMapping{{ContainerID: 5, HostID: 1, Size: 1}, {ContainerID: 0, HostID: 100000, Size: 65536}},
			},
		}
	}
	if uid, ok := cgroupOwner(config()); !ok || uid != 100000 {
		t.Errorf("have %d, %v", uid, ok)
	}
	for name, change := range map[string]func(*specs.Spec){
		"host's cgroup namespace": func(s *specs.Spec) { s.Linux.Namespaces = s.Linux.Namespaces[1:] },
		"no user namespace":       func(s *specs.Spec) { s.Linux.Namespaces = s.Linux.Namespaces[:1] },
		"joined cgroup namespace": func(s *specs.Spec) { s.Linux.Namespaces[0].Path = "/proc/1/ns/cgroup" },
		"read-only":               func(s *specs.Spec) { s.Mounts[0].Options = []string{"ro"} },
		"not mounted":             func(s *specs.Spec) { s.Mounts = nil },
		"root is not mapped":      func(s *specs.Spec) { s.Linux.UIDMappings = s.Linux.UIDMappings[:1] },
	} {
		s := config()
		change(s)
		if uid, ok := cgroupOwner(s); ok {
			t.Errorf("%s: given to %d", name, uid)
		}
	}
}
