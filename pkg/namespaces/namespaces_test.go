package namespaces

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"box/internal/errdefs"
	"box/internal/sys"
	"box/pkg/launch"
)

func linux(namespaces ...string) *specs.Linux {
	l := &specs.Linux{}
	for _, n := range namespaces {
		kind, path, _ := strings.Cut(n, "=")
		l.Namespaces = append(l.Namespaces, specs.LinuxNamespace{Type: specs.LinuxNamespaceType(kind), Path: path})
	}
	return l
}

func types(joins []Join) string {
	var out []string
	for _, j := range joins {
		out = append(out, string(j.Type))
	}
	return strings.Join(out, " ")
}

func TestFrom(t *testing.T) {
	for _, c := range []struct {
		list          []string
		clone         uintptr
		joins, parent string
	}{
		{nil, 0, "", ""},
		{[]string{"mount", "pid", "uts", "ipc", "network"}, unix.CLONE_NEWNS | unix.CLONE_NEWPID | unix.CLONE_NEWUTS | unix.CLONE_NEWIPC | unix.CLONE_NEWNET, "", ""},
		{[]string{"cgroup", "time", "mount"}, unix.CLONE_NEWNS, "", ""},
		{[]string{"mount=/m", "network=/n", "user=/u", "pid=/p", "uts"}, 0, "user network mount", "pid"}, // new ones by steps
		{[]string{"user", "mount", "network=/n", "ipc=/i", "pid=/p"}, unix.CLONE_NEWUSER | unix.CLONE_NEWNS, "", "ipc network pid"},
	} {
		l := linux(c.list...)
		if strings.Contains(strings.Join(c.list, ","), "user,") {
			l.UIDMappings = []specs.LinuxIDMapping{{HostID: 1000, Size: 10}}
			l.GIDMappings = l.UIDMappings
		}
		s, err := From(l)
		if err != nil {
			t.Errorf("%v: %v", c.list, err)
			continue
		}
		var attr syscall.SysProcAttr
		s.Configure(&attr)
		if attr.Cloneflags != c.clone || types(s.Joins) != c.joins || types(s.ParentJoins) != c.parent {
			t.Errorf("%v: clone %#x, joins %q, parent joins %q; want %#x, %q, %q",
				c.list, attr.Cloneflags, types(s.Joins), types(s.ParentJoins), c.clone, c.joins, c.parent)
		}
	}
}

func TestFromRefuses(t *testing.T) {
	root := []specs.LinuxIDMapping{{HostID: 1000, Size: 10}}
	for _, c := range []struct {
		name string
		edit func(l *specs.Linux)
		want error
	}{
		{"unknown type", func(l *specs.Linux) { l.Namespaces = linux("pod").Namespaces }, errdefs.ErrUnsupported},
		{"twice", func(l *specs.Linux) { l.Namespaces = linux("pid", "pid").Namespaces }, errdefs.ErrInvalid},
		{"twice, joined", func(l *specs.Linux) { l.Namespaces = linux("pid=/a", "pid=/b").Namespaces }, errdefs.ErrInvalid},
		{"maps for nothing", func(l *specs.Linux) { l.UIDMappings = root }, errdefs.ErrInvalid},
		{"no maps", func(l *specs.Linux) { l.Namespaces = linux("user").Namespaces }, errdefs.ErrInvalid},
		{"root not mapped", func(l *specs.Linux) {
			l.Namespaces = linux("user").Namespaces
			l.UIDMappings = []specs.LinuxIDMapping{{ContainerID: 1, HostID: 1, Size: 1}}
		}, errdefs.ErrInvalid},
		{"map too long", func(l *specs.Linux) {
			l.Namespaces = linux("user").Namespaces
			l.UIDMappings = []specs.LinuxIDMapping{{HostID: 10, Size: 1<<32 - 1}}
		}, errdefs.ErrInvalid},
		{"offsets for nothing", func(l *specs.Linux) { l.TimeOffsets = map[string]specs.LinuxTimeOffset{"boottime": {}} }, errdefs.ErrInvalid},
		{"unknown clock", func(l *specs.Linux) {
			l.Namespaces = linux("time").Namespaces
			l.TimeOffsets = map[string]specs.LinuxTimeOffset{"realtime": {}}
		}, errdefs.ErrInvalid},
	} {
		l := &specs.Linux{}
		c.edit(l)
		if _, err := From(l); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", c.name, err, c.want)
		}
	}
}

