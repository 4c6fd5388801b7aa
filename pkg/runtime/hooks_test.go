package runtime

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"box/internal/testkit"
	"box/pkg/plan"
)

func TestHookSeesStateAndItsOwnEnvironment(t *testing.T) {
	t.Setenv("LD_PRELOAD_OF_CALLER", "leak")
	dir := t.TempDir()
	hook := specs.Hook{
		Path: "/bin/sh",
		Args: []string{"sh", "-c", `cat > state; env > env; pwd > pwd`},
		Env:  []string{"PATH=/usr/bin:/bin", "ONLY=this"},
	}
	st := &State{ID: "c1", Pid: 42, Status: Creating, Bundle: dir}
	if err := runHooks(t.Context(), hookCreateRuntime, []specs.Hook{hook}, st, hostRunner(dir)); err != nil {
		t.Fatal(err)
	}
	var got State
	data := testkit.Text(t, filepath.Join(dir, "state"))
	if err := json.Unmarshal([]byte(data), &got); err != nil || got.ID != "c1" || got.Pid != 42 || got.Status != Creating {
		t.Errorf("state on stdin = %s (%v)", data, err)
	}
	env := testkit.Text(t, filepath.Join(dir, "env"))
	if !strings.Contains(env, "ONLY=this\n") || strings.Contains(env, "leak") {
		t.Errorf("environment = %q", env)
	}
	if pwd := testkit.Text(t, filepath.Join(dir, "pwd")); pwd != dir+"\n" {
		t.Errorf("working directory = %q, want the bundle", pwd)
	}
}

func TestFailingHookStopsTheRestAndSaysWhich(t *testing.T) {
	dir := t.TempDir()
	sh := func(script string) specs.Hook {
		return specs.Hook{Path: "/bin/sh", Args: []string{"sh", "-c", script}}
	}
	hooks := []specs.Hook{sh("true"), sh("echo out of luck; exit 3"), sh("echo > third")}
	err := runHooks(t.Context(), hookPrestart, hooks, &State{}, hostRunner(dir))
	want := "error running prestart hook #1: /bin/sh: exit status 3, output: out of luck"
	if err == nil || err.Error() != want {
		t.Errorf("error = %v, want %q", err, want)
	}
	if _, err := os.Stat(filepath.Join(dir, "third")); err == nil {
		t.Error("the hook after the failing one ran")
	}
}

func TestHookTimeout(t *testing.T) {
	one := 1
	hook := specs.Hook{Path: "/bin/sh", Args: []string{"sh", "-c", "exec sleep 1000"}, Env: []string{"PATH=/bin:/usr/bin"}, Timeout: &one}
	err := runHooks(t.Context(), hookPoststop, []specs.Hook{hook}, &State{}, hostRunner(t.TempDir()))
	if err == nil || !strings.Contains(err.Error(), "timed out after 1s") {
		t.Errorf("error = %v, want a time-out", err)
	}
}

// The time counts from the start, not from when the hook's program is found: the file
// system that it is on may hang. Here it is one that nobody serves.
func TestHookTimeoutBeforeExecution(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root: mounts a file system")
	}
	runtime.LockOSThread() // and never unlocked: the mount goes with the thread
	if err := unix.Unshare(unix.CLONE_NEWNS | unix.CLONE_FS); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		t.Fatal(err)
	}
	server, err := unix.Open("/dev/fuse", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Skip("needs /dev/fuse: ", err)
	}
	defer unix.Close(server)
	dir := t.TempDir()
	if err := unix.Mount("nobody", dir, "fuse", 0, fmt.Sprintf("fd=%d,rootmode=40000,user_id=0,group_id=0", server)); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	}()
	one := 1
	hook := specs.Hook{Path: dir + "/hook", Timeout: &one}
	err = runHooks(t.Context(), hookPoststop, []specs.Hook{hook}, &State{}, hostRunner("/"))
	if err == nil || !strings.Contains(err.Error(), "timed out after 1s") {
		t.Errorf("error = %v, want a time-out", err)
	}
}

// A hook that cannot be given what the container has, its limits for example, is not let
// go on without.
func TestHookThatCannotBeTendedIsHeldBack(t *testing.T) {
	p := &hookProgram{Hook: plan.Hook{Path: "/bin/true", Dir: "/"}}
	refusal := errors.New("refused")
	var permit *os.File
	p.tend = func(pid int) (err error) {
		if err := unix.Kill(pid, unix.SIGSTOP); err != nil {
			t.Error(err)
		}
		if _, err := unix.Wait4(pid, nil, unix.WUNTRACED, nil); err != nil { // from now on, it leaves a word where it is
			t.Error(err)
		}
		if permit, err = os.Open(fmt.Sprintf("/proc/%d/fd/%d", pid, p.Layout.Permit)); err != nil {
			t.Error(err)
		}
		return refusal
	}
	if _, err := p.run(t.Context(), nil); !errors.Is(err, refusal) {
		t.Errorf("error = %v, want %v", err, refusal)
	}
	defer permit.Close()
	if words, err := io.ReadAll(permit); err != nil || len(words) > 0 {
		t.Errorf("the hook was told %q (%v)", words, err)
	}
}

// A hook that leaves a daemon behind with its output open must not hold us up.
func TestHookDaemon(t *testing.T) {
	dir := t.TempDir()
	fifo := filepath.Join(dir, "fifo")
	script := `mkfifo ` + fifo + `; (read x < ` + fifo + `) &`
	hook := specs.Hook{Path: "/bin/sh", Args: []string{"sh", "-c", script}, Env: []string{"PATH=/bin:/usr/bin"}}
	if err := runHooks(t.Context(), hookPoststart, []specs.Hook{hook}, &State{}, hostRunner(dir)); err != nil {
		t.Fatal(err)
	}
	// Let the daemon end: opening for writing succeeds as soon as it reads.
	if err := os.WriteFile(fifo, []byte("go\n"), 0); err != nil {
		t.Fatal(err)
	}
}
