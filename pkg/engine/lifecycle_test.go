package engine

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"box/internal/errdefs"
	"box/pkg/record"
)

func TestStartAgainKeepsFiles(t *testing.T) {
	f := newFixture(t)
	r := f.detached(f.sh("cat /tmp/mark 2>/dev/null; echo was here > /tmp/mark"))
	f.wait(r.ID)
	out := f.output()
	_, s, err := f.Start(t.Context(), r.ID, Stdio{Stdout: out.file})
	if err != nil {
		t.Fatal(err)
	}
	if code, err := s.Wait(t.Context()); code != 0 || err != nil {
		t.Errorf("second run: %d %v", code, err)
	}
	if got := out.text(); got != "was here\n" {
		t.Errorf("second run saw %q", got)
	}
}

func TestStopSendsStopSignalThenKills(t *testing.T) {
	f := newFixture(t)
	o := f.sh("trap 'exit 9' USR1; echo ready; while :; do usleep 10000; done")
	o.StopSignal = "USR1"
	r := f.detached(o)
	f.awaitLog(r.ID, "ready")
	if err := f.Stop(t.Context(), r.ID, nil); err != nil {
		t.Fatal(err)
	}
	if code := f.wait(r.ID); code != 9 {
		t.Errorf("exit code %d, want 9 from the trap", code)
	}
	deaf := f.detached(f.sh("trap '' TERM; echo ready; while :; do usleep 10000; done"))
	f.awaitLog(deaf.ID, "ready")
	patience := 50 * time.Millisecond
	if err := f.Stop(t.Context(), deaf.ID, &patience); err != nil {
		t.Fatal(err)
	}
	if code := f.wait(deaf.ID); code != 137 {
		t.Errorf("exit code %d, want 137", code)
	}
	if err := f.Stop(t.Context(), deaf.ID, nil); err != nil {
		t.Errorf("stop of a stopped container: %v", err)
	}
}

