package main

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// insideVerb makes this program the first process of a job's namespaces.
const insideVerb = "inside"

// viewNames are the ways in which a job can see control groups: as this host has
// them mounted, as a host with cgroup v2 alone has them (v1 controllers are then not to be
// had, where the host has them), and untouched, for throw-away machines where the
// real root group is wanted: with the runtime's own cgroup driver, or with systemd's.
var viewNames = []string{"host", "v2", viewPlain, viewSystemd}

const viewPlain, viewSystemd = "plain", "systemd"

// untouched tells whether a view is for machines that are thrown away.
func untouched(view string) bool { return view == viewPlain || view == viewSystemd }

// job is what the first process of the namespaces gets to do, as JSON.
type job struct {
	View     string
	Work     string // directory of this job
	Suite    string // the suites in the cache
	Dir      string // where the command starts
	Cgroups  sandbox
	Features string
	Args     []string
	Env      []string
}

// inside sets the view up, runs the job's command as pid 1's child and collects
// orphans until it has ended: tests ask whether processes are gone, and a zombie
// is not. It returns the exit status.
func inside(arg string) int {
	runtime.LockOSThread() // namespaces belong to threads
	var j job
	err := json.Unmarshal([]byte(arg), &j)
	if err == nil {
		err = j.setUp()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "Bail out!", err)
		return 1
	}
	status, err := j.supervise()
	if err != nil {
		fmt.Fprintln(os.Stderr, "Bail out!", err)
		return 1
	}
	return status
}

func (j job) setUp() error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make mounts private: %w", err)
	}
	// Where there is no pid namespace of our own (see jobFlags), orphans are still to be ours.
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("become the parent of orphans: %w", err)
	}
	if err := unix.Mount("proc", "/proc", "proc", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, ""); err != nil {
		return fmt.Errorf("mount /proc: %w", err)
	}
	if err := j.Cgroups.enter(j.View); err != nil {
		return err
	}
	if err := j.setUpSELinux(); err != nil {
		return err
	}
	if err := unix.Mount(j.Suite, filepath.Join(j.Work, "suite"), "", unix.MS_BIND, ""); err != nil {
		return fmt.Errorf("mount %s: %w", j.Suite, err)
	}
	if !untouched(j.View) {
		// Nothing of the tests is to reach a disk: most of them unpack a root file
		// system. (The kernels of throw-away machines may be too old to map ids on a tmpfs.)
		if err := unix.Mount("tmpfs", filepath.Join(j.Work, "tmp"), "tmpfs", 0, "mode=755"); err != nil {
			return fmt.Errorf("mount tmpfs: %w", err)
		}
		if err := j.shieldEtc(); err != nil {
			return err
		}
	}
	if j.Features != "" {
		if err := j.setUpRootless(); err != nil {
			return err
		}
	}
	// As systemd leaves it on every ordinary host: what a runtime forgets to make
	// private shows.
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_SHARED, ""); err != nil {
		return fmt.Errorf("make mounts shared: %w", err)
	}
	if out, err := exec.Command("ip", "link", "set", "lo", "up").CombinedOutput(); err != nil {
		return fmt.Errorf("set lo up: %w: %s", err, out)
	}
	return os.Chdir(j.Dir)
}

// shieldEtc lays an overlay over /etc, into which some tests write.
func (j job) shieldEtc() error {
	aside := filepath.Join(j.Work, "aside")
	if err := unix.Mount("tmpfs", aside, "tmpfs", 0, "mode=755"); err != nil {
		return fmt.Errorf("mount tmpfs: %w", err)
	}
	upper, work := filepath.Join(aside, "upper"), filepath.Join(aside, "work")
	for _, dir := range []string{upper, work} {
		if err := os.Mkdir(dir, 0o755); err != nil {
			return err
		}
	}
	options := "lowerdir=/etc,upperdir=" + upper + ",workdir=" + work
	if err := unix.Mount("overlay", "/etc", "overlay", 0, options); err != nil {
		return fmt.Errorf("mount an overlay on /etc: %w", err)
	}
	return nil
}

