package namespaces

import (
	"errors"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"box/internal/testkit"
	"box/pkg/launch"
)

// cgroup2 makes an empty cgroup in the v2 hierarchy and opens it.
func cgroup2(t *testing.T) *os.File {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("needs root: makes a cgroup")
	}
	for _, mount := range []string{"/sys/fs/cgroup", "/sys/fs/cgroup/unified"} {
		var fs unix.Statfs_t
		if unix.Statfs(mount, &fs) != nil || fs.Type != unix.CGROUP2_SUPER_MAGIC {
			continue
		}
		dir, err := os.MkdirTemp(mount, "box-namespaces-test-")
		if errors.Is(err, unix.EROFS) || errors.Is(err, unix.EACCES) {
			t.Skip("needs a cgroup2 hierarchy that it may write to: ", err)
		}
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := os.Remove(dir); err != nil {
				t.Error(err)
			}
		})
		f, err := os.Open(dir)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { f.Close() })
		return f
	}
	t.Skip("needs a cgroup2 hierarchy")
	return nil
}

// TestCgroupNamespaceHasItsRootInTheContainer: what the container sees of the
// hierarchy begins at its own cgroup.
func TestCgroupNamespaceHasItsRootInTheContainer(t *testing.T) {
	dir := cgroup2(t)
	s, err := From(linux("cgroup", "mount"))
	if err != nil {
		t.Fatal(err)
	}
	p := &launch.Plan{ReportFD: 3}
	s.AddCgroup(p)
	p.Add(launch.Step{Name: "exec", Call: launch.Execve, Args: launch.Args{
		launch.Text("/bin/cat"), launch.Strings([]string{"cat", "/proc/self/cgroup"}), launch.Nil,
	}})
	var attr launch.Attr
	s.Configure(&attr.Sys)
	attr.Sys.UseCgroupFD, attr.Sys.CgroupFD = true, int(dir.Fd())
	out, _, failure := testkit.RunPlan(t, p, attr)
	if failure != nil {
		t.Fatal(failure)
	}
	if !strings.HasSuffix(out, "0::/\n") {
		t.Errorf("the program sees itself in %q, want the root", out)
	}
}