func TestSharesAndFlags(t *testing.T) {
	l := linux("pid", "network=/n")
	s, err := From(l)
	if err != nil {
		t.Fatal(err)
	}
	for kind, want := range map[specs.LinuxNamespaceType][2]bool{
		specs.PIDNamespace: {true, false}, specs.NetworkNamespace: {false, false}, specs.UTSNamespace: {false, true},
	} {
		if got := [2]bool{s.Creates(kind), s.Shares(kind)}; got != want {
			t.Errorf("%s: creates, shares = %v, want %v", kind, got, want)
		}
	}
	if got := Flags(l.Namespaces); got != unix.CLONE_NEWPID|unix.CLONE_NEWNET {
		t.Errorf("Flags = %#x", got)
	}
}

func TestOpenChecksType(t *testing.T) {
	fifo := filepath.Join(t.TempDir(), "fifo")
	if err := unix.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]error{
		"/proc/self/ns/net": nil, "/proc/self/ns/uts": errdefs.ErrInvalid, fifo: errdefs.ErrInvalid, "/dev/null": errdefs.ErrInvalid, "/nonexistent": os.ErrNotExist,
	} {
		s, err := From(linux("network=" + path))
		if err != nil {
			t.Fatal(err)
		}
		o, err := s.Open()
		if !errors.Is(err, want) {
			t.Errorf("%s: %v, want %v", path, err, want)
		}
		o.Close()
	}
}

func TestPlan(t *testing.T) {
	for _, c := range []struct {
		list []string
		want []string
	}{
		{[]string{"network=/n", "mount=/m", "cgroup", "time"}, []string{
			"setns(5, CLONE_NEWNET)", "setns(6, CLONE_NEWNS)", "unshare(CLONE_NEWCGROUP)", "unshare(CLONE_NEWTIME)",
			`openat(AT_FDCWD, "/proc/self/timens_offsets", O_WRONLY|O_NOFOLLOW|O_CLOEXEC, 0) -> $timens_offsets`,
			`write($timens_offsets, "monotonic 7 9\nboottime -5 0\n", 28)`,
			`openat(AT_FDCWD, "/proc/self/ns/time_for_children", O_CLOEXEC, 0) -> $time_for_children`, "setns($time_for_children, CLONE_NEWTIME)",
		}},
		{[]string{"user=/u", "network=/n", "uts", "cgroup", "time"}, []string{
			"unshare(CLONE_NEWTIME)", // what belongs to the host's root is written as that
			`openat(AT_FDCWD, "/proc/self/timens_offsets", O_WRONLY|O_NOFOLLOW|O_CLOEXEC, 0) -> $timens_offsets`,
			`write($timens_offsets, "monotonic 7 9\nboottime -5 0\n", 28)`,
			`openat(AT_FDCWD, "/proc/self/ns/time_for_children", O_CLOEXEC, 0) -> $time_for_children`, "setns($time_for_children, CLONE_NEWTIME)",
			"setns(6, CLONE_NEWNET) -> $result", "setns(5, CLONE_NEWUSER)", "setresgid(0, 0, 0)", "setresuid(0, 0, 0)",
			"expect($result, -1, 0x0, EPERM)", "setns(6, CLONE_NEWNET)",
			"unshare(CLONE_NEWUTS)", "unshare(CLONE_NEWCGROUP)",
		}},
	} {
		l := linux(c.list...)
		l.TimeOffsets = map[string]specs.LinuxTimeOffset{"boottime": {Secs: -5}, "monotonic": {Secs: 7, Nanosecs: 9}}
		testPlan(t, l, c.want)
	}
}

func testPlan(t *testing.T, l *specs.Linux, want []string) {
	t.Helper()
	s, err := From(l)
	if err != nil {
		t.Fatal(err)
	}
	var p launch.Plan
	s.AddJoins(&p, []int{5, 6})
	s.AddCgroup(&p)
	s.AddTime(&p)
	AddEnter(&p, launch.Int(9), unix.CLONE_NEWPID|unix.CLONE_NEWNS|unix.CLONE_NEWUSER)
	AddEnter(&p, launch.Int(9), unix.CLONE_NEWPID)
	var got []string
	for line := range strings.SplitSeq(p.String(), "\n") {
		if call, ok := strings.CutPrefix(line, "     call  "); ok {
			got = append(got, call)
		}
	}
	want = append(want, "setns(9, CLONE_NEWNS|CLONE_NEWUSER|CLONE_NEWPID)", "setresgid(0, 0, 0)", "setresuid(0, 0, 0)", "setns(9, CLONE_NEWPID)")
	if diff := cmp.Diff(sorted(want), sorted(got)); diff != "" {
		t.Error(diff)
	}
}

// sorted makes the order of flags in a line immaterial.
func sorted(lines []string) []string {
	out := make([]string, len(lines))
	for i, l := range lines {
		out[i] = strings.ReplaceAll(strings.ReplaceAll(l, "CLONE_NEWUSER|CLONE_NEWNS", "both"), "CLONE_NEWNS|CLONE_NEWUSER", "both")
	}
	return out
}

