package runtime

import (
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"box/pkg/namespaces"
	"box/pkg/rootfs"
	"box/pkg/spec/gen"
)

func TestMountOptionsOfFeaturesAreUnderstood(t *testing.T) {
	for _, option := range mountOptions {
		s := gen.Runtime()
		m := specs.Mount{Type: "bind", Source: "/src", Destination: "/dst", Options: []string{"bind", option}}
		switch option {
		case "tmpcopyup":
			m = specs.Mount{Type: "tmpfs", Source: "tmpfs", Destination: "/dst", Options: []string{option}}
		case "idmap", "ridmap":
			m.UIDMappings = []specs.LinuxIDMapping{{HostID: 1000, Size: 1}}
			m.GIDMappings = m.UIDMappings
		}
		s.Mounts = []specs.Mount{m}
		set, err := namespaces.From(s.Linux)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := rootfs.New(s, set, rootfs.Facts{Root: "/bundle/rootfs", Mounts: make([]rootfs.MountFacts, 1)}); err != nil {
			t.Errorf("%s: %v", option, err)
		}
	}
}
