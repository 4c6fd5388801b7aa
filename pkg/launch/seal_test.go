package launch

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func hello(t *testing.T) []byte {
	t.Helper()
	p := Plan{ReportFD: 3}
	p.Add(write("hello"))
	b, err := Compile(&p, HostArch)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestSealedProgramCannotChange: nobody who gets at the file, through /proc/PID/exe
// for one, can change what runs (CVE-2019-5736).
func TestSealedProgramCannotChange(t *testing.T) {
	f, err := seal(hello(t))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteAt([]byte("x"), 0); !errors.Is(err, unix.EPERM) {
		t.Errorf("write = %v, want EPERM", err)
	}
	if err := f.Truncate(0); !errors.Is(err, unix.EPERM) {
		t.Errorf("truncate = %v, want EPERM", err)
	}
	if seals, err := unix.FcntlInt(f.Fd(), unix.F_GET_SEALS, 0); err != nil || seals&unix.F_SEAL_SEAL == 0 {
		t.Errorf("seals = %#x, %v", seals, err)
	}
}

// TestUnlinkedFallback runs a program from where memfds are forbidden.
func TestUnlinkedFallback(t *testing.T) {
	f, err := sealUnlinked(hello(t))
	if errors.Is(err, unix.EACCES) {
		t.Skipf("all directories for it forbid executables: %v", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	p := Plan{ReportFD: 3}
	p.Add(write("hello"))
	prog := &Program{&p, f}
	defer prog.Close()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	proc, err := prog.Start(Attr{Files: []*os.File{nil, w}})
	w.Close()
	if err != nil {
		t.Fatal(err)
	}
	defer proc.Close()
	if _, status, err := finish(t, proc); err != nil || status != 0 {
		t.Errorf("%v, status %d", err, status)
	}
	buf := make([]byte, 16)
	if n, err := r.Read(buf); string(buf[:n]) != "hello" {
		t.Errorf("wrote %q, %v", buf[:n], err)
	}
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil || st.Nlink != 0 {
		t.Errorf("the file has %d names, %v", st.Nlink, err)
	}
}

// TestProgramIsSmall: what a created container costs while it waits.
func TestProgramIsSmall(t *testing.T) {
	var p Plan
	p.Mark("runs", "Start returns while the kernel still sets up arguments and memory")
	p.Await(Int(0), "wait", "")
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	proc := start(t, &p, Attr{Files: []*os.File{r}})
	r.Close()
	if mark, err := proc.Report(); mark != "runs" {
		t.Fatalf("report %q, %v", mark, err)
	}
	comm, err := os.ReadFile("/proc/" + strconv.Itoa(proc.Pid) + "/cmdline")
	if err != nil || string(comm) != "box-launch\x00" {
		t.Errorf("cmdline %q, %v", comm, err)
	}
	if exe, err := os.Readlink("/proc/" + strconv.Itoa(proc.Pid) + "/exe"); !strings.Contains(exe, "memfd:box-launch") {
		t.Errorf("exe is %q, %v", exe, err)
	}
	if kb := anonymousKB(t, proc.Pid); kb > 32 {
		t.Errorf("the waiting program holds %d kB", kb)
	}
	if _, err := w.Write([]byte(".")); err != nil {
		t.Fatal(err)
	}
	w.Close()
	if _, status, err := finish(t, proc); err != nil || status != 0 {
		t.Errorf("%v, status %d", err, status)
	}
}

// anonymousKB is the memory that belongs to the process alone.
func anonymousKB(t *testing.T, pid int) (kb int) {
	t.Helper()
	status, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/status")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, ok := strings.Cut(string(status), "RssAnon:")
	line, _, _ := strings.Cut(rest, "\n")
	if _, err := fmt.Sscan(line, &kb); !ok || err != nil {
		t.Fatalf("no RssAnon in the status of %d: %v", pid, err)
	}
	t.Logf("the program holds %d kB of its own", kb)
	return kb
}
