package bare

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"box/internal/testkit"
)

// address of what the test keeps.
func address(b []byte) uintptr { return uintptr(unsafe.Pointer(unsafe.SliceData(b))) }

func pipe(t *testing.T) (r, w *os.File) {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		r.Close()
		w.Close()
	})
	return r, w
}

func start(t *testing.T, calls ...*Call) *Thread {
	t.Helper()
	thread, err := Start(calls...)
	if err != nil {
		t.Fatal(err)
	}
	return thread
}

// A call can take what an earlier one has given, and Wait closes what is not to stay.
func TestResults(t *testing.T) {
	name, text := []byte("/dev/zero\x00"), []byte("xxxx")
	at := unix.AT_FDCWD
	open := &Call{Name: "open", Number: unix.SYS_OPENAT, First: Value(uintptr(at)), Second: address(name), Close: true}
	read := &Call{Name: "read", Number: unix.SYS_READ, First: &open.Result, Second: address(text), Third: 3}
	if err := start(t, open, read).Wait(); err != nil {
		t.Fatal(err)
	}
	if read.Result != 3 || string(text) != "\x00\x00\x00x" {
		t.Errorf("read %d bytes: %q", read.Result, text)
	}
	if _, err := unix.FcntlInt(open.Result, unix.F_GETFD, 0); !errors.Is(err, unix.EBADF) {
		t.Errorf("descriptor %d is open: %v", open.Result, err)
	}
}

// After a failure, nothing more is done, and what was opened before is closed.
func TestFailure(t *testing.T) {
	_, w := pipe(t)
	dup := &Call{Name: "duplicate", Number: unix.SYS_DUP, First: Value(w.Fd()), Close: true}
	bad := &Call{Name: "close nothing", Number: unix.SYS_CLOSE, First: Value(^uintptr(0))}
	never := &Call{Name: "duplicate again", Number: unix.SYS_DUP, First: Value(w.Fd())}
	err := start(t, dup, bad, never).Wait()
	if !errors.Is(err, unix.EBADF) || err.Error() != "close nothing: bad file descriptor" {
		t.Error(err)
	}
	if never.Result != 0 {
		t.Errorf("went on: %d", never.Result)
	}
	if _, err := unix.FcntlInt(dup.Result, unix.F_GETFD, 0); !errors.Is(err, unix.EBADF) {
		t.Errorf("descriptor %d is open: %v", dup.Result, err)
	}
}

// Ended is over with the process, and not before.
func TestEnded(t *testing.T) {
	r, w := pipe(t)
	pidfd := -1
	cmd := exec.Command("cat")
	cmd.SysProcAttr = &syscall.SysProcAttr{PidFD: &pidfd}
	stdin, err := cmd.StdinPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	process := os.NewFile(uintptr(pidfd), "pidfd")
	defer process.Close()
	wait := Ended(process)
	thread := start(t, wait, &Call{Name: "write", Number: unix.SYS_WRITE, First: Value(w.Fd()), Second: address([]byte("x")), Third: 1})
	if n, err := unix.Poll([]unix.PollFd{{Fd: int32(r.Fd()), Events: unix.POLLIN}}, 20); n != 0 || err != nil {
		t.Errorf("the process has not ended, and the wait for it has: %d, %v", n, err)
	}
	stdin.Close()
	if err := errors.Join(cmd.Wait(), thread.Wait()); err != nil {
		t.Fatal(err)
	}
	if wait.Result != 1 {
		t.Errorf("ppoll returned %d, want 1", wait.Result)
	}
}

// On keeps the thread, and nobody else, to the processors.
func TestOn(t *testing.T) {
	var all, got unix.CPUSet
	if err := unix.SchedGetaffinity(0, &all); err != nil {
		t.Fatal(err)
	}
	last := len(all)*64 - 1
	for !all.IsSet(last) {
		last--
	}
	mask, is := make([]byte, unsafe.Sizeof(all)), make([]byte, unsafe.Sizeof(all))
	mask[last/8] = 1 << (last % 8)
	ask := &Call{Name: "ask", Number: unix.SYS_SCHED_GETAFFINITY, First: Value(0), Second: uintptr(len(is)), Third: address(is)}
	if err := start(t, On(mask), ask).Wait(); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(is, mask) {
		t.Errorf("the thread may use %x, want %x", is, mask)
	}
	if err := unix.SchedGetaffinity(0, &got); err != nil || got != all {
		t.Errorf("we may use %v, want %v: %v", got, all, err)
	}
}

