package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// abandonVerb makes the test program a runner that is killed in the middle.
const abandonVerb = "abandon"

func abandon(work string) {
	groups, err := planSandbox("box-runc-suite-test-"+filepath.Base(filepath.Dir(work)), "host")
	if err == nil {
		_, err = newSweeper(leavings{Cgroups: groups, Work: work})
	}
	if err == nil {
		err = groups.make()
	}
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	for _, h := range groups.Hierarchies {
		fmt.Println(h.Own)
	}
	_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
}

func TestKilledRunnerLeavesNothing(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root: makes control groups")
	}
	work := filepath.Join(t.TempDir(), "work")
	if err := os.Mkdir(work, 0o755); err != nil {
		t.Fatal(err)
	}
	// The sweeper has the output open, too: Output returns when it has ended.
	cmd := exec.Command("/proc/self/exe", abandonVerb, work)
	var errs strings.Builder
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if status, ok := cmd.ProcessState.Sys().(syscall.WaitStatus); !ok || !status.Signaled() {
		t.Fatalf("%v: %s%s", err, out, errs.String())
	}
	groups := strings.Fields(string(out))
	if len(groups) == 0 || errs.Len() > 0 {
		t.Errorf("groups %q; the sweeper says %q", groups, errs.String())
	}
	for _, path := range append(groups, work) {
		if _, err := os.Stat(path); err == nil {
			t.Errorf("left behind: %s", path)
		}
	}
}
