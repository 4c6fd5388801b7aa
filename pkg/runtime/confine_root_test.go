package runtime

import (
	"strings"
	"testing"

	"box/pkg/label"
)

// A container has one session keyring, which processes that join it find; without a new
// one, they all keep the caller's.
func TestSessionKeyring(t *testing.T) {
	b := newBench(t, "sleep", "1000")
	b.spec.Linux.MaskedPaths = nil // it masks /proc/keys
	b.save()
	t.Cleanup(func() { b.try("delete", "--force", b.id) })
	for _, c := range []struct {
		flags []string
		want  int
	}{{[]string{"--no-new-keyring"}, 0}, {nil, 1}} { // in this order: a dead keyring is in the list for a while
		b.do(append(append([]string{"run", "-d"}, c.flags...), b.id)...)
		if keys := b.do("exec", b.id, "cat", "/proc/keys"); strings.Count(keys, "_ses."+b.id+":") != c.want {
			t.Errorf("run %v: want %d keyrings of the container:\n%s", c.flags, c.want, keys)
		}
		b.do("delete", "--force", b.id)
	}
}

// Confinement by a module that the kernel does not have is refused, not skipped; and
// "unconfined" asks for nothing.
func TestModulesThatAreNotThere(t *testing.T) {
	if label.Look() != (label.Host{}) {
		t.Skip("this kernel has security modules")
	}
	b := newBench(t, "sleep", "1000")
	b.spec.Process.ApparmorProfile = "docker-default"
	if r := b.run(); r.code != 1 || !strings.Contains(r.err, "apparmor: config provided but apparmor not supported") {
		t.Errorf("%+v", r)
	}
	b.spec.Process.ApparmorProfile, b.spec.Process.SelinuxLabel = "", "u:r:t:s0"
	if r := b.run(); r.code != 1 || !strings.Contains(r.err, "selinux label is specified in config, but selinux is disabled or not supported") {
		t.Errorf("%+v", r)
	}
	b.spec.Process.ApparmorProfile, b.spec.Process.SelinuxLabel = label.Unconfined, ""
	b.background()
	for _, flag := range []string{"--apparmor=docker-default", "--process-label=u:r:t:s0"} {
		if r := b.try("exec", flag, b.id, "true"); r.code != 255 || !strings.Contains(r.err, "not supported") {
			t.Errorf("exec %s: %+v", flag, r)
		}
	}
}
