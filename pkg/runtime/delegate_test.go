package runtime

import (
	"os"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

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
