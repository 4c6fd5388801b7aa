package security

import (
	"path"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// TestNoWayOutByCgroups: CVE-2022-0492, CVE-2023-25809. Whatever hierarchies the host
// has and in whichever namespace: a container's root with nearly all rights finds no
// release_agent to write to, and nothing of the host's groups, mounted read-only or not.
func TestNoWayOutByCgroups(t *testing.T) {
	for name, prepare := range map[string]func(*box){
		"own cgroup namespace": func(*box) {},
		"the host's cgroup namespace": func(b *box) {
			b.dropNamespace(specs.CgroupNamespace)
		},
		"user namespace, the host's cgroup namespace": func(b *box) {
			b.dropNamespace(specs.CgroupNamespace)
			b.userNamespace()
		},
	} {
		for _, mode := range []string{"ro", "rw"} {
			t.Run(name+" "+mode, func(t *testing.T) {
				b := newBox(t, "tree", "/sys/fs/cgroup")
				b.allow("CAP_SYS_ADMIN", "CAP_DAC_OVERRIDE", "CAP_FOWNER", "CAP_CHOWN", "CAP_MKNOD")
				for i := range b.spec.Mounts {
					if m := &b.spec.Mounts[i]; m.Destination == "/sys/fs/cgroup" {
						m.Options = []string{"nosuid", "noexec", "nodev", mode}
					}
				}
				prepare(b)
				found := report[[]struct {
					Path  string
					Write bool
				}](b)
				writable := 0
				for _, f := range found {
					if f.Write {
						writable++
					}
					if f.Write && (path.Base(f.Path) == "release_agent" || mode == "ro") {
						t.Errorf("%s can be written", f.Path)
					}
				}
				t.Logf("%d files, %d can be written", len(found), writable)
				if name == "own cgroup namespace" && mode == "rw" && writable == 0 {
					t.Error("not even its own group's: the test shows nothing")
				}
			})
		}
	}
}

// dropNamespace lets the container stay in the host's namespace of that type.
func (b *box) dropNamespace(kind specs.LinuxNamespaceType) {
	list := b.spec.Linux.Namespaces
	b.spec.Linux.Namespaces = nil
	for _, ns := range list {
		if ns.Type != kind {
			b.spec.Linux.Namespaces = append(b.spec.Linux.Namespaces, ns)
		}
	}
}
