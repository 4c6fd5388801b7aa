package main

import (
	"debug/elf"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
)

func TestImagesAreLaidOutAsUsual(t *testing.T) {
	for name, c := range map[string]struct{ has, without, want string }{
		"dev is added":       {has: "bin proc", want: "./ ./bin/ ./dev/ ./proc/"},
		"dev is there":       {has: "bin dev/pts", want: "./ ./bin/ ./dev/ ./dev/pts/"},
		"what is in the way": {has: "bin dev proc sys", without: "./proc ./sys", want: "./ ./bin/ ./dev/"},
	} {
		dir := t.TempDir()
		const pack = `mkdir root && cd root && mkdir -p $1 && tar -cf - . | gzip >../archive`
		cmd := exec.Command("sh", "-ec", pack, "pack", c.has)
		cmd.Dir = dir
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		target := filepath.Join(dir, "target")
		if err := repack(t.Context(), filepath.Join(dir, "archive"), target, c.without); err != nil {
			t.Fatal(err)
		}
		list, err := exec.Command("tar", "-tzf", target).Output()
		if err != nil {
			t.Fatal(err)
		}
		got := strings.Fields(string(list))
		slices.Sort(got)
		if want := strings.Fields(c.want); !slices.Equal(got, want) {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
}

func TestStandInsTakeThePlaceOfPrograms(t *testing.T) {
	work := t.TempDir()
	for _, dir := range []string{"instead", "absent"} {
		if err := os.Mkdir(filepath.Join(work, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := writeStandIns(work); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command(filepath.Join(work, "instead", "go"), "env", "GOARCH").Output(); string(out) != runtime.GOARCH+"\n" {
		t.Errorf("go says %q, %v", out, err)
	}
	udevadm := filepath.Join(work, "absent", "udevadm")
	if out, err := exec.Command(udevadm, "settle").CombinedOutput(); err != nil {
		t.Errorf("udevadm settle: %v: %s", err, out)
	}
	if exec.Command(udevadm, "trigger").Run() == nil {
		t.Error("udevadm did what only udev can do")
	}
}

// A helper that wants a dynamic linker is not found in a container ("no such file or
// directory"), with either runtime.
func TestHelpersOfContainersAreStatic(t *testing.T) {
	for _, name := range staticHelpers {
		program, err := elf.Open(filepath.Join(suite{dir: cacheDir()}.source(), "tests", "cmd", "_bin", name))
		if os.IsNotExist(err) {
			t.Skip("runc's suite is not built on this machine")
		}
		if err != nil {
			t.Fatal(err)
		}
		defer program.Close()
		if slices.ContainsFunc(program.Progs, func(p *elf.Prog) bool { return p.Type == elf.PT_INTERP }) {
			t.Errorf("%s is linked dynamically; remove %s and make it again", name, cacheDir())
		}
	}
}
