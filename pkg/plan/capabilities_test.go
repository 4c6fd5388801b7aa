package plan

import (
	"slices"
	"strings"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

func TestCapabilityNumbers(t *testing.T) {
	if got := len(capabilityNames) - 1; got != unix.CAP_LAST_CAP {
		t.Fatalf("table ends at %d, x/sys at %d", got, unix.CAP_LAST_CAP)
	}
	for name, want := range map[string]int{
		"CAP_CHOWN": unix.CAP_CHOWN, "cap_sys_admin": unix.CAP_SYS_ADMIN, "CAP_SETFCAP": unix.CAP_SETFCAP,
		"CAP_CHECKPOINT_RESTORE": unix.CAP_CHECKPOINT_RESTORE, "CAP_NONE": -1, "CHOWN": -1,
	} {
		if got := capabilityNumber(name); got != want {
			t.Errorf("capabilityNumber(%q) = %d, want %d", name, got, want)
		}
	}
}

func TestCapabilitySets(t *testing.T) {
	sets, unknown := capabilitySets(&specs.LinuxCapabilities{
		Bounding:  []string{"CAP_CHOWN", "CAP_BPF", "CAP_FUTURE"},
		Effective: []string{"CAP_CHOWN"},
		Permitted: []string{"CAP_CHOWN", "CAP_FUTURE"},
	}, unix.CAP_AUDIT_READ) // an old kernel, without CAP_BPF
	want := capabilities{effective: 1, permitted: 1, bounding: 1}
	if sets != want {
		t.Errorf("sets = %+v, want %+v", sets, want)
	}
	if !slices.Equal(unknown, []string{"CAP_FUTURE", "CAP_BPF"}) {
		t.Errorf("unknown = %v", unknown)
	}
	if sets, _ := capabilitySets(nil, 40); sets != (capabilities{}) {
		t.Errorf("no capabilities in the spec gave %+v", sets)
	}
}

func TestCapabilitiesThatCannotBeGiven(t *testing.T) {
	const held = 1<<unix.CAP_CHOWN | 1<<unix.CAP_KILL
	for _, c := range []struct {
		sets capabilities
		want string
	}{
		{capabilities{permitted: held, effective: held, inheritable: held, ambient: held}, ""},
		{capabilities{permitted: 1 << unix.CAP_SYS_RESOURCE}, "CAP_SYS_RESOURCE"},
		{capabilities{effective: 1 << unix.CAP_KILL}, "effective CAP_KILL is not permitted"},
	} {
		err := c.sets.check(held)
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("check(%+v) = %v, want %q", c.sets, err, c.want)
		}
	}
}

func TestAmbientWithoutInheritableIsLost(t *testing.T) {
	const both = 1<<unix.CAP_CHOWN | 1<<unix.CAP_KILL
	c := capabilities{permitted: both, inheritable: 1 << unix.CAP_CHOWN, ambient: both}
	if lost := c.fitAmbient(); !slices.Equal(lost, []string{"CAP_KILL"}) || c.ambient != 1<<unix.CAP_CHOWN {
		t.Errorf("lost %v, ambient %#x", lost, c.ambient)
	}
}

// Capabilities that we do not hold can be given in a user namespace, whose root has them
// all, and nowhere else.
func TestCapabilitiesOfUserNamespace(t *testing.T) {
	p := &specs.Process{Args: []string{"true"}, Capabilities: &specs.LinuxCapabilities{Permitted: []string{"CAP_SYS_ADMIN"}}}
	f := goldenFacts
	f.Held = 0
	if _, err := NewProcess("c1", p, &f, false); err == nil {
		t.Error("a capability that we do not hold was given")
	}
	if _, err := NewProcess("c1", p, &f, true); err != nil {
		t.Error(err)
	}
}