// supervise starts the command and reaps until it has ended.
func (j job) supervise() (int, error) {
	if j.Features != "" {
		j.Env = append(j.Env, j.rootlessEnv()...)
	}
	program, err := lookPath(j.Args[0], j.Env)
	if err != nil {
		return 0, err
	}
	child, err := os.StartProcess(program, j.Args, &os.ProcAttr{
		Env: j.Env, Files: []*os.File{os.Stdin, os.Stdout, os.Stderr}, Sys: j.credentials(),
	})
	if err != nil {
		return 0, err
	}
	j.endTestsOnSignal(child.Pid)
	defer j.Cgroups.thaw() // or the end of this namespace would wait for the frozen
	for {
		var status syscall.WaitStatus
		pid, err := syscall.Wait4(-1, &status, 0, nil)
		switch {
		case err == syscall.EINTR:
		case err != nil:
			return 0, fmt.Errorf("wait for %s: %w", j.Args[0], err)
		case pid == child.Pid && status.Signaled():
			return 128 + int(status.Signal()), nil
		case pid == child.Pid && status.Exited():
			return status.ExitStatus(), nil
		}
	}
}

// lookPath finds a program in the PATH of env, not in this process's.
func lookPath(name string, env []string) (string, error) {
	if filepath.IsAbs(name) {
		return name, nil
	}
	for _, e := range env {
		list, ok := strings.CutPrefix(e, "PATH=")
		if !ok {
			continue
		}
		for _, dir := range filepath.SplitList(list) {
			path := filepath.Join(dir, name)
			if info, err := os.Stat(path); err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0 {
				return path, nil
			}
		}
	}
	return "", fmt.Errorf("%s: not found in PATH", name)
}

// endTest is the signal by which the first process is told to end a test that hangs.
const endTest = syscall.SIGUSR1

// endTestsOnSignal kills everything but the command itself and what it reports
// with, so that bats goes on with the next test.
func (j job) endTestsOnSignal(command int) {
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, endTest)
	go func() {
		for range signals {
			j.Cgroups.thaw()
			for _, pid := range testProcesses(allProcesses(), os.Getpid(), command) {
				_ = unix.Kill(pid, unix.SIGKILL) // it may have ended meanwhile
			}
		}
	}()
}

// process is a line of the process table.
type process struct {
	pid, parent int
	command     string
}

// allProcesses reads the process table of this pid namespace.
func allProcesses() (all []process) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil
	}
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		stat, err := os.ReadFile(filepath.Join("/proc", e.Name(), "stat"))
		if err != nil {
			continue // ended
		}
		command, _ := os.ReadFile(filepath.Join("/proc", e.Name(), "cmdline"))
		_, rest, _ := strings.Cut(string(stat), ") ") // the name may hold anything
		if fields := strings.Fields(rest); len(fields) > 1 {
			parent, _ := strconv.Atoi(fields[1])
			all = append(all, process{pid, parent, strings.ReplaceAll(string(command), "\x00", " ")})
		}
	}
	return all
}

// testProcesses are those that belong to a test: what bats runs it in and all below
// that, and orphans, which are the reaper's children. The command is what runs the file.
func testProcesses(all []process, reaper, command int) (pids []int) {
	byPid := map[int]process{}
	for _, p := range all {
		byPid[p.pid] = p
	}
	for _, p := range all {
		if p.pid != reaper && p.pid != command && belongsToTest(byPid, p, reaper, command) {
			pids = append(pids, p.pid)
		}
	}
	return pids
}

// belongsToTest goes up from p until it meets bats' process for one test, or the
// command or the reaper itself, or the end.
func belongsToTest(byPid map[int]process, p process, reaper, command int) bool {
	for range len(byPid) { // the table is no snapshot: a reused pid may close a circle
		if p.pid == command {
			return false
		}
		if p.parent == reaper || strings.Contains(p.command, "bats-exec-test") {
			return true
		}
		parent, ok := byPid[p.parent]
		if !ok {
			return false // not below us; or it is seen the next time
		}
		p = parent
	}
	return false
}
