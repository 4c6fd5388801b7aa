package cgroups

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

func owner(t *testing.T, path string) uint32 {
	t.Helper()
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	return info.Sys().(*syscall.Stat_t).Uid
}

// TestDelegate: the new owner can make groups and move processes, and cannot lift
// the limits.
func TestDelegate(t *testing.T) {
	c := newGroup(t)
	if c.root == "" {
		t.Skip("needs the unified hierarchy")
	}
	const uid = 12345
	if err := c.Delegate(uid); err != nil {
		t.Fatal(err)
	}
	for file, want := range map[string]uint32{
		"": uid, "cgroup.procs": uid, "cgroup.subtree_control": uid, "cgroup.threads": uid,
		"cgroup.max.descendants": 0, "cgroup.freeze": 0,
	} {
		if have := owner(t, filepath.Join(c.Dir(), file)); have != want {
			t.Errorf("%q belongs to %d, want %d", file, have, want)
		}
	}
	if err := (&Cgroup{none: true}).Delegate(uid); err != nil {
		t.Error(err)
	}
}
