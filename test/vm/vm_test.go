package main

import (
	"context"
	"errors"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"box/internal/testkit"
	"box/internal/testkit/vm"
)

// TestLimits runs test/limits where every controller is there, as root and as a user.
func TestLimits(t *testing.T) {
	env := []string{"BOX_TEST_RUNTIME=" + testkit.Build(t, "./cmd/box-runtime", false)}
	for _, mode := range []vm.Mode{vm.Root, vm.User} {
		t.Run(string(mode), func(t *testing.T) {
			t.Parallel()
			testkit.VMTests(t, vm.Config{Mode: mode, Env: env, Timeout: 8 * time.Minute}, "./test/limits")
		})
	}
}

// TestPackages runs tests of packages that talk to the kernel on Debian's: what they
// do has to work on it too, without the controllers of version 1. Left out is what
// takes an emulated processor long and proves nothing that depends on the kernel.
// pkg/cgroups and pkg/label bring their own machines.
func TestPackages(t *testing.T) {
	env := []string{"BOX_TEST_RUNTIME=" + testkit.Build(t, "./cmd/box-runtime", false)}
	for pkg, skip := range map[string]string{
		"./pkg/namespaces": "",
		"./pkg/overlay":    "ManyLayers",
		"./pkg/rootfs":     "Hostile|Exchanged|Corpus|LockedAttributes",
		"./pkg/runtime": "Checkpoint|Restore|KilledCreate|WorkingDirectoryCannot|IDsCannot|AppArmor|CommandThatCannot|AgentThatIsMissing|" +
			"TerminalOver|UserOpens|HangingCreate|SignalsEnd|Serialised",
		"./pkg/terminal": "",
		"./pkg/netdev":   "",
	} {
		t.Run(pkg, func(t *testing.T) {
			t.Parallel() // a machine is one thread of the host's
			var args []string
			if skip != "" {
				args = []string{"-test.skip=" + skip}
			}
			testkit.VMTests(t, vm.Config{Env: env, Timeout: 8 * time.Minute}, pkg, args...)
		})
	}
}

// TestUser: the command is uid 1000, may divide its group, and has subordinate ids.
func TestUser(t *testing.T) {
	script := `id -u; cat /proc/self/cgroup; mkdir /sys/fs/cgroup/user/mine && cat /sys/fs/cgroup/user/mine/cgroup.controllers
		newuidmap $$ 0 1000 1 2>&1 | grep -c "not allowed"; unshare --user --map-auto --map-root-user cat /proc/self/uid_map`
	out, messages, status := testkit.VM(t, vm.Config{Mode: vm.User}, "sh", "-c", script)
	for _, want := range []string{"1000\n0::/user/command\n", " memory ", " pids", "100000 "} {
		if !strings.Contains(out, want) {
			t.Errorf("%q is not in %q", want, out)
		}
	}
	if status != 0 {
		t.Errorf("status %d: %s", status, messages)
	}
}

// TestSystemd: the user's own manager makes a scope with a limit.
func TestSystemd(t *testing.T) {
	script := `id -u; cat /proc/1/comm; systemd-run --user --scope --quiet -p MemoryMax=50M sh -c 'cat /sys/fs/cgroup$(sed s/0::// /proc/self/cgroup)/memory.max'; exit 5`
	out, messages, status := testkit.VM(t, vm.Config{Mode: vm.SystemdUser}, "sh", "-c", script)
	if out != "1000\nsystemd\n52428800\n" || status != 5 {
		t.Errorf("status %d, output %q, errors %q", status, out, messages)
	}
}

// TestWritable: the named directory can be written to, another one cannot.
func TestWritable(t *testing.T) {
	open, closed := t.TempDir(), t.TempDir()
	_, messages, status := testkit.VM(t, vm.Config{Writable: []string{open}}, "sh", "-c", "echo word >"+open+"/file && echo word >"+closed+"/file && rm -f "+os.Args[0])
	if status != 0 {
		t.Fatalf("status %d: %s", status, messages)
	}
	if text, err := os.ReadFile(open + "/file"); string(text) != "word\n" {
		t.Errorf("the open directory holds %q, %v", text, err)
	}
	if _, err := os.Stat(closed + "/file"); err == nil {
		t.Error("the guest wrote where it may not")
	}
	if _, err := os.Stat(os.Args[0]); err != nil {
		t.Errorf("the guest removed a file of the host: %v", err)
	}
}

// TestStatus: a signal ends the command, and the input comes in whole before.
func TestStatus(t *testing.T) {
	input := strings.Repeat("0123456789abcde\n", 1<<14)
	out, messages, status := testkit.VM(t, vm.Config{Stdin: strings.NewReader(input)}, "sh", "-c", "wc -c; kill -KILL $$")
	if strings.TrimSpace(out) != "262144" || status != 137 {
		t.Errorf("status %d, output %q, errors %q", status, out, messages)
	}
}

// first calls a function at the first write.
type first struct {
	sync.Once
	do func()
}

func (f *first) Write(p []byte) (int, error) {
	f.Do(f.do)
	return len(p), nil
}

// TestTimeIsOver: the error says what the machine was at, and Go programs what they
// were at.
func TestTimeIsOver(t *testing.T) {
	testkit.RequireVM(t)
	ctx, cancel := context.WithCancelCause(t.Context())
	var messages strings.Builder
	ready := &first{do: func() { cancel(vm.ErrTimeout) }}
	status, err := vm.Run(ctx, vm.Config{Program: testkit.Build(t, "./test/vm", false), Stdout: ready, Stderr: &messages},
		[]string{testkit.Build(t, "./test/vm", true), "-test.run=^TestHelperSleep$", "-test.v"})
	if status != vm.TimedOut || !errors.Is(err, vm.ErrTimeout) {
		t.Fatalf("status %d, %v", status, err)
	}
	for _, want := range []string{"CPU#1 RIP=", "sysrq: Show State\n", "task:vm state:S", "(virtiofsd)"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q is not in %v", want, err)
		}
	}
	if !strings.Contains(messages.String(), "TestHelperSleep") {
		t.Errorf("no goroutines in %s", &messages)
	}
}

// TestHelperSleep hangs in the machine of TestTimeIsOver.
func TestHelperSleep(t *testing.T) {
	if os.Getenv(vm.InsideVariable) == "" {
		t.Skip("runs only for other tests")
	}
	time.Sleep(time.Hour)
}

func TestOptions(t *testing.T) {
	c, argv, err := options([]string{"--user", "--systemd", "--writable", "/a", "--writable", "/b", "--env", "A=b", "--timeout", "7s", "--append", "x=1 y", "--", "cmd", "--flag"})
	if err != nil {
		t.Fatal(err)
	}
	if c.Mode != vm.SystemdUser || !slices.Equal(c.Writable, []string{"/a", "/b"}) || c.Env[0] != "A=b" || c.Timeout != 7*time.Second || !slices.Equal(c.KernelArgs, []string{"x=1", "y"}) {
		t.Errorf("%+v", c)
	}
	if !slices.Equal(argv, []string{"cmd", "--flag"}) {
		t.Errorf("command %q", argv)
	}
}
