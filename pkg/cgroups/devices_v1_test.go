package cgroups

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"

	"box/pkg/cgroups/legacy"
)

// Rules of which those of the tests are made.
var (
	null       = deviceRule{true, charType, 1, 3, accessAll}
	everything = deviceRule{true, anyType, anyNumber, anyNumber, accessAll}
	nothing    = deviceRule{false, anyType, anyNumber, anyNumber, accessAll}
)

func TestLegacyLines(t *testing.T) {
	for name, c := range map[string]struct {
		rules []deviceRule
		want  string
	}{
		"none":                {nil, "deny a"},
		"one":                 {[]deviceRule{nothing, null}, "deny a, allow c 1:3 rwm"},
		"everything":          {[]deviceRule{nothing, null, everything}, "allow a"},
		"what is the default": {[]deviceRule{everything, null}, "allow a"},
		"all but one":         {[]deviceRule{everything, {false, blockType, 8, anyNumber, accessWrite}}, "allow a, deny b 8:* w"},
		"taken back":          {[]deviceRule{null, {false, charType, 1, 3, accessRead}}, "deny a, allow c 1:3 rwm, deny c 1:3 r"},
		"both types":          {[]deviceRule{{true, anyType, anyNumber, anyNumber, accessMknod}}, "deny a, allow b *:* m, allow c *:* m"},
	} {
		var have []string
		for _, l := range legacyLines(c.rules) {
			have = append(have, strings.TrimPrefix(l.file, "devices.")+" "+l.rule)
		}
		if have := strings.Join(have, ", "); have != c.want {
			t.Errorf("%s: %s; want %s", name, have, c.want)
		}
	}
}

// TestDevicesOfV1 takes the unified hierarchy away from a group, as on a host that
// has none.
func TestDevicesOfV1(t *testing.T) {
	c := newGroup(t)
	if !c.legacy.Has("devices") {
		t.Skip("needs the devices controller of cgroup v1")
	}
	v1 := &Cgroup{path: c.path, legacy: c.legacy}
	if err := v1.SetDevices(nil); err != nil {
		t.Fatal(err)
	}
	list := trimmed(c.file("devices", "devices.list"))
	for _, want := range []string{"c 1:3 rwm", "c *:* m", "b *:* m", "c 136:* rwm"} {
		if !slices.Contains(strings.Split(list, "\n"), want) {
			t.Errorf("%s is not in\n%s", want, list)
		}
	}
	if strings.Contains(list, "a *:*") {
		t.Errorf("everything is allowed:\n%s", list)
	}
}

// TestV1Alone walks through the life of a group on a host without the unified
// hierarchy.
func TestV1Alone(t *testing.T) {
	c := newGroup(t)
	if c.legacy == nil {
		t.Skip("needs v1 hierarchies")
	}
	g, err := legacy.Find(c.path + "-v1")
	if err != nil {
		t.Fatal(err)
	}
	v1 := &Cgroup{path: c.path + "-v1", legacy: g}
	t.Cleanup(func() { _ = errors.Join(v1.Kill(), v1.Remove(context.Background())) })
	if err := v1.Create(); err != nil {
		t.Fatal(err)
	}
	launched(t, v1, "wait")
	if pids, err := v1.Procs(); err != nil || len(pids) != 1 {
		t.Errorf("processes %v, %v", pids, err)
	}
	if err := v1.Freeze(t.Context()); err != nil {
		t.Error(err)
	}
	if frozen, err := v1.Frozen(); err != nil || !frozen {
		t.Errorf("frozen %v, %v", frozen, err)
	}
	if err := v1.Thaw(t.Context()); err != nil {
		t.Error(err)
	}
	kills, err := v1.WatchOOM(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := v1.Kill(); err != nil {
		t.Error(err)
	}
	if err := v1.Remove(t.Context()); err != nil {
		t.Error(err)
	}
	for range kills {
		t.Error("a kill by us was taken for one for want of memory")
	}
	if v1.Exists() {
		t.Error("the group is left")
	}
}