// start runs the plan in the set's namespaces, forked by enter.
func start(t *testing.T, s *Set, p *launch.Plan, enter func(func() error) error, files ...*os.File) *launch.Process {
	t.Helper()
	o, err := s.Open()
	if err != nil {
		t.Fatal(err)
	}
	defer o.Close()
	if enter == nil {
		enter = o.Enter
	}
	p.ReportFD = 3
	prog, err := launch.NewProgram(p)
	if err != nil {
		t.Fatal(err)
	}
	defer prog.Close()
	joins, err := o.Files()
	if err != nil {
		t.Fatal(err)
	}
	attr := launch.Attr{Files: slices.Concat([]*os.File{nil, nil, nil, nil}, files, joins)}
	s.Configure(&attr.Sys)
	var proc *launch.Process
	if err := enter(func() error { proc, err = prog.Start(attr); return err }); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { proc.Close() })
	return proc
}

func TestJoinAndEnter(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root: makes namespaces")
	}
	// The first program makes namespaces and waits.
	l := linux("pid", "network", "uts", "ipc", "cgroup", "time", "mount")
	s, err := From(l)
	if err != nil {
		t.Fatal(err)
	}
	wait, release, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	var p launch.Plan
	s.AddCgroup(&p)
	s.AddTime(&p)
	p.Add(launch.Step{Name: "hostname", Call: launch.Sethostname, Args: launch.Args{launch.Text("joined"), launch.Int(6)}})
	p.Mark("up", "")
	p.Await(launch.Int(4), "wait", "")
	first := start(t, s, &p, nil, wait)
	wait.Close()
	if mark, err := first.Report(); mark != "up" {
		t.Fatal(mark, err)
	}
	defer func() {
		release.Close()
		_, _ = first.Wait()
	}()

	want := namespacesOf(t, first)
	byPath := linux()
	for kind, file := range map[string]string{"pid": "pid", "network": "net", "uts": "uts", "ipc": "ipc", "cgroup": "cgroup", "mount": "mnt"} {
		byPath.Namespaces = append(byPath.Namespaces, linux(kind+"=/proc/"+pid(first)+"/ns/"+file).Namespaces...)
	}
	t.Run("by path", func(t *testing.T) {
		s, err := From(byPath)
		if err != nil {
			t.Fatal(err)
		}
		var p launch.Plan
		s.AddJoins(&p, []int{4, 5, 6, 7, 8})
		check(t, start(t, s, watch(&p), nil), want)
	})
	t.Run("by pidfd", func(t *testing.T) {
		pidfd, err := sys.PidfdOpen(first.Pid)
		if err != nil {
			t.Fatal(err)
		}
		defer pidfd.Close()
		var p launch.Plan
		AddEnter(&p, launch.Int(4), Flags(byPath.Namespaces))
		enter := func(f func() error) error { return EnterPid(pidfd, f) }
		check(t, start(t, &Set{}, watch(&p), enter, pidfd), want)
	})
}

// watch makes a program of the plan that can be looked at: it stays.
func watch(p *launch.Plan) *launch.Plan {
	p.Mark("joined", "")
	p.Add(launch.Step{Name: "wait for signal", Call: launch.Ppoll})
	return p
}

// check compares the namespaces that the program is in, and ends it.
func check(t *testing.T, proc *launch.Process, want map[string]string) {
	t.Helper()
	defer func() {
		_ = proc.Kill()
		_, _ = proc.Wait()
	}()
	if mark, err := proc.Report(); mark != "joined" {
		t.Fatal(mark, err)
	}
	got := namespacesOf(t, proc)
	for _, ns := range []string{"pid", "net", "uts", "ipc", "cgroup", "mnt"} {
		if got[ns] != want[ns] || got[ns] == "" {
			t.Errorf("%s namespace is %s, want %s", ns, got[ns], want[ns])
		}
	}
}

func pid(p *launch.Process) string { return strings.TrimPrefix(p.Pidfd.Name(), "pidfd of ") }

func namespacesOf(t *testing.T, p *launch.Process) map[string]string {
	t.Helper()
	out := map[string]string{}
	for _, k := range kinds {
		link, err := os.Readlink("/proc/" + pid(p) + "/ns/" + k.proc)
		if err != nil {
			t.Fatal(err)
		}
		self, err := os.Readlink("/proc/self/ns/" + k.proc)
		if err != nil {
			t.Fatal(err)
		}
		if link != self {
			out[k.proc] = link
		}
	}
	return out
}
