package runtime

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"box/internal/errdefs"
	"box/pkg/resctrl"
)

// claimant is a creation that has done nothing yet.
func claimant(t *testing.T) *creation {
	t.Helper()
	rt := &Runtime{Root: filepath.Join(t.TempDir(), "state")}
	c := &creation{rt: rt, container: &container{dir: rt.dir("c1")}, text: []byte("{}")}
	c.ID = "c1"
	t.Cleanup(c.unlock)
	return c
}

func TestClaim(t *testing.T) {
	c := claimant(t)
	if err := c.claim(); err != nil {
		t.Fatal(err)
	}
	if !c.rt.locked(c.ID) {
		t.Error("nobody holds the lock")
	}
	if err := c.claim(); !errors.Is(err, errdefs.ErrExists) {
		t.Errorf("claimed again: %v", err)
	}
}

// What a claim has begun it takes away again, or engines would meet a container that
// nobody knows of.
func TestClaimLeavesNothing(t *testing.T) {
	free, err := unix.Open("/dev/null", unix.O_RDONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	unix.Close(free)
	for what, files := range map[string]int{"lock": free, "config": free + 1} { // the first that there is none for
		t.Run(what, func(t *testing.T) {
			c := claimant(t)
			var limit unix.Rlimit
			if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
				t.Fatal(err)
			}
			few := unix.Rlimit{Cur: uint64(files), Max: limit.Max}
			if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &few); err != nil {
				t.Fatal(err)
			}
			err := c.claim()
			if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
				t.Fatal(err)
			}
			c.expectUnclaimed(t, err, unix.EMFILE)
		})
	}
}

func (c *creation) expectUnclaimed(t *testing.T, err error, want unix.Errno) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Errorf("claim: %v, want %v", err, want)
	}
	if c.lock != nil {
		t.Error("the lock is held")
	}
	if list, _ := os.ReadDir(c.rt.Root); len(list) > 0 {
		t.Errorf("%s is left", list[0].Name())
	}
}

// Between the making of the directory and its lock, another process may have deleted it,
// and a third one made it anew for a container that runs by now.
func TestClaimLeavesOthersAlone(t *testing.T) {
	theirs := claimant(t)
	if err := theirs.claim(); err != nil {
		t.Fatal(err)
	}
	theirs.unlock()
	ours := &creation{rt: theirs.rt, container: theirs.container}
	if err := ours.occupy(); !errors.Is(err, errdefs.ErrExists) || ours.lock != nil {
		t.Errorf("occupied: %v", err)
	}
	if _, err := os.Stat(theirs.path(configFile)); err != nil {
		t.Error(err)
	}
	if err := removeState(theirs.dir); err != nil {
		t.Fatal(err)
	}
	if err := ours.occupy(); !errors.Is(err, errdefs.ErrNotFound) {
		t.Errorf("deleted: %v", err)
	}
}

// Scenario: box-runtime is killed as soon as it has made a group of caches; delete finds
// it. (Here the kernel makes no files in it, so that nothing else happens to it.)
func TestGroupOfKilledCreate(t *testing.T) {
	c := claimant(t)
	if err := c.claim(); err != nil {
		t.Fatal(err)
	}
	root := t.TempDir()
	err := c.joinResctrl(root, &specs.LinuxIntelRdt{L3CacheSchema: "L3:0=f"}, os.Getpid())
	if !errors.Is(err, os.ErrNotExist) {
		t.Errorf("join: %v", err)
	}
	if _, err := os.Stat(root + "/c1"); err != nil {
		t.Fatal(err)
	}
	c.unlock()
	if err := c.rt.Delete(t.Context(), "c1", true); err != nil {
		t.Error(err)
	}
	if left, err := os.ReadDir(root); err != nil || len(left) > 0 {
		t.Errorf("left are %v, %v", left, err)
	}
}

// Who is in no group of caches has no figures of one, and no error.
func TestStatsWithoutGroupOfCaches(t *testing.T) {
	c := &container{}
	if s, err := c.resctrlStats(); err != nil || s.Schemata != nil {
		t.Errorf("have %+v, %v", s, err)
	}
	c.Resctrl.Path = "/sys/fs/resctrl/box-none"
	if _, err := c.resctrlStats(); err == nil {
		t.Error("a group that is gone has figures")
	}
}

// A container need not have a cgroup to have others of the kernel's groups.
func TestEndWithoutCgroup(t *testing.T) {
	made := filepath.Join(t.TempDir(), "c1")
	if err := os.Mkdir(made, 0o700); err != nil {
		t.Fatal(err)
	}
	c := &container{}
	c.Resctrl = resctrl.Group{Path: made, Made: made}
	if err := c.end(t.Context()); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(made); err == nil {
		t.Error("the group of caches is left")
	}
}
