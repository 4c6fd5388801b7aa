package engines

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"box/internal/testkit"
)

// The test program runs four times, each started by the one before:
//
//	(first)  makes directory and cgroups, waits for the end, removes them
//	shore    is process 1 of new namespaces, in the cgroups; enters a cgroup
//	         namespace, which only an exec lets all threads share
//	init     makes the mounts, then collects what is orphaned until the tests end
//	tests    runs the tests
const (
	stageVar   = "BOX_ENGINES_STAGE"
	dirVar     = "BOX_ENGINES_DIR"     // all state; also TMPDIR
	cgroupsVar = "BOX_ENGINES_CGROUPS" // one name, in every hierarchy

	driverVar = "BOX_ENGINES_DRIVER" // who manages control groups

	cacheVar = "BOX_ENGINES_CACHE" // what scripts have built, outside the checkout

	stageShore = "shore"
	stageInit  = "init"
	stageTests = "tests"
)

// islandPrefix begins the name of the cgroups; the pid of their owner follows.
const islandPrefix = "box-engines-"

// settle is the first stage: it returns the tests' exit code.
func settle() (code int, err error) {
	dir, remove, err := testkit.Scratch()
	if err != nil {
		return 1, err
	}
	defer func() { err = errors.Join(err, remove()) }()
	if err := provideRuntime(filepath.Join(dir, "bin")); err != nil {
		return 1, err
	}
	name := islandPrefix + strconv.Itoa(os.Getpid())
	sweepCgroups()
	for _, h := range hierarchies() {
		if err := makeCgroup(h, name); err != nil {
			return 1, err
		}
	}
	defer func() { err = errors.Join(err, removeCgroups(name)) }()

	env := []string{dirVar + "=" + dir, cgroupsVar + "=" + name}
	if os.Getenv(cacheVar) == "" {
		cache, err := os.UserCacheDir()
		if err != nil {
			return 1, err
		}
		env = append(env, cacheVar+"="+filepath.Join(cache, "box-test"))
	}
	cmd := nextStage(stageShore, env...)
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: unix.CLONE_NEWNS | unix.CLONE_NEWPID | unix.CLONE_NEWNET | unix.CLONE_NEWIPC | unix.CLONE_NEWUTS,
		Pdeathsig:  unix.SIGKILL,
	}
	runtime.LockOSThread() // the parent-death signal follows the thread
	return exitCode(cmd.Run())
}

// stay runs the tests where they are, in a directory of their own.
func stay(m *testing.M) (code int, err error) {
	dir, remove, err := testkit.Scratch()
	if err != nil {
		return 1, err
	}
	defer func() { err = errors.Join(err, remove()) }()
	if err := provideRuntime(filepath.Join(dir, "bin")); err != nil {
		return 1, err
	}
	for name, value := range map[string]string{dirVar: dir, "TMPDIR": dir} {
		if err := os.Setenv(name, value); err != nil {
			return 1, err
		}
	}
	return m.Run(), nil
}

// provideRuntime puts box-runtime into dir.
func provideRuntime(dir string) error {
	if err := os.Mkdir(dir, 0o755); err != nil {
		return err
	}
	to := filepath.Join(dir, "box-runtime")
	if bin := os.Getenv("BOX_BIN"); bin != "" {
		from, err := filepath.Abs(filepath.Join(bin, "box-runtime"))
		if err != nil {
			return err
		}
		return os.Symlink(from, to)
	}
	return testkit.Compile(to, "./cmd/box-runtime")
}

// nextStage is this program again.
func nextStage(stage string, env ...string) *exec.Cmd {
	cmd := exec.Command("/proc/self/exe")
	cmd.Args = os.Args
	cmd.Env = append(append(os.Environ(), env...), stageVar+"="+stage)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	return cmd
}

// exitCode tells a program that ended with a code from one that did not run.
func exitCode(err error) (int, error) {
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.Exited() {
		return exit.ExitCode(), nil
	}
	return 0, err
}

// land is the second stage: process 1 goes into its cgroups and makes them the
// roots of what the island sees.
func land() error {
	for _, h := range hierarchies() {
		if err := os.WriteFile(filepath.Join(h, os.Getenv(cgroupsVar), "cgroup.procs"), []byte("0"), 0); err != nil {
			return err
		}
	}
	runtime.LockOSThread() // the exec keeps the namespaces of its thread
	if err := unix.Unshare(unix.CLONE_NEWCGROUP); err != nil {
		return fmt.Errorf("unshare cgroup namespace: %w", err)
	}
	if err := os.Setenv(stageVar, stageInit); err != nil {
		return err
	}
	return unix.Exec("/proc/self/exe", os.Args, os.Environ())
}

// reign is the third stage: process 1 starts the tests and ends with them, and
// everything on the island with it.
func reign() (int, error) {
	if err := furnish(); err != nil {
		return 1, err
	}
	dir := os.Getenv(dirVar)
	tests := nextStage(stageTests, "TMPDIR="+dir, "HOME="+dir)
	if err := tests.Start(); err != nil {
		return 1, err
	}
	for {
		var status unix.WaitStatus
		pid, err := unix.Wait4(-1, &status, 0, nil)
		switch {
		case errors.Is(err, unix.EINTR):
		case err != nil:
			return 1, fmt.Errorf("wait: %w", err)
		case pid == tests.Process.Pid && status.Exited():
			return status.ExitStatus(), nil
		case pid == tests.Process.Pid:
			return 1, fmt.Errorf("the tests ended by %v", status.Signal())
		}
	}
}