// What the calls do to the thread stays with it: it is another one than ours.
func TestThreadIsAnother(t *testing.T) {
	testkit.RequireRoot(t)
	own, err := os.Readlink("/proc/self/ns/uts")
	if err != nil {
		t.Fatal(err)
	}
	r, w := pipe(t)
	tid := &Call{Number: unix.SYS_GETTID, First: Value(0)}
	unshare := &Call{Name: "unshare", Number: unix.SYS_UNSHARE, First: Value(unix.CLONE_NEWUTS)}
	block := &Call{Name: "read", Number: unix.SYS_READ, First: Value(r.Fd()), Second: address(make([]byte, 8)), Third: 1}
	ready := &Call{Name: "write", Number: unix.SYS_WRITE, First: Value(w.Fd()), Second: address([]byte("x")), Third: 1}
	thread := start(t, tid, unshare, ready, block, block) // the second read waits for us
	for atomic.LoadUintptr(&block.Result) == 0 {
		runtime.Gosched()
	}
	task := fmt.Sprintf("/proc/self/task/%d", tid.Result)
	if ns, err := os.Readlink(task + "/ns/uts"); err != nil || ns == own {
		t.Errorf("namespace %s, ours %s, %v", ns, own, err)
	}
	const blocked = "SigBlk:\tfffffffffffbfeff\n" // all but KILL and STOP
	if status := testkit.Text(t, task+"/status"); !strings.Contains(status, blocked) {
		t.Errorf("want %q in\n%s", blocked, status)
	}
	if _, err := w.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	if err := thread.Wait(); err != nil {
		t.Fatal(err)
	}
	if now, _ := os.Readlink("/proc/self/ns/uts"); now != own {
		t.Errorf("our namespace is %s, was %s", now, own)
	}
}

// Many at a time, while the Go runtime signals its threads to and fro.
func TestMany(t *testing.T) {
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			for range 200 {
				b := make([]byte, 8)
				random := &Call{Name: "getrandom", Number: unix.SYS_GETRANDOM, First: Value(address(b)), Second: 8}
				thread, err := Start(random)
				if err == nil {
					err = thread.Wait()
				}
				if err != nil || random.Result != 8 || binary.NativeEndian.Uint64(b) == 0 {
					t.Errorf("%v, %d, %x", err, random.Result, b)
				}
				runtime.GC()
			}
		})
	}
	all.Wait()
}

// The signals of the caller are what they were.
func TestSignalsStay(t *testing.T) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	mask := func() (s unix.Sigset_t) {
		if err := unix.PthreadSigmask(unix.SIG_BLOCK, nil, &s); err != nil {
			t.Fatal(err)
		}
		return s
	}
	before := mask()
	if err := start(t, &Call{Number: unix.SYS_GETTID, First: Value(0)}).Wait(); err != nil {
		t.Fatal(err)
	}
	if after := mask(); after != before {
		t.Errorf("blocked: %v, before %v", after, before)
	}
}

// The other machine's code is tried in an emulator.
func TestEmulated(t *testing.T) {
	arch, emulator := "arm64", "qemu-aarch64-static"
	if runtime.GOARCH == arch {
		arch, emulator = "amd64", "qemu-x86_64-static"
	}
	testkit.RequireBinary(t, emulator)
	binary := filepath.Join(t.TempDir(), "bare.test")
	build := exec.Command("go", "test", "-c", "-o", binary, ".")
	build.Env = append(os.Environ(), "GOARCH="+arch, "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if out, err := exec.Command(emulator, binary, "-test.run=TestResults|TestFailure|TestSignalsStay").CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}
