package engine

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"box/internal/sys"
	"box/pkg/record"
)

// A job is what a client process is asked to do.
type job struct {
	Root, RunRoot, Runtime, Monitor string

	Image   string
	Options CreateOptions
	Remove  string // instead of a run: remove this container
}

// drive is this test program acting as a client that is going to be killed.
func drive(args []string) int {
	var j job
	if err := json.Unmarshal([]byte(args[0]), &j); err != nil {
		return 2
	}
	e, err := Open(Config{Root: j.Root, RunRoot: j.RunRoot, Runtime: j.Runtime, Monitor: j.Monitor})
	if err == nil && j.Remove != "" {
		err = e.Remove(context.Background(), j.Remove, RemoveOptions{Force: true, Volumes: true})
	} else if err == nil {
		err = driveRun(e, j)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "drive:", err)
		return 1
	}
	return 0
}

func driveRun(e *Engine, j job) error {
	images, err := e.images()
	if err != nil {
		return err
	}
	if j.Options.Image, err = images.Lookup(j.Image); err != nil {
		return err
	}
	_, s, err := e.Run(context.Background(), j.Options, Stdio{Stdout: os.Stdout, Stderr: os.Stderr})
	if err != nil {
		return err
	}
	_, err = s.Wait(context.Background())
	return err
}

// client starts this program as a client.
func (f *fixture) client(j job) *exec.Cmd {
	f.t.Helper()
	j.Root, j.RunRoot, j.Runtime, j.Monitor = f.config.Root, f.config.RunRoot, f.config.Runtime, f.config.Monitor
	j.Image = f.image.ID.String()
	j.Options.Image = nil
	data, err := json.Marshal(j)
	if err != nil {
		f.t.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		f.t.Fatal(err)
	}
	cmd := exec.Command(self, "drive", string(data))
	if err := cmd.Start(); err != nil {
		f.t.Fatal(err)
	}
	return cmd
}

// processes lists the processes whose command line holds all of the words.
func processes(words ...string) []int {
	var found []int
	dirs, _ := filepath.Glob("/proc/[0-9]*/cmdline")
next:
	for _, path := range dirs {
		data, _ := os.ReadFile(path)
		for _, w := range words {
			if !strings.Contains(string(data), w) {
				continue next
			}
		}
		pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(path)))
		found = append(found, pid)
	}
	return found
}

// inContainers lists the processes in control groups of this engine's
// containers.
func (f *fixture) inContainers() []int {
	ids, _ := f.records.IDs()
	var found []int
	for _, id := range ids {
		for _, pattern := range []string{"/sys/fs/cgroup", "/sys/fs/cgroup/*"} {
			files, _ := filepath.Glob(pattern + cgroupPath(id) + "/cgroup.procs")
			for _, file := range files {
				data, _ := os.ReadFile(file)
				for _, word := range strings.Fields(string(data)) {
					if pid, err := strconv.Atoi(word); err == nil && pid > 1 {
						found = append(found, pid)
					}
				}
			}
		}
	}
	return found
}

// awaitEnd waits, without polling, until no monitor of this engine runs.
func (f *fixture) awaitEnd() {
	for _, pid := range processes("box-monitor", f.config.RunRoot) {
		p, err := sys.PidfdOpen(pid)
		if err != nil {
			continue
		}
		if _, err := sys.PollPidfd(p, -1); err != nil {
			f.t.Error(err)
		}
		_ = p.Close()
	}
}

// quiet waits until nobody works for any container.
func (f *fixture) quiet(ctx context.Context) {
	entries, _ := os.ReadDir(filepath.Join(f.config.RunRoot, "containers"))
	for _, entry := range entries {
		if !record.IsID(entry.Name()) {
			continue
		}
		l, err := f.records.LockContext(ctx, entry.Name())
		if err != nil {
			f.t.Error(err)
			continue
		}
		_ = l.Abandon()
	}
}

// TestNothingIsLeftWhenKilled kills the client, the monitor, the runtime, the
// container, or the client and the monitor together, with SIGKILL at random
// moments of a run, and looks for leftovers after the next command's sweep.
// BOX_TEST_KILLS sets how often.
func TestNothingIsLeftWhenKilled(t *testing.T) {
	f := newFixture(t)
	kills := 40
	if n, err := strconv.Atoi(os.Getenv("BOX_TEST_KILLS")); err == nil {
		kills = n
	}
	seed := uint64(time.Now().UnixNano())
	rnd := rand.New(rand.NewPCG(seed, 0))
	t.Logf("seed %d", seed)
	for _, mode := range []string{NetworkNone, NetworkBridge} {
		// Without a kill it works: otherwise the rest would prove nothing.
		if err := f.client(job{Options: killable(mode, 0)}).Wait(); err != nil {
			t.Fatalf("network %s: %v", mode, err)
		}
		f.afterKill()
	}
	for i := range kills {
		mode := []string{NetworkNone, NetworkBridge}[rnd.IntN(2)]
		victim := rnd.IntN(5)
		after := time.Duration(rnd.IntN(40_000)) * time.Microsecond
		f.killOnce(i, mode, victim, after)
		if t.Failed() {
			t.Fatalf("run %d: network %s, victim %d, after %v", i, mode, victim, after)
		}
	}
}

// killable has something of everything that could be left.
func killable(mode string, i int) CreateOptions {
	o := CreateOptions{
		Cmd: []string{"sh", "-c", "echo hi; usleep 20000"}, Network: mode, AutoRemove: i%3 != 0,
		Volumes: []string{"/anonymous"},
	}
	if mode == NetworkBridge {
		o.Publish = []string{"80"}
	}
	return o
}

