package admit_test

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"box/internal/testkit"
)

// places is what there is for the one processor that the guests may use.
const places = 2

// Commands of semctl(2) and semget(2).
const (
	getValue   = 12 // GETVAL
	getWaiting = 14 // GETNCNT
	setValues  = 17 // SETALL
	makeSet    = 0o1000
)

var guestDir string

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "admit-test-")
	if err == nil {
		err = os.Chmod(dir, 0o755) // for guests that are not root
	}
	for _, arch := range []string{"amd64", "arm64"} {
		build := exec.Command("go", "build", "-ldflags", "-E admit_rt0", "-o", filepath.Join(dir, arch), "./testdata/guest")
		build.Env = append(os.Environ(), "CGO_ENABLED=0", "GOARCH="+arch)
		if out, buildErr := build.CombinedOutput(); buildErr != nil && err == nil {
			err = fmt.Errorf("build guest: %w\n%s", buildErr, out)
		}
	}
	code := 1
	if guestDir = dir; err == nil {
		code = m.Run()
	} else {
		fmt.Fprintln(os.Stderr, err)
	}
	os.RemoveAll(dir)
	os.Exit(code)
}

// hall is an IPC namespace and a processor of our own. All its guests are started by
// the thread of the test, which ends with it.
type hall struct {
	*testing.T
	argv []string    // of a guest, before its arguments
	all  unix.CPUSet // the processors that the test was given
}

// eachHall runs a test with the guests of all architectures that can run here.
func eachHall(t *testing.T, test func(h *hall)) {
	testkit.RequireRoot(t)
	for _, arch := range []string{"amd64", "arm64"} {
		t.Run(arch, func(t *testing.T) {
			lookAtSources(t)
			h := &hall{T: t, argv: []string{filepath.Join(guestDir, arch)}}
			if arch != runtime.GOARCH {
				emulator := map[string]string{"amd64": "qemu-x86_64-static", "arm64": "qemu-aarch64-static"}[arch]
				testkit.RequireBinary(t, emulator)
				h.argv = []string{emulator, h.argv[0]}
			}
			runtime.LockOSThread() // and never unlocked
			if err := unix.Unshare(unix.CLONE_NEWIPC); err != nil {
				t.Fatal(err)
			}
			var one unix.CPUSet
			if err := unix.SchedGetaffinity(0, &h.all); err != nil {
				t.Fatal(err)
			}
			for cpu := 0; one.Count() == 0; cpu++ {
				if h.all.IsSet(cpu) {
					one.Set(cpu)
				}
			}
			if err := unix.SchedSetaffinity(0, &one); err != nil {
				t.Fatal(err)
			}
			test(h)
		})
	}
}

