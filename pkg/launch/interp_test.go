package launch

import (
	"bufio"
	"bytes"
	"debug/elf"
	"encoding/binary"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// TestInterpretersAreAssembledFromSource keeps the embedded bytes honest.
func TestInterpretersAreAssembledFromSource(t *testing.T) {
	dir := t.TempDir()
	out, err := exec.Command("interp/assemble.sh", dir).CombinedOutput()
	if err != nil {
		t.Fatalf("assemble.sh: %v\n%s", err, out)
	}
	for _, c := range []struct {
		file     string
		embedded []byte
	}{{"amd64.bin", interpAMD64}, {"arm64.bin", interpARM64}} {
		got, err := os.ReadFile(filepath.Join(dir, c.file))
		if err != nil {
			t.Logf("%s not compared: %s", c.file, bytes.TrimSpace(out)) // its assembler is not installed
			continue
		}
		if !bytes.Equal(got, c.embedded) {
			t.Errorf("%s: the embedded bytes are not what its source gives; run go generate", c.file)
		}
		if codeOffset+len(got) > dataOffset {
			t.Errorf("%s: %d bytes do not fit before the data", c.file, len(got))
		}
	}
}

// TestInterpretersKnowTheDataAddress: the address is written in three places.
func TestInterpretersKnowTheDataAddress(t *testing.T) {
	for _, file := range []string{"interp/amd64.S", "interp/arm64.S"} {
		src, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Contains(src, []byte(".set    DATA, 0x10001000\n")) || dataAddr != 0x10001000 {
			t.Errorf("%s and elf.go do not agree on the address of the data", file)
		}
		if !bytes.Contains(src, []byte(".set    STEP, 80\n")) || stepSize != 80 {
			t.Errorf("%s and compile.go do not agree on the size of a step", file)
		}
	}
}

// TestCallNumbers compares our table with the kernel's, as x/sys has them.
func TestCallNumbers(t *testing.T) {
	out, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "golang.org/x/sys").Output()
	if err != nil {
		t.Skipf("needs the go command and the source of x/sys: %v", err)
	}
	for _, arch := range []string{"amd64", "arm64"} {
		numbers := callNumbers(t, filepath.Join(strings.TrimSpace(string(out)), "unix", "zsysnum_linux_"+arch+".go"))
		if arch == "arm64" {
			numbers["newfstatat"] = numbers["fstatat"]
		}
		c := compiler{arch: Arch(arch)}
		for call := firstSyscall; int(call) < len(calls); call++ {
			want, ok := numbers[call.String()]
			if got := c.number(call); !ok || got != want {
				t.Errorf("%s on %s: number %d, want %d", call, arch, got, want)
			}
		}
	}
}

func callNumbers(t *testing.T, path string) map[string]uint32 {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Skip(err)
	}
	defer f.Close()
	line, numbers := regexp.MustCompile(`^\s+SYS_(\w+)\s+= (\d+)`), map[string]uint32{}
	for s := bufio.NewScanner(f); s.Scan(); {
		if m := line.FindStringSubmatch(s.Text()); m != nil {
			var n uint32
			for _, digit := range m[2] {
				n = 10*n + uint32(digit-'0')
			}
			numbers[strings.ToLower(m[1])] = n
		}
	}
	return numbers
}

func TestELFSegments(t *testing.T) {
	for _, arch := range []Arch{"amd64", "arm64"} {
		p := Plan{ReportFD: 3}
		p.Add(write("hello"))
		b, err := Compile(&p, arch)
		if err != nil {
			t.Fatal(err)
		}
		f, err := elf.NewFile(bytes.NewReader(b))
		if err != nil {
			t.Fatal(err)
		}
		stack := false
		for _, s := range f.Progs {
			if s.Flags&elf.PF_W != 0 && s.Flags&elf.PF_X != 0 {
				t.Errorf("%s: a segment is writable and executable", arch)
			}
			if s.Align != 0 && s.Off%s.Align != s.Vaddr%s.Align {
				t.Errorf("%s: segment at %#x does not agree with its offset %#x", arch, s.Vaddr, s.Off)
			}
			stack = stack || s.Type == elf.PT_GNU_STACK
		}
		if !stack || f.Type != elf.ET_EXEC {
			t.Errorf("%s: stack segment %t, type %v", arch, stack, f.Type)
		}
		if entry := f.Entry - codeAddr; !bytes.Equal(b[entry:entry+8], map[Arch][]byte{"amd64": interpAMD64, "arm64": interpARM64}[arch][:8]) {
			t.Errorf("%s: entry %#x is not the interpreter", arch, f.Entry)
		}
	}
}

