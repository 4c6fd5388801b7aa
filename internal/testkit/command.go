package testkit

import (
	"errors"
	"io"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// Finish runs a command and returns what it has written to its two streams and its exit
// code. Files and not pipes take the output: what stays in the background must not hold
// the test up.
func Finish(t testing.TB, cmd *exec.Cmd) (out, errs string, code int) {
	t.Helper()
	var files [2]*os.File
	for i := range files {
		f, err := os.CreateTemp("", "box-test-output")
		if err != nil {
			t.Fatal(err)
		}
		defer os.Remove(f.Name()) // not before: tests look at the names of what is open
		defer f.Close()
		files[i] = f
	}
	cmd.Stdout, cmd.Stderr = files[0], files[1]
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return written(t, files[0]), written(t, files[1]), cmd.ProcessState.ExitCode()
}

// written is what a file holds. It is not opened by its name: a runtime gives the
// streams to the container's user, who may be a stranger here.
func written(t testing.TB, f *os.File) string {
	t.Helper()
	data, err := io.ReadAll(io.NewSectionReader(f, 0, math.MaxInt64))
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// Text is the content of a file.
func Text(t testing.TB, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// CheckContainerGone reports what is left of containers: their state below the root of
// the runtime, cgroups that begin with the path group, and mounts below dirs.
func CheckContainerGone(t testing.TB, root, group string, dirs ...string) {
	t.Helper()
	left, err := os.ReadDir(root)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Error(err)
	}
	for _, e := range left {
		t.Errorf("state left behind: %s", e.Name())
	}
	groups, _ := filepath.Glob(group + "*")
	for _, g := range groups {
		t.Errorf("cgroup left behind: %s", g)
		_ = os.WriteFile(g+"/cgroup.kill", []byte("1"), 0) // for the tests that follow
	}
	for line := range strings.Lines(Text(t, "/proc/self/mounts")) {
		if slices.ContainsFunc(dirs, func(dir string) bool { return strings.Contains(line, dir) }) {
			t.Errorf("mount left behind: %s", line)
		}
	}
}
