package testkit

import (
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
)

// TestScratch: a directory of the living stays, one of the killed goes with the
// next.
func TestScratch(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	killed := exec.Command(os.Args[0], "-test.run=^TestHelperScratch$")
	killed.Env = append(os.Environ(), "BOX_TEST_SCRATCH=1")
	err := killed.Run()
	if killed.ProcessState.ExitCode() != -1 {
		t.Fatalf("the helper was not killed: %v", err)
	}
	left, _ := filepath.Glob(filepath.Join(os.TempDir(), scratchPrefix+"*", "file"))
	if len(left) != 1 {
		t.Fatalf("left by the killed: %v", left)
	}
	mine, remove, err := Scratch()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(left[0]); err == nil {
		t.Error("what the killed has left is still there")
	}
	other, removeOther, err := Scratch()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(mine); err != nil || mine == other {
		t.Errorf("%s of the living: %v", mine, err)
	}
	for _, end := range []func() error{remove, removeOther} {
		if err := end(); err != nil {
			t.Error(err)
		}
	}
	if names, _ := os.ReadDir(os.TempDir()); len(names) != 0 {
		t.Errorf("left: %v", names)
	}
}

// TestHelperScratch is killed by itself.
func TestHelperScratch(t *testing.T) {
	if os.Getenv("BOX_TEST_SCRATCH") == "" {
		t.Skip("runs only for other tests")
	}
	dir, _, err := Scratch()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "file"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	self, _ := os.FindProcess(os.Getpid())
	_ = self.Kill()
	select {}
}

// TestScratchAtOnce: makers that sweep one another's fresh directories all get one.
func TestScratchAtOnce(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	var all sync.WaitGroup
	for range 50 {
		all.Go(func() {
			dir, remove, err := Scratch()
			if err != nil {
				t.Error(err)
				return
			}
			if _, err := os.Stat(dir); err != nil {
				t.Error(err)
			}
			if err := remove(); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
}
