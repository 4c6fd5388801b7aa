package kernfs

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// nested makes directories in one another, deeper than any path can tell, and writes a
// process into the cgroup.procs of each. What is left of them goes after the test.
func nested(t *testing.T, top string, depth int) {
	t.Helper()
	name := strings.Repeat("d", 200)
	dir, err := unix.Open(top, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	for n := 0; n < depth && err == nil; n++ {
		below := -1
		if err = unix.Mkdirat(dir, name, 0o755); err == nil {
			below, err = unix.Openat(dir, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		}
		unix.Close(dir)
		if dir = below; err == nil {
			err = writeProcs(dir, n+1)
		}
	}
	unix.Close(dir)
	if err != nil {
		t.Fatal(err)
	}
}

func writeProcs(dir, pid int) error {
	fd, err := unix.Openat(dir, "cgroup.procs", unix.O_WRONLY|unix.O_CREAT|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return err
	}
	_, err = unix.Write(fd, []byte(strconv.Itoa(pid)+"\n"))
	return errors.Join(err, unix.Close(fd))
}

// Groups that are nested deeper than PATH_MAX are counted: a container could hide its
// processes there otherwise.
func TestProcsBeyondPathMax(t *testing.T) {
	top := t.TempDir()
	const depth = 30 // of 200 characters each, where paths have 4096
	nested(t, top, depth)
	pids, err := Procs(top)
	if err != nil || len(pids) != depth || pids[depth-1] != depth {
		t.Errorf("%v, %v", pids, err)
	}
}

// And they are removed; what cannot be stops it, with its name. The file system of the
// tests keeps directories that have files, as cgroupfs keeps groups that have processes.
func TestRemoveTreeBeyondPathMax(t *testing.T) {
	top := filepath.Join(t.TempDir(), "top")
	if err := os.MkdirAll(top+"/b/c", 0o755); err != nil {
		t.Fatal(err)
	}
	dir, err := unix.Open(top, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	for n := 0; n < 40 && err == nil; n++ {
		for _, name := range []string{"side", "deep" + strings.Repeat("d", 200)} {
			err = errors.Join(err, unix.Mkdirat(dir, name, 0o755))
		}
		below, oerr := unix.Openat(dir, "deep"+strings.Repeat("d", 200), unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		unix.Close(dir)
		dir, err = below, errors.Join(err, oerr)
	}
	unix.Close(dir)
	if err != nil {
		t.Fatal(err)
	}
	before := descriptors(t)
	if err := RemoveTree(top); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Lstat(top); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("left: %v", err)
	}
	if after := descriptors(t); after != before {
		t.Errorf("%d descriptors, %d before", after, before)
	}
}

func TestRemoveTreeOfABusyGroup(t *testing.T) {
	top := t.TempDir()
	for _, dir := range []string{"a/empty", "a/busy", "a/z"} {
		if err := os.MkdirAll(filepath.Join(top, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(top+"/a/busy/cgroup.procs", nil, 0o600); err != nil {
		t.Fatal(err)
	}
	before := descriptors(t)
	if err := RemoveTree(top); !errors.Is(err, unix.ENOTEMPTY) || !strings.Contains(err.Error(), "rmdir busy: ") {
		t.Errorf("have %v", err)
	}
	if after := descriptors(t); after != before {
		t.Errorf("%d descriptors, %d before", after, before)
	}
}

// Order and number of groups do not matter, nor links that are none of the kernel's.
func TestProcsOfAWideTree(t *testing.T) {
	top := t.TempDir()
	var want []int
	for n := 1; n <= 60; n++ {
		dir := filepath.Join(top, fmt.Sprintf("g%d/h%d", n%7, n))
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(dir+"/cgroup.procs", []byte(strconv.Itoa(n)+"\n1\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		want = append(want, n)
	}
	if err := os.Symlink(top, top+"/g1/loop"); err != nil {
		t.Fatal(err)
	}
	if have, err := Procs(top, top+"/g2", top+"/none"); err != nil || !slices.Equal(have, want) {
		t.Errorf("%v, %v", have, err)
	}
	if err := os.WriteFile(top+"/g3/h3/cgroup.procs", []byte("x\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if have, err := Procs(top); err == nil {
		t.Errorf("garbage is read as %v", have)
	}
}

// descriptors counts our open files.
func descriptors(t *testing.T) int {
	t.Helper()
	list, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(list)
}
