package testkit

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"box/internal/testkit/vm"
)

// entry is the part of the Makefile's flags that changes what a program does: where
// box-runtime begins (package admit).
const entry = "-ldflags=box/cmd/box-runtime=-E admit_rt0"

// Compile builds programs of the module, as "./cmd/box-runtime", and as they are
// shipped: static, and with their entry points. Out is the absolute path of a file,
// or of a directory if it ends in a slash.
func Compile(out string, programs ...string) error {
	if err := LookAtSources(programs...); err != nil {
		return err
	}
	return goTool(append([]string{"build", "-tags", "urfave_cli_no_docs", entry, "-o", out}, programs...)...)
}

// Build builds one of the module's programs, as "./cmd/box-runtime", or with
// test set a package's test binary, static, and returns its path.
func Build(t testing.TB, pkg string, test bool) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.Chmod(filepath.Dir(dir), 0o755); err != nil { // for users in the machine
		t.Fatal(err)
	}
	out := filepath.Join(dir, filepath.Base(pkg))
	err := LookAtSources(pkg)
	switch {
	case err != nil:
	case test:
		err = goTool("test", "-c", "-o", out, pkg)
	default:
		err = Compile(out, pkg)
	}
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// LookAtSources has `go test` know that what follows depends on the module's sources but
// for its tests, and on those in more directories. It keeps a result as long as the files
// are the same that the test program has looked at itself, and what is in the programs
// that a test runs, it does not see. Compile and Build call it; a TestMain is too early.
func LookAtSources(more ...string) error {
	if os.Getenv(vm.InsideVariable) != "" {
		return nil // nothing is kept from in there
	}
	for _, name := range append([]string{"cmd", "internal", "pkg", "go.mod", "go.sum"}, more...) {
		err := filepath.WalkDir(filepath.Join(source(), strings.TrimSuffix(name, "/...")), func(_ string, _ os.DirEntry, err error) error { return err })
		if err != nil {
			return err
		}
	}
	return nil
}

// goTool runs go in the checkout.
func goTool(args ...string) error {
	cmd := exec.Command("go", args...)
	cmd.Dir, cmd.Env = source(), append(os.Environ(), "CGO_ENABLED=0")
	if text, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("go %v: %w\n%s", args, err, text)
	}
	return nil
}

// source is the root of the checkout.
func source() string {
	_, self, _, _ := runtime.Caller(0)
	return filepath.Join(filepath.Dir(self), "../..")
}
