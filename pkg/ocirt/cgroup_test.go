package ocirt

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"box/internal/errdefs"
	"box/pkg/cgroups"
	"box/pkg/record"
)

// legacyRoot is where the hierarchies of cgroup v1 are by convention.
const legacyRoot = "/sys/fs/cgroup"

func requireGroups(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: makes control groups")
	}
	if _, err := cgroups.Root(); err != nil {
		t.Skip(err)
	}
}

// sleeper starts a process that would run for ever.
func sleeper(t *testing.T) *exec.Cmd {
	t.Helper()
	cmd := exec.Command("sleep", "infinity")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill() })
	return cmd
}

// occupy makes a group with one below it and puts the process into the latter.
func occupy(t *testing.T, group string, cmd *exec.Cmd) {
	t.Helper()
	below := filepath.Join(group, "below")
	if err := os.MkdirAll(below, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = unix.Rmdir(below)
		_ = unix.Rmdir(group)
	})
	if err := os.WriteFile(filepath.Join(below, "cgroup.procs"), fmt.Append(nil, cmd.Process.Pid), 0); err != nil {
		t.Fatal(err)
	}
}

func checkGone(t *testing.T, group string) {
	t.Helper()
	if _, err := os.Stat(group); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("%s is left (%v)", group, err)
	}
}

func checkKilled(t *testing.T, cmd *exec.Cmd) {
	t.Helper()
	_ = cmd.Wait() // says what State says
	if status, ok := cmd.ProcessState.Sys().(interface{ Signal() unix.Signal }); !ok || status.Signal() != unix.SIGKILL {
		t.Errorf("process ended with %v, want killed", cmd.ProcessState)
	}
}

// Some runtimes put a container into the unified hierarchy only, others into
// all that there are.
func TestKillCgroupsInEveryHierarchy(t *testing.T) {
	requireGroups(t)
	name := "/box-" + record.NewID()
	unified, err := cgroups.At(name)
	if err != nil {
		t.Fatal(err)
	}
	all := []string{unified.Dir()}
	for _, controller := range []string{"pids", "freezer"} {
		if _, err := os.Stat(filepath.Join(legacyRoot, controller, "cgroup.procs")); err == nil {
			all = append(all, filepath.Join(legacyRoot, controller, name))
		}
	}
	cmds := make([]*exec.Cmd, len(all))
	for i, group := range all {
		cmds[i] = sleeper(t)
		occupy(t, group, cmds[i])
	}
	if err := KillCgroups(t.Context(), name); err != nil {
		t.Error(err)
	}
	for i, group := range all {
		checkGone(t, group)
		checkKilled(t, cmds[i])
	}
	if err := KillCgroups(t.Context(), name); err != nil {
		t.Errorf("groups that are not there: %v", err)
	}
}

// onPureV2 calls do where there is nothing but cgroup v2: in a mount namespace of its own.
func onPureV2(t *testing.T, do func() error) {
	t.Helper()
	done := make(chan error)
	go func() {
		// The thread has a mount namespace of its own and ends with the goroutine.
		runtime.LockOSThread()
		err := errors.Join(
			unix.Unshare(unix.CLONE_NEWNS),
			unix.Mount("", "/", "", unix.MS_REC|unix.MS_SLAVE, ""))
		if root, _ := cgroups.Root(); err == nil && root != legacyRoot {
			err = unix.Mount("none", legacyRoot, "cgroup2", 0, "")
		}
		if err == nil {
			err = do()
		}
		done <- err
	}()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

// The entries of the root are no hierarchies there, and most are files.
func TestKillCgroupsOnPureV2(t *testing.T) {
	requireGroups(t)
	name := "/box-" + record.NewID()
	cmd := sleeper(t)
	onPureV2(t, func() error {
		occupy(t, filepath.Join(legacyRoot, name), cmd)
		err := KillCgroups(t.Context(), name)
		checkGone(t, filepath.Join(legacyRoot, name))
		return err
	})
	checkKilled(t, cmd)
}

// Nobody waits for the end of processes that could not be killed.
func TestKillThatFails(t *testing.T) {
	requireGroups(t)
	name := "/box-" + record.NewID()
	cmd := sleeper(t)
	onPureV2(t, func() error {
		occupy(t, filepath.Join(legacyRoot, name), cmd)
		if err := unix.Mount("none", legacyRoot, "", unix.MS_BIND|unix.MS_REMOUNT|unix.MS_RDONLY, ""); err != nil {
			return err
		}
		err := KillCgroups(t.Context(), name)
		if !errors.Is(err, unix.EROFS) || strings.Count(err.Error(), "read-only") != 1 {
			t.Errorf("have %v, want what the kill met with and nothing after it", err)
		}
		return unix.Mount("none", legacyRoot, "", unix.MS_BIND|unix.MS_REMOUNT, "")
	})
	if err := KillCgroups(t.Context(), name); err != nil { // by the host's own mount
		t.Error(err)
	}
	checkKilled(t, cmd)
}

// Pure, and so without anything that could be killed by a mistake.
func TestGroupPathsThatAreRefused(t *testing.T) {
	for _, path := range []string{"", "/", ".", "relative", "/box-x/..", "/box-x/../..", "/box-x/", "//", "/./"} {
		if err := checkGroupPath(path); !errors.Is(err, errdefs.ErrInvalid) {
			t.Errorf("%q: %v", path, err)
		}
	}
	for _, path := range []string{"/box-0123", "/box/0123"} {
		if err := checkGroupPath(path); err != nil {
			t.Error(err)
		}
	}
}
