package rootfs

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"box/internal/testkit"
	"box/pkg/launch"
	"box/pkg/namespaces"
)

// needRoot skips tests that make namespaces and mounts where that is not possible,
// and checks that they leave nothing behind.
func needRoot(t *testing.T) {
	t.Helper()
	testkit.RequireRoot(t)
	testkit.Leaks(t, filepath.Dir(t.TempDir()))
}

// busybox is a root directory with a static busybox in it.
func busybox(t *testing.T) string {
	t.Helper()
	bin, err := exec.LookPath("busybox")
	if err != nil {
		t.Skip("needs a static busybox in PATH")
	}
	root := filepath.Join(t.TempDir(), "rootfs")
	for _, d := range []string{"bin", "proc", "sys", "dev", "etc", "tmp"} {
		mkdir(t, filepath.Join(root, d))
	}
	data, err := os.ReadFile(bin)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(root, "bin/busybox"), data, 0o755); err != nil {
		t.Fatal(err)
	}
	return root
}

func mkdir(t *testing.T, dir string) {
	t.Helper()
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
}

// standard is a spec with the mounts, masks and namespaces that runc's default has.
func standard(root string) *specs.Spec {
	return &specs.Spec{
		Root: &specs.Root{Path: root},
		Mounts: []specs.Mount{
			{Destination: "/proc", Type: "proc", Source: "proc"},
			{Destination: "/dev", Type: "tmpfs", Source: "tmpfs", Options: []string{"nosuid", "strictatime", "mode=755", "size=65536k"}},
			{Destination: "/dev/pts", Type: "devpts", Source: "devpts", Options: []string{"nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"}},
			{Destination: "/dev/shm", Type: "tmpfs", Source: "shm", Options: []string{"nosuid", "noexec", "nodev", "mode=1777", "size=65536k"}},
			{Destination: "/dev/mqueue", Type: "mqueue", Source: "mqueue", Options: []string{"nosuid", "noexec", "nodev"}},
			{Destination: "/sys", Type: "sysfs", Source: "sysfs", Options: []string{"nosuid", "noexec", "nodev", "ro"}},
			{Destination: "/sys/fs/cgroup", Type: "cgroup", Source: "cgroup", Options: []string{"nosuid", "noexec", "nodev", "relatime", "ro"}},
		},
		Linux: &specs.Linux{
			Namespaces: []specs.LinuxNamespace{
				{Type: specs.MountNamespace},
				{Type: specs.PIDNamespace},
				{Type: specs.IPCNamespace},
				{Type: specs.UTSNamespace},
				{Type: specs.NetworkNamespace},
				{Type: specs.CgroupNamespace},
			},
			MaskedPaths: []string{
				"/proc/acpi", "/proc/asound", "/proc/kcore", "/proc/keys", "/proc/latency_stats",
				"/proc/timer_list", "/proc/timer_stats", "/proc/sched_debug", "/sys/firmware", "/proc/scsi",
			},
			ReadonlyPaths: []string{"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"},
		},
	}
}

// plan makes the whole plan for a spec: shell runs in the finished root.
func plan(t *testing.T, s *specs.Spec, facts Facts, cwd, shell string) (*launch.Plan, *namespaces.Set, error) {
	t.Helper()
	ns, err := namespaces.From(s.Linux)
	if err != nil {
		t.Fatal(err)
	}
	r, err := New(s, ns, facts)
	if err != nil {
		return nil, nil, err
	}
	p := &launch.Plan{ReportFD: 3}
	p.Add(launch.Step{Name: "clear the umask", Call: launch.Umask})
	ns.AddCgroup(p)
	r.AddMounts(p)
	r.AddMasks(p)
	r.AddWorkdir(p, cwd)
	r.AddPivot(p)
	AddEnter(p, cwd)
	p.Add(launch.Step{Name: "execute sh", Call: launch.Execve, Args: launch.Args{
		launch.Text("/bin/busybox"), launch.Strings([]string{"sh", "-c", shell}), launch.Strings([]string{"PATH=/bin"}),
	}})
	return p, ns, nil
}

// run carries the spec out and returns what shell prints in the container. The
// shell has busybox's commands built in.
func run(t *testing.T, s *specs.Spec, cwd, shell string) (string, error) {
	t.Helper()
	facts, err := Look("/", s)
	if err != nil {
		return "", err
	}
	p, ns, err := plan(t, s, facts, cwd, shell)
	if err != nil {
		return "", err
	}
	return collect(t, p, ns)
}