// TestARM64 runs everything that the interpreter can do, under user-mode emulation.
// The report pipe is a file, since qemu is the one that is started.
func TestARM64(t *testing.T) {
	qemu, err := exec.LookPath("qemu-aarch64-static")
	if HostArch != "arm64" && err != nil {
		t.Skip("needs qemu-aarch64-static")
	}
	p := Plan{ReportFD: 3}
	everything(&p)
	b, err := Compile(&p, "arm64")
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "program")
	if err := os.WriteFile(file, b, 0o755); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(qemu, file)
	if HostArch == "arm64" {
		cmd = exec.Command(file)
	}
	checkEverything(t, &p, cmd)
}

// TestHostRunsEverything is TestARM64 for the machine at hand.
func TestHostRunsEverything(t *testing.T) {
	p := Plan{ReportFD: 3}
	everything(&p)
	prog, err := NewProgram(&p)
	if err != nil {
		t.Fatal(err)
	}
	defer prog.Close()
	cmd := exec.Command("/proc/self/fd/4")
	cmd.ExtraFiles = []*os.File{nil, prog.file}
	checkEverything(t, &p, cmd)
}

// everything uses each kind of argument, pseudo-call and jump, and fails at the end.
func everything(p *Plan) {
	word, zero := Bytes(make([]byte, 8), nil), Buffer("zero", 16)
	big, low, fd, bad := p.Slot("big"), p.Slot("low"), p.Slot("fd"), p.Slot("bad")
	skip, back, end := p.Label(), p.Label(), p.Label()
	argv := Strings([]string{"a", "b"})
	missing := Step{Name: "open nothing", Call: Openat, Args: Args{Cwd, Text("/nonexistent")}, Into: bad}
	tolerated := missing
	tolerated.Allow = []Allow{{Errno: unix.EPERM}, {AnyErrno, skip}}
	p.Add(
		Step{Name: "set", Call: Set, Args: Args{Int(0x1234567890)}, Into: big},
		Step{Name: "store", Call: Store64, Args: Args{word, big}},
		Step{Name: "store", Call: Store, Args: Args{word.At(4), Int(7)}},
		Step{Name: "load", Call: Load, Args: Args{word}, Into: low},
		Step{Name: "expect low", Call: Expect, Args: Args{low, Int(0xffff), Int(0x7890), Int(unix.EIO)}},
		Step{Name: "load", Call: Load, Args: Args{word.At(4)}, Into: low},
		Step{Name: "expect high", Call: Expect, Args: Args{low, Int(-1), Int(7), Int(unix.EIO)}},
		Step{Name: "load pointer", Call: Load, Args: Args{argv}, Into: low},
		Step{Name: "expect address", Call: Expect, Args: Args{low, Int(0xf0000000), Int(0x10000000), Int(unix.EIO)}},
		Step{Name: "load zero", Call: Load, Args: Args{zero.At(8)}, Into: low},
		Step{Name: "expect zero", Call: Expect, Args: Args{low, Int(-1), Int(0), Int(unix.EIO)}},
		write("1"), tolerated, write("not"), write("reached"),
	)
	p.Place(skip)
	p.Add(
		Step{Name: "expect errno", Call: Expect, Args: Args{bad, Int(-1), Int(-int64(unix.ENOENT)), Int(unix.EIO)}},
		Step{Name: "open", Call: Openat, Args: Args{Cwd, Text("/"), Int(unix.O_CLOEXEC)}, Into: fd},
	)
	p.Place(back)
	p.Add(write("2"), Step{Name: "close", Call: Close, Args: Args{fd}, Allow: []Allow{{unix.EBADF, end}}, Then: back})
	p.Place(end)
	p.Mark("end", "")
	p.Add(missing)
}

func checkEverything(t *testing.T, p *Plan, cmd *exec.Cmd) {
	t.Helper()
	report, err := os.Create(filepath.Join(t.TempDir(), "report"))
	if err != nil {
		t.Fatal(err)
	}
	defer report.Close()
	if cmd.ExtraFiles == nil {
		cmd.ExtraFiles = make([]*os.File, 1)
	}
	cmd.ExtraFiles[0] = report
	out, err := cmd.CombinedOutput()
	if code := cmd.ProcessState.ExitCode(); string(out) != "122" || code != 1 {
		t.Errorf("wrote %q, status %d (%v)", out, code, err)
	}
	if _, err := report.Seek(0, 0); err != nil {
		t.Fatal(err)
	}
	var records [4]uint32
	if err := binary.Read(report, binary.LittleEndian, &records); err != nil {
		t.Fatal(err)
	}
	last := uint32(p.Len() - 1)
	if want := [4]uint32{last - 1, 0, last, uint32(unix.ENOENT)}; records != want {
		t.Errorf("reports %v, want %v", records, want)
	}
}
