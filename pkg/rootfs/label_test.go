package rootfs

import (
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"

	"box/pkg/launch"
	"box/pkg/namespaces"
)

// The label goes to each new file system that takes one, and to nothing else.
func TestMountLabel(t *testing.T) {
	const label = "system_u:object_r:container_file_t:s0:c4,c5"
	s := &specs.Spec{
		Root: &specs.Root{Path: "rootfs"},
		Mounts: []specs.Mount{
			{Destination: "/proc", Type: "proc"},
			{Destination: "/sys", Type: "sysfs"},
			{Destination: "/dev", Type: "tmpfs"},
			{Destination: "/dev/pts", Type: "devpts", Options: []string{"newinstance"}},
			{Destination: "/dev/mqueue", Type: "mqueue"},
			{Destination: "/data", Type: "bind", Source: "/data"},
		},
		Linux: &specs.Linux{MountLabel: label, MaskedPaths: []string{"/proc/acpi"}, Namespaces: []specs.LinuxNamespace{{Type: specs.MountNamespace}}},
	}
	ns, err := namespaces.From(s.Linux)
	if err != nil {
		t.Fatal(err)
	}
	r, err := New(s, ns, Facts{Root: "/bundle/rootfs", Mounts: make([]MountFacts, len(s.Mounts))})
	if err != nil {
		t.Fatal(err)
	}
	p := &launch.Plan{ReportFD: 3}
	r.AddMounts(p)
	r.AddMasks(p)
	text := p.String()
	for _, kind := range []string{"tmpfs", "devpts"} {
		if !strings.Contains(text, "($"+kind+", FSCONFIG_SET_STRING, \"context\", \""+label+"\", 0)") {
			t.Errorf("%s has no label", kind)
		}
	}
	if n := strings.Count(text, "\"context\""); n != 3 { // and the empty directory of masks
		t.Errorf("%d mounts have a label, want 3:\n%s", n, text)
	}
	if want := "\"security.selinux\", " + label; strings.Count(text, want) != 1 {
		t.Errorf("the mqueue has no label:\n%s", text)
	}
}