// collect carries a plan out in namespaces and returns what its command prints.
func collect(t *testing.T, p *launch.Plan, ns *namespaces.Set) (string, error) {
	t.Helper()
	var attr launch.Attr
	ns.Configure(&attr.Sys)
	out, status, failure := testkit.RunPlan(t, p, attr)
	if failure == nil && status.ExitStatus() != 0 {
		t.Errorf("command ended with %#x: %s", status, out)
	}
	return out, failure
}

func TestStandardContainer(t *testing.T) {
	needRoot(t)
	root := busybox(t)
	s := standard(root)
	s.Root.Readonly = true
	out, err := run(t, s, "/new/work", `pwd; echo $$; cat /proc/mounts; ls -l /dev; touch /x; cat /proc/timer_list | wc -c; ls -A /sys/firmware | wc -l`)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"/new/work\n1\n",
		"proc /proc proc rw,relatime 0 0\n",
		"tmpfs /dev tmpfs rw,nosuid,size=65536k,mode=755",
		"devpts /dev/pts devpts rw,nosuid,noexec,relatime,gid=5,mode=620,ptmxmode=666 0 0\n",
		"shm /dev/shm tmpfs rw,nosuid,nodev,noexec,relatime,size=65536k",
		"mqueue /dev/mqueue mqueue rw,nosuid,nodev,noexec,relatime 0 0\n",
		"sysfs /sys sysfs ro,nosuid,nodev,noexec,relatime 0 0\n",
		"cgroup /sys/fs/cgroup cgroup2 ro,nosuid,nodev,noexec,relatime",
		"proc /proc/sys proc ro,relatime 0 0\n",
		"devtmpfs /proc/timer_list devtmpfs ",
		" /sys/firmware tmpfs ro,nosuid,nodev,noexec,relatime",
		"crw-rw-rw-    1 0        0           1,   3 ",
		"crw-rw-rw-    1 0        0           5,   0 ",
		"fd -> /proc/self/fd\n",
		"ptmx -> pts/ptmx\n",
		"touch: /x: Read-only file system\n0\n0\n",
	} {
		if !strings.Contains(out, want) {
			t.Errorf("output lacks %q", want)
		}
	}
	if t.Failed() || testing.Verbose() {
		t.Log(out)
	}
	if _, err := os.Stat(filepath.Join(root, "new/work")); err != nil {
		t.Errorf("working directory was not made in the root: %v", err)
	}
	leftMounts(t, root)
}

// leftMounts fails if anything is mounted on the host below dir.
func leftMounts(t *testing.T, dir string) {
	t.Helper()
	data, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(data), dir) {
		t.Errorf("mounts left below %s:\n%s", dir, data)
	}
}

// TestEnterAsUser: a working directory that root may not enter, but the command's user
// may, is entered after the change of ids. Root without capabilities stands for the root
// of a user namespace that does not have the directory's owner.
func TestEnterAsUser(t *testing.T) {
	needRoot(t)
	dir := t.TempDir()
	for up := dir; up != "/tmp" && up != "/"; up = filepath.Dir(up) {
		if err := os.Chmod(up, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(os.Chown(dir, 61000, 61000), os.Chmod(dir, 0o700)); err != nil {
		t.Fatal(err)
	}
	p := &launch.Plan{ReportFD: 3}
	self := launch.Bytes([]byte{0x22, 0x05, 0x08, 0x20, 0, 0, 0, 0}, nil) // version 3, this process
	sets := make([]byte, 24)
	sets[0], sets[4] = 1<<unix.CAP_SETUID, 1<<unix.CAP_SETUID // effective, permitted
	p.Add(launch.Step{Name: "keep CAP_SETUID alone", Call: launch.Capset, Args: launch.Args{self, launch.Bytes(sets, nil)}})
	again := AddEnter(p, dir)
	p.Add(launch.Step{Name: "become user", Call: launch.Setresuid, Args: launch.Args{launch.Int(61000), launch.Int(61000), launch.Int(61000)}})
	again()
	p.Add(launch.Step{Name: "execute pwd", Call: launch.Execve, Args: launch.Args{
		launch.Text("/bin/pwd"), launch.Strings([]string{"pwd"}), launch.Strings(nil),
	}})
	if out, err := collect(t, p, &namespaces.Set{}); err != nil || out != dir+"\n" {
		t.Errorf("pwd printed %q, %v; want %s", out, err, dir)
	}
}