func TestKillAndStates(t *testing.T) {
	f := newFixture(t)
	r := f.detached(f.sh("sleep 1000"))
	if err := f.Remove(t.Context(), r.ID, RemoveOptions{}); !errors.Is(err, errdefs.ErrConflict) {
		t.Errorf("remove of a running container: %v", err)
	}
	if _, _, err := f.Start(t.Context(), r.ID, Stdio{}); !errors.Is(err, errdefs.ErrConflict) {
		t.Errorf("start of a running container: %v", err)
	}
	if err := f.Kill(t.Context(), r.Name, unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if code := f.wait(r.ID); code != 137 {
		t.Errorf("code %d, want 137", code)
	}
	if err := f.Kill(t.Context(), r.ID, unix.SIGKILL); !errors.Is(err, errdefs.ErrConflict) {
		t.Errorf("kill of a stopped container: %v", err)
	}
	if err := f.Remove(t.Context(), r.ID, RemoveOptions{}); err != nil {
		t.Error(err)
	}
	if _, err := f.Find(t.Context(), r.ID); !errors.Is(err, errdefs.ErrNotFound) {
		t.Errorf("after remove: %v", err)
	}
	f.checkNothingLeft()
	f.checkCgroupGone(r.ID)
}

func TestNames(t *testing.T) {
	f := newFixture(t)
	o := f.sh("true")
	o.Name = "first"
	r, err := f.Create(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.Create(t.Context(), o); !errors.Is(err, errdefs.ErrConflict) || !strings.Contains(err.Error(), `"first"`) {
		t.Errorf("same name: %v", err)
	}
	if ids, _ := f.records.IDs(); len(ids) != 1 {
		t.Errorf("a failed create left %v", ids)
	}
	for _, key := range []string{"first", "/first", r.ID, r.ID[:12], r.ID[:5]} {
		if got, err := f.Find(t.Context(), key); err != nil || got.ID != r.ID {
			t.Errorf("find %q: %v", key, err)
		}
	}
	for _, key := range []string{"", "firs", "second", strings.Repeat("z", 64), "../" + r.ID} {
		if _, err := f.Find(t.Context(), key); !errors.Is(err, errdefs.ErrNotFound) {
			t.Errorf("find %q: %v, want not found", key, err)
		}
	}
	o.Name = "x/y"
	if _, err := f.Create(t.Context(), o); !errors.Is(err, errdefs.ErrInvalid) {
		t.Errorf("bad name: %v", err)
	}
}

// The next command notices that a monitor was killed, and ends its container.
func TestKilledMonitorIsNoticed(t *testing.T) {
	f := newFixture(t)
	r := f.detached(f.sh("sleep 1000"))
	for _, pid := range processes("box-monitor", f.config.RunRoot) {
		if err := unix.Kill(pid, unix.SIGKILL); err != nil {
			t.Fatal(err)
		}
	}
	if code := f.wait(r.ID); code != 137 {
		t.Errorf("code %d, want 137", code)
	}
	list, err := f.List(t.Context(), true)
	if err != nil || len(list) != 1 || list[0].State.Status != record.Exited || list[0].State.ExitCode != 137 {
		t.Errorf("list: %+v %v", list, err)
	}
	f.checkCgroupGone(r.ID)
	f.checkEmpty(filepath.Join(f.config.RunRoot, "containers"))
}

func TestInspectHasDockersFields(t *testing.T) {
	f := newFixture(t)
	o := f.sh("sleep 1000")
	o.Name, o.Labels, o.Expose = "inspected", map[string]string{"a": "b"}, []string{"80"}
	r := f.detached(o)
	i, err := f.Inspect(t.Context(), "inspected")
	if err != nil {
		t.Fatal(err)
	}
	if i.ID != r.ID || i.Name != "/inspected" || !i.State.Running || i.State.Pid == 0 || i.Path != "sh" || i.Config.Labels["a"] != "b" || i.HostConfig.NetworkMode != "none" {
		t.Errorf("inspection: %+v", i)
	}
	if _, ok := i.NetworkSettings.Ports["80/tcp"]; !ok {
		t.Errorf("exposed port is not listed: %v", i.NetworkSettings.Ports)
	}
	list, err := f.List(t.Context(), false)
	if err != nil || len(list) != 1 || list[0].ID != r.ID {
		t.Errorf("list: %v %v", list, err)
	}
	use, err := f.ImagesInUse(t.Context())
	if err != nil || use[f.image.ID].Container != "inspected" || !use[f.image.ID].Running {
		t.Errorf("images in use: %v %v", use, err)
	}
}

// locked returns the lock of a container that somebody is about to start.
func (f *fixture) locked(id string) *record.Lock {
	f.t.Helper()
	lock, err := f.records.TryLock(id)
	if err != nil {
		f.t.Fatal(err)
	}
	return lock
}

// pretendRunning saves what a monitor saves when the command runs.
func (f *fixture) pretendRunning(id string, running bool) {
	f.t.Helper()
	r, err := f.records.Load(id)
	if err != nil {
		f.t.Fatal(err)
	}
	r.State.Status = record.Exited
	if running {
		r.State.Status = record.Running
	}
	if err := f.records.Save(r, record.Volatile); err != nil {
		f.t.Fatal(err)
	}
}

// Who meets a start that is going on waits for the start, not for the end of
// the container.
func TestStartAndRemoveDuringAStart(t *testing.T) {
	f := newFixture(t)
	r, err := f.Create(t.Context(), f.sh("sleep 1000"))
	if err != nil {
		t.Fatal(err)
	}
	lock := f.locked(r.ID)
	started, removed := make(chan error), make(chan error)
	go func() {
		_, _, err := f.Start(t.Context(), r.ID, Stdio{})
		started <- err
	}()
	go func() { removed <- f.Remove(t.Context(), r.ID, RemoveOptions{}) }()
	f.pretendRunning(r.ID, true)
	for name, got := range map[string]chan error{"start": started, "remove": removed} {
		if err := <-got; !errors.Is(err, errdefs.ErrConflict) {
			t.Errorf("%s: %v", name, err)
		}
	}
	f.pretendRunning(r.ID, false)
	if err := lock.Unlock(); err != nil {
		t.Error(err)
	}
}

func TestOfManyStartsOneWins(t *testing.T) {
	f := newFixture(t)
	r, err := f.Create(t.Context(), f.sh("sleep 1000"))
	if err != nil {
		t.Fatal(err)
	}
	const n = 6
	results := make(chan error, n)
	for range n {
		go func() {
			_, s, err := f.Start(t.Context(), r.ID, Stdio{})
			if err == nil {
				err = s.Close()
			}
			results <- err
		}()
	}
	won := 0
	for range n {
		err := <-results
		if err == nil {
			won++
		} else if !errors.Is(err, errdefs.ErrConflict) {
			t.Error(err)
		}
	}
	if won != 1 {
		t.Errorf("%d starts have succeeded, want 1", won)
	}
}

// rm --force ends and removes a container at any moment of its start.
func TestForcedRemoveDuringRun(t *testing.T) {
	f := newFixture(t)
	for i := range 8 {
		name := fmt.Sprintf("victim%d", i)
		ran := make(chan error, 1)
		go func() {
			o := f.sh("sleep 1000")
			o.Name = name
			_, s, err := f.Run(t.Context(), o, Stdio{})
			if err == nil {
				_, err = s.Wait(t.Context())
			}
			ran <- err
		}()
		for removed := false; !removed; { // until it is there
			err := f.Remove(t.Context(), name, RemoveOptions{Force: true})
			if removed = err == nil; !removed && !errors.Is(err, errdefs.ErrNotFound) {
				t.Fatal(err)
			}
		}
		if err := <-ran; err != nil && !errors.Is(err, errdefs.ErrNotFound) {
			t.Errorf("run: %v", err)
		}
		f.checkNothingLeft()
	}
}

// A container whose start fails leaves its name free.
func TestNameIsFreeAfterAFailedRun(t *testing.T) {
	f := newFixture(t)
	o := f.sh("true")
	o.Name, o.AutoRemove = "again", true
	bad := o
	bad.Cmd = []string{"nosuchcommand"}
	for range 3 {
		if _, _, err := f.Run(t.Context(), bad, Stdio{}); err == nil {
			t.Fatal("the command was found")
		}
	}
	if code, _, _ := f.run(o); code != 0 {
		t.Errorf("code %d", code)
	}
}

// Whoever looks at containers has killed builds cleared up, too, and living ones
// left alone.
func TestSweepCallsForBuilds(t *testing.T) {
	f := newFixture(t)
	called := 0
	f.config.SweepOthers = func(context.Context) error { called++; return nil }
	const step = "build-00000123456789ab"
	lock := f.locked(step)
	if _, err := f.Create(t.Context(), f.sh("true")); err != nil || called != 0 {
		t.Errorf("while the build lives: called %d times, %v", called, err)
	}
	if err := lock.Abandon(); err != nil {
		t.Fatal(err)
	}
	if _, err := f.Create(t.Context(), f.sh("true")); err != nil || called != 1 {
		t.Errorf("after it was killed: called %d times, %v", called, err)
	}
	if err := f.locked(step).Unlock(); err != nil {
		t.Error(err)
	}
}