func (f *fixture) killOnce(i int, mode string, victim int, after time.Duration) {
	f.t.Helper()
	cmd := f.client(job{Options: killable(mode, i)})
	// Not to wait for anything, but to hit any moment.
	time.Sleep(after)
	var pids []int
	switch victim {
	case 0:
		pids = []int{cmd.Process.Pid}
	case 1:
		pids = processes("box-monitor", f.config.RunRoot)
	case 2:
		pids = f.inContainers()
	case 3:
		pids = append(processes("box-monitor", f.config.RunRoot), cmd.Process.Pid)
	case 4:
		pids = processes(filepath.Base(f.config.Runtime), filepath.Join(f.config.RunRoot, "runtime"))
	}
	for _, pid := range pids {
		f.endProcess(pid)
	}
	_ = cmd.Wait()
	f.afterKill()
}

// endProcess kills a process, and waits until the kernel has taken its locks and
// namespaces away: what is looked for later is what nobody takes away.
func (f *fixture) endProcess(pid int) {
	f.t.Helper()
	p, err := sys.PidfdOpen(pid)
	if err != nil {
		return // it has ended by itself
	}
	defer p.Close()
	if err := sys.PidfdSendSignal(p, unix.SIGKILL); err != nil && !errors.Is(err, unix.ESRCH) {
		f.t.Error(err)
	}
	if _, err := sys.PollPidfd(p, -1); err != nil {
		f.t.Error(err)
	}
}

// afterKill is what the next commands do, and then the search for leftovers.
func (f *fixture) afterKill() {
	f.t.Helper()
	ctx, cancel := context.WithTimeout(f.t.Context(), 20*time.Second)
	defer cancel()
	ids, err := f.records.IDs()
	if err != nil {
		f.t.Error(err)
	}
	f.quiet(ctx)
	list, err := f.List(ctx, true)
	if err != nil {
		f.t.Errorf("list: %v", err)
	}
	for _, r := range list {
		if r.Host.AutoRemove {
			f.t.Errorf("auto-removed container %s is left: %+v", r.ID, r.State)
		}
		if r.State.Status == record.Running {
			f.t.Errorf("container %s is still running", r.ID)
		}
		if err := f.Remove(ctx, r.ID, RemoveOptions{Force: true, Volumes: true}); err != nil {
			f.t.Errorf("remove: %v", err)
		}
	}
	f.awaitEnd()
	if err := f.Sweep(ctx); err != nil {
		f.t.Error(err)
	}
	for _, id := range ids {
		f.checkCgroupGone(id)
	}
	f.checkNothingLeft()
	f.checkNetworkGone()
	if left := processes(f.config.RunRoot); len(left) > 0 {
		f.t.Errorf("processes left: %v", left)
	}
}

// checkNetworkGone looks at the links and rules of the tests' own network.
func (f *fixture) checkNetworkGone() {
	f.t.Helper()
	links, err := os.ReadFile("/proc/net/dev")
	if err != nil {
		f.t.Error(err)
	}
	for _, line := range strings.Split(string(links), "\n") {
		if name, _, ok := strings.Cut(strings.TrimSpace(line), ":"); ok && name != "lo" && os.Getenv(inOwnNetwork) != "" {
			f.t.Errorf("link left: %s", name)
		}
	}
	nft, err := exec.LookPath("nft")
	if errors.Is(err, exec.ErrNotFound) {
		return
	}
	if out, err := exec.Command(nft, "list", "tables").CombinedOutput(); err != nil || len(out) > 0 && os.Getenv(inOwnNetwork) != "" {
		f.t.Errorf("rules left: %s (%v)", out, err)
	}
}

// A remover that is killed is finished by the next command.
func TestNothingIsLeftWhenRemoverIsKilled(t *testing.T) {
	f := newFixture(t)
	for i := range 10 {
		o := f.sh("echo > /anonymous/x; sleep 1000")
		o.Volumes = []string{"/anonymous"}
		r := f.detached(o)
		cmd := f.client(job{Remove: r.ID})
		time.Sleep(time.Duration(i) * 3 * time.Millisecond) // to hit any moment
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		f.afterRemoverKilled(r.ID)
	}
}

func (f *fixture) afterRemoverKilled(id string) {
	f.t.Helper()
	list, err := f.List(f.t.Context(), true)
	if err != nil {
		f.t.Fatal(err)
	}
	for _, r := range list {
		if r.State.Status != record.Running && r.State.Status != record.Exited {
			f.t.Errorf("after a killed remover: %+v", r.State)
		}
		if err := f.Remove(f.t.Context(), r.ID, RemoveOptions{Force: true, Volumes: true}); err != nil {
			f.t.Error(err)
		}
	}
	f.awaitEnd()
	f.checkNothingLeft()
	f.checkCgroupGone(id)
}

// What a client that is killed was making goes at once, not only with the next
// command.
func TestMonitorClearsUpBehindAKilledClient(t *testing.T) {
	f := newFixture(t)
	id := record.NewID()
	lock, err := f.records.TryLock(id)
	if err != nil {
		t.Fatal(err)
	}
	conn, err := f.spawn(id, NetworkBridge, lock)
	if err != nil {
		t.Fatal(err)
	}
	o := killable(NetworkBridge, 1)
	o.Image = f.image
	if r, err := f.prepare(t.Context(), id, o); err != nil || !r.Host.AutoRemove {
		t.Fatalf("prepare: %v", err)
	}
	// As the kernel does for a process that is killed.
	if err := errors.Join(lock.Abandon(), conn.Close()); err != nil {
		t.Fatal(err)
	}
	f.awaitEnd()
	f.checkNothingLeft()
}