// lookAtSources has go test know that the guests are made of them.
func lookAtSources(t *testing.T) {
	t.Helper()
	for _, pattern := range []string{"*.go", "*.s", "testdata/guest/*.go"} {
		sources, err := filepath.Glob(pattern)
		if err != nil || len(sources) == 0 {
			t.Fatalf("%s: %v, %v", pattern, sources, err)
		}
		for _, source := range sources {
			if _, err := os.Stat(source); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// guest is a started program.
type guest struct {
	h     *hall
	cmd   *exec.Cmd
	stdin io.Closer
	out   *bufio.Reader
	tell  io.Writer
}

// start starts a guest with the arguments; how, if not nil, changes the command.
func (h *hall) start(how func(*exec.Cmd), args ...string) *guest {
	h.Helper()
	cmd := exec.Command(h.argv[0], append(h.argv[1:], args...)...)
	stdin, err := cmd.StdinPipe()
	if err != nil {
		h.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		h.Fatal(err)
	}
	cmd.Stderr = os.Stderr
	if how != nil {
		how(cmd)
	}
	if err := cmd.Start(); err != nil {
		h.Fatal(err)
	}
	h.Cleanup(func() {
		stdin.Close()
		_ = cmd.Wait() // some are killed
	})
	return &guest{h, cmd, stdin, bufio.NewReader(stdout), stdin}
}

// says waits for the guest's next line.
func (g *guest) says(want string) {
	g.h.Helper()
	if got, err := g.out.ReadString('\n'); got != want+"\n" || err != nil {
		g.h.Fatalf("guest says %q, %v, want %q", got, err, want)
	}
}

// fill starts as many guests as there are places.
func (h *hall) fill() (in []*guest) {
	for range places {
		g := h.start(nil, "run")
		g.says("in")
		in = append(in, g)
	}
	return in
}

// set is the semaphore set of root for one processor; it exists when a guest has run.
func (h *hall) set(flags int) uintptr {
	h.Helper()
	set, _, errno := unix.Syscall(unix.SYS_SEMGET, 0x0b0c0000^places, 2, uintptr(flags))
	if errno != 0 {
		h.Fatalf("semget: %v", errno)
	}
	return set
}

// setValues sets the free places, and whether the set is in use.
func (h *hall) setValues(values ...uint16) {
	h.Helper()
	p := unsafe.Pointer(unsafe.SliceData(values))
	if _, _, errno := unix.Syscall6(unix.SYS_SEMCTL, h.set(0), 0, setValues, uintptr(p), 0, 0); errno != 0 {
		h.Fatalf("semctl: %v", errno)
	}
}

// waiting is the number of guests that wait.
func (h *hall) waiting() int {
	n, _, errno := unix.Syscall(unix.SYS_SEMCTL, h.set(0), 0, getWaiting)
	if errno != 0 {
		h.Fatalf("semctl: %v", errno)
	}
	return int(n)
}

// wantFree checks how many places are free.
func (h *hall) wantFree(want int) {
	h.Helper()
	if got, _, errno := unix.Syscall(unix.SYS_SEMCTL, h.set(0), 0, getValue); errno != 0 || int(got) != want {
		h.Fatalf("%d places are free (%v), want %d", int(got), errno, want)
	}
}

// kill kills guests, and waits until they are dead.
func (h *hall) kill(guests ...*guest) {
	h.Helper()
	for _, g := range guests {
		if err := g.cmd.Process.Kill(); err != nil {
			h.Fatal(err)
		}
		_ = g.cmd.Wait()
	}
}

// awaitWaiting returns when so many guests wait. The kernel tells nobody of it.
func (h *hall) awaitWaiting(n int) {
	h.Helper()
	for range 10_000 {
		if h.waiting() == n {
			return
		}
		_, _ = unix.Poll(nil, 1)
	}
	h.Fatalf("%d guests wait, want %d", h.waiting(), n)
}

func TestKilledHolderGivesItsPlaceBack(t *testing.T) {
	eachHall(t, func(h *hall) {
		in := h.fill()
		for free := range places {
			h.wantFree(free)
			h.kill(in[free])
		}
		h.wantFree(places)
	})
}

func TestLeaveGivesThePlaceBackOnce(t *testing.T) {
	eachHall(t, func(h *hall) {
		in := h.fill()
		late := []*guest{h.start(nil, "create", "--bundle", "b", "id"), h.start(nil, "--root", "r", "run")}
		h.awaitWaiting(2)
		for range 2 { // the second time gives nothing
			fmt.Fprintln(in[0].tell)
			in[0].says("left")
		}
		h.kill(in[0])
		h.awaitWaiting(1)
		h.kill(in[1])
		for _, g := range late {
			g.says("in")
		}
		h.wantFree(0)
		h.kill(late...)
		h.wantFree(places)
	})
}

func TestNobodyWaitsForEver(t *testing.T) {
	eachHall(t, func(h *hall) {
		h.fill()
		h.start(nil, "run").says("in") // takes the two seconds
	})
}

// TestWaitsWhileOthersGetOn: on a busy machine, two seconds are not enough for all.
func TestWaitsWhileOthersGetOn(t *testing.T) {
	eachHall(t, func(h *hall) {
		h.fill()
		late := h.start(nil, "run")
		h.awaitWaiting(1)
		for range 35 { // tenths of a second
			_, _ = unix.Poll(nil, 100)
			other := struct{ number, operation, flags uint16 }{1, 1, 0} // struct sembuf
			if _, _, errno := unix.Syscall(unix.SYS_SEMOP, h.set(0), uintptr(unsafe.Pointer(&other)), 1); errno != 0 {
				t.Fatal(errno)
			}
		}
		if n := h.waiting(); n != 1 {
			t.Errorf("%d guests wait, want 1", n)
		}
		late.says("in")
	})
}

func TestOnlyMakersWait(t *testing.T) {
	eachHall(t, func(h *hall) {
		h.fill()
		for _, args := range [][]string{
			{}, {""}, {"r"}, {"runc"}, {"ru"}, {"creat"}, {"creates"}, {"start", "id"}, {"exec", "id", "nun"}, {"crea"},
		} {
			h.start(nil, args...).says("in")
			if n := h.waiting(); n != 0 {
				t.Errorf("%q: %d guests wait", args, n)
			}
		}
	})
}

// TestStrangersSetIsNotWaitedFor: anybody may make a set under our key, and take all of
// its places.
func TestStrangersSetIsNotWaitedFor(t *testing.T) {
	eachHall(t, func(h *hall) {
		h.asNobody(func() {
			h.set(makeSet | 0o666)
			h.setValues(0, 1)
		})
		g := h.start(nil, "run")
		done := make(chan bool)
		go func() {
			g.says("in")
			close(done)
		}()
		for {
			select {
			case <-done:
				return
			default:
			}
			if n := h.waiting(); n != 0 {
				t.Errorf("%d guests wait", n)
				return
			}
		}
	})
}

// TestUserWithoutAccessGoesOn: what is not theirs, they cannot wait for.
func TestUserWithoutAccessGoesOn(t *testing.T) {
	eachHall(t, func(h *hall) {
		const user = 65534
		key := 0x0b0c0000 ^ user<<13 ^ places
		if _, _, errno := unix.Syscall(unix.SYS_SEMGET, uintptr(int32(key)), 2, makeSet|0o600); errno != 0 {
			t.Fatal(errno)
		}
		h.start(func(cmd *exec.Cmd) {
			cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: user, Gid: user}}
		}, "run").says("in")
	})
}

// asNobody does something with another user's id on the thread of the test.
func (h *hall) asNobody(do func()) {
	h.Helper()
	if _, _, errno := unix.RawSyscall(unix.SYS_SETRESUID, ^uintptr(0), 65534, ^uintptr(0)); errno != 0 {
		h.Fatal(errno)
	}
	do()
	if _, _, errno := unix.RawSyscall(unix.SYS_SETRESUID, ^uintptr(0), 0, ^uintptr(0)); errno != 0 {
		h.Fatal(errno)
	}
}

// TestRemovedSet: an administrator may remove what nobody seems to use.
func TestRemovedSet(t *testing.T) {
	eachHall(t, func(h *hall) {
		in := h.fill()
		late := h.start(nil, "run")
		h.awaitWaiting(1)
		if _, _, errno := unix.Syscall(unix.SYS_SEMCTL, h.set(0), 0, unix.IPC_RMID); errno != 0 {
			t.Fatal(errno)
		}
		late.says("in")
		fmt.Fprintln(in[0].tell)
		in[0].says("left")
		h.fill() // a new set has all its places
	})
}

// TestSetThatWasNeverFilled: its maker was killed before it could.
func TestSetThatWasNeverFilled(t *testing.T) {
	eachHall(t, func(h *hall) {
		h.set(makeSet | 0o600)
		h.fill()
		late := h.start(nil, "run")
		h.awaitWaiting(1)
		h.setValues(1, 1)
		late.says("in")
	})
}

// TestEntryPointIsLinked: without it everything works, but nobody waits.
func TestEntryPointIsLinked(t *testing.T) {
	for _, file := range []string{"../../Makefile", "../testkit/build.go"} {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if !regexp.MustCompile("-ldflags[ =']+box/cmd/box-runtime=.*-E admit_rt0").Match(text) {
			t.Errorf("%s: box-runtime is not linked with the entry point of this package", file)
		}
	}
}

// A program stays on one of its processors, with all its threads, until it spreads.
func TestSpread(t *testing.T) {
	eachHall(t, func(h *hall) {
		if h.all.Count() < 2 {
			t.Skip("needs two processors")
		}
		if err := unix.SchedSetaffinity(0, &h.all); err != nil {
			t.Fatal(err)
		}
		for _, verb := range []string{"state", "run"} {
			g := h.start(nil, verb)
			g.says("in")
			for thread, cpus := range g.processors() {
				if cpus.Count() != 1 {
					t.Errorf("%s: thread %s may use %d processors, want 1", verb, thread, cpus.Count())
				}
			}
			fmt.Fprintln(g.tell, "spread")
			g.says("spread")
			for thread, cpus := range g.processors() {
				if cpus != h.all {
					t.Errorf("%s: thread %s may use %d processors, want %d", verb, thread, cpus.Count(), h.all.Count())
				}
			}
		}
	})
}

// TestOthers: all processors that we were given but the one that we are kept to, and none
// when we are not.
func TestOthers(t *testing.T) {
	eachHall(t, func(h *hall) {
		if err := unix.SchedSetaffinity(0, &h.all); err != nil {
			t.Fatal(err)
		}
		g := h.start(nil, "run")
		g.says("in")
		var others string
		for cpu := range len(h.all) * 64 {
			free := h.all.IsSet(cpu)
			for _, kept := range g.processors() {
				free = free && !kept.IsSet(cpu)
			}
			if free {
				others += fmt.Sprint(cpu, " ")
			}
		}
		fmt.Fprintln(g.tell, "others")
		g.says(others)
		fmt.Fprintln(g.tell, "spread")
		g.says("spread")
		fmt.Fprintln(g.tell, "others")
		g.says("")
	})
}

// processors is what the guest's threads may use. An emulator's own threads, which are
// none of the program's, are left out.
func (g *guest) processors() map[string]unix.CPUSet {
	g.h.Helper()
	threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*", g.cmd.Process.Pid))
	if err != nil {
		g.h.Fatal(err)
	}
	if len(g.h.argv) > 1 {
		threads = []string{strconv.Itoa(g.cmd.Process.Pid)}
	}
	out := map[string]unix.CPUSet{}
	for _, thread := range threads {
		tid, err := strconv.Atoi(filepath.Base(thread))
		if err != nil {
			g.h.Fatal(err)
		}
		var cpus unix.CPUSet
		if err := unix.SchedGetaffinity(tid, &cpus); err != nil {
			g.h.Fatal(err)
		}
		out[thread] = cpus
	}
	return out
}

// TestFiles: the limit of open files is as it was given, for us, whom the Go runtime lets
// use all of it, and for whom we start.
func TestFiles(t *testing.T) {
	eachHall(t, func(h *hall) {
		g := h.start(func(cmd *exec.Cmd) {
			shell := exec.Command("sh", append([]string{"-c", `ulimit -Sn 100; ulimit -Hn 200; exec "$@"`, ""}, cmd.Args...)...)
			cmd.Path, cmd.Args = shell.Path, shell.Args
		}, "state")
		g.says("in")
		var own unix.Rlimit
		if err := unix.Prlimit(g.cmd.Process.Pid, unix.RLIMIT_NOFILE, nil, &own); err != nil {
			t.Fatal(err)
		}
		if own.Cur < 100 || own.Max != 200 {
			t.Errorf("the guest may have %d of %d files, want at least 100 of 200", own.Cur, own.Max)
		}
		fmt.Fprintln(g.tell, "ulimit -Sn; ulimit -Hn")
		for range 2 {
			g.says("100")
			g.says("200")
		}
	})
}

// TestStarting: whom we start knows nothing of the slack that we give ourselves, not even
// as its default, from whichever thread it is started.
func TestStarting(t *testing.T) {
	const given, longer = 70_000, "5000000"
	eachHall(t, func(h *hall) {
		if err := unix.SchedSetaffinity(0, &h.all); err != nil {
			t.Fatal(err)
		}
		if err := unix.Prctl(unix.PR_SET_TIMERSLACK, given, 0, 0, 0); err != nil {
			t.Fatal(err)
		}
		g := h.start(nil, "state")
		g.says("in")
		quiet := 0
		for thread := range g.processors() {
			slack, err := os.ReadFile(filepath.Join("/proc", filepath.Base(thread), "timerslack_ns"))
			if err != nil {
				t.Fatal(err)
			}
			if strings.TrimSpace(string(slack)) == longer {
				quiet++
			}
		}
		if quiet < min(2, len(g.processors())) { // the watcher, too
			t.Errorf("%d threads have a slack of %s ns", quiet, longer)
		}
		fmt.Fprintln(g.tell, `f=/proc/self/timerslack_ns; read now <$f; echo 0 >$f; read default <$f; echo $now $default; nproc`)
		for range 2 {
			g.says(fmt.Sprintf("%d %d", given, given))
			g.says(strconv.Itoa(h.all.Count()))
		}
	})
}

// TestStartingStays: os/exec looks for the program, and opens files for it, before it starts
// it, and the Go runtime may go on after a system call on another thread.
func TestStartingStays(t *testing.T) {
	eachHall(t, func(h *hall) {
		if h.all.Count() < 2 {
			t.Skip("needs two processors")
		}
		if err := unix.SchedSetaffinity(0, &h.all); err != nil {
			t.Fatal(err)
		}
		g := h.start(nil, "state")
		g.says("in")
		fmt.Fprintln(g.tell, "stay")
		g.says("stayed")
	})
}