// furnish makes the island's mounts and brings its loopback up. Engines keep a
// few things at fixed places; those get an empty file system.
//
// Mounts are private towards the host, but shared on the island, as everywhere under
// systemd: podman gives the monitor of mapped users a mount namespace of its own, and relies
// on it that what is unmounted there is gone outside, too.
func furnish() error {
	for _, kind := range []uintptr{unix.MS_PRIVATE, unix.MS_SHARED} {
		if err := unix.Mount("", "/", "", unix.MS_REC|kind, ""); err != nil {
			return fmt.Errorf("set propagation of mounts to %#x: %w", kind, err)
		}
	}
	for _, h := range hierarchies() {
		if err := unix.Mount(filepath.Join(h, os.Getenv(cgroupsVar)), h, "", unix.MS_BIND, ""); err != nil {
			return fmt.Errorf("bind cgroup over %s: %w", h, err)
		}
	}
	if err := nestCgroup2(); err != nil {
		return err
	}
	if err := unix.Mount("proc", "/proc", "proc", 0, ""); err != nil {
		return fmt.Errorf("mount proc: %w", err)
	}
	for _, dir := range []string{"/run", "/dev/shm", "/var/lib/cni", "/var/lib/containers", "/var/lib/docker", "/var/lib/containerd", "/etc/cni"} {
		if _, err := os.Stat(dir); err != nil {
			continue // an engine that is not installed
		}
		if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "mode=755"); err != nil {
			return fmt.Errorf("mount tmpfs on %s: %w", dir, err)
		}
	}
	if err := os.MkdirAll("/run/lock", 0o755); err != nil {
		return err
	}
	if out, err := exec.Command("ip", "link", "set", "lo", "up").CombinedOutput(); err != nil {
		return fmt.Errorf("ip link set lo up: %w\n%s", err, out)
	}
	return unix.Sethostname([]byte("island"))
}

// hierarchies are the mount points of cgroup hierarchies, v1 and v2.
func hierarchies() (dirs []string) {
	text, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return nil
	}
	for line := range strings.Lines(string(text)) {
		before, after, _ := strings.Cut(line, " - ")
		place, kind := strings.Fields(before), strings.Fields(after)
		if len(place) > 4 && len(kind) > 0 && (kind[0] == "cgroup" || kind[0] == "cgroup2") && !slices.Contains(dirs, place[4]) {
			dirs = append(dirs, place[4]) // once, also when another mount covers it
		}
	}
	return dirs
}

// makeCgroup makes an empty group; one of v1's cpuset takes no process before its
// sets are filled in.
func makeCgroup(hierarchy, name string) error {
	dir := filepath.Join(hierarchy, name)
	if err := os.Mkdir(dir, 0o755); err != nil {
		return err
	}
	for _, file := range []string{"cpuset.cpus", "cpuset.mems"} {
		value, err := os.ReadFile(filepath.Join(hierarchy, file))
		if err != nil {
			continue // not this controller, or v2's root
		}
		if err := os.WriteFile(filepath.Join(dir, file), value, 0); err != nil {
			return err
		}
	}
	delegate(hierarchy)
	return nil
}

// nestCgroup2 moves the only process on the island out of the way of v2's rule
// that a group with controllers holds no processes, and hands the controllers on.
func nestCgroup2() error {
	for _, h := range hierarchies() {
		if _, err := os.Stat(filepath.Join(h, "cgroup.subtree_control")); err != nil {
			continue
		}
		leaf := filepath.Join(h, "init")
		if err := os.Mkdir(leaf, 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(leaf, "cgroup.procs"), []byte("0"), 0); err != nil {
			return err
		}
		delegate(h)
	}
	return nil
}

// delegate hands a v2 group's controllers on to its children, as far as that goes.
func delegate(dir string) {
	have, err := os.ReadFile(filepath.Join(dir, "cgroup.controllers"))
	if err != nil {
		return // v1
	}
	for _, controller := range strings.Fields(string(have)) {
		_ = os.WriteFile(filepath.Join(dir, "cgroup.subtree_control"), []byte("+"+controller), 0)
	}
}

// removeCgroups removes the groups of that name with all below. The processes in
// them are dead; the kernel may need a moment to notice.
func removeCgroups(name string) (err error) {
	for _, h := range hierarchies() {
		dir := filepath.Join(h, name)
		for range 100 {
			if err = removeTree(dir); err == nil || !errors.Is(err, unix.EBUSY) {
				break
			}
			time.Sleep(20 * time.Millisecond)
		}
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	return nil
}

// removeTree removes a group and those below it; their files go with them.
func removeTree(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if e.IsDir() {
			if err := removeTree(filepath.Join(dir, e.Name())); err != nil {
				return err
			}
		}
	}
	return unix.Rmdir(dir)
}

// sweepCgroups removes what a killed test program has left.
func sweepCgroups() {
	for _, h := range hierarchies() {
		left, _ := filepath.Glob(filepath.Join(h, islandPrefix+"*"))
		for _, dir := range left {
			name := filepath.Base(dir)
			if pid, err := strconv.Atoi(strings.TrimPrefix(name, islandPrefix)); err == nil && unix.Kill(pid, 0) == unix.ESRCH {
				_ = removeTree(dir)
			}
		}
	}
}
