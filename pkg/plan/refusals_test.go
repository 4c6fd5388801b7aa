package plan

import (
	"bytes"
	"errors"
	"slices"
	"strings"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"box/internal/errdefs"
	"box/pkg/label"
	"box/pkg/launch"
	"box/pkg/namespaces"
	"box/pkg/spec/gen"
)

// shared takes the namespaces of these types from a spec: the container lives in the
// host's.
func shared(s *specs.Spec, types ...specs.LinuxNamespaceType) {
	s.Linux.Namespaces = slices.DeleteFunc(s.Linux.Namespaces, func(n specs.LinuxNamespace) bool { return slices.Contains(types, n.Type) })
}

// What the kernel would refuse without a reason, or carry out on the host, is refused by
// NewContainer: before there is a cgroup or a process.
func TestRefusals(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(*specs.Spec, *Facts)
		class  error
		words  string
	}{
		{"hostname of the host", func(s *specs.Spec, _ *Facts) {
			shared(s, specs.UTSNamespace)
			s.Hostname = "name"
		}, errdefs.ErrInvalid, "hostname: unable to set it without a private UTS namespace"},
		{"domainname of the host", func(s *specs.Spec, _ *Facts) {
			shared(s, specs.UTSNamespace)
			s.Hostname, s.Domainname = "", "name"
		}, errdefs.ErrInvalid, "domainname: unable to set it without a private UTS namespace"},
		{"device that stays", func(s *specs.Spec, _ *Facts) {
			shared(s, specs.NetworkNamespace)
			s.Linux.NetDevices = map[string]specs.LinuxNetDevice{"eth1": {}}
		}, errdefs.ErrInvalid, "unable to move network devices without a NET namespace"},
		{"device without a name", func(s *specs.Spec, _ *Facts) {
			s.Linux.NetDevices = map[string]specs.LinuxNetDevice{"a/b": {}}
		}, errdefs.ErrInvalid, `invalid network device name "a/b"`},
		{"memory policy", func(s *specs.Spec, _ *Facts) {
			s.Linux.MemoryPolicy = &specs.LinuxMemoryPolicy{Mode: specs.MpolBind}
		}, errdefs.ErrInvalid, "linux.memoryPolicy.nodes"},
		{"personality", func(s *specs.Spec, _ *Facts) {
			s.Linux.Personality = &specs.LinuxPersonality{Domain: "PDP11"}
		}, errdefs.ErrInvalid, "linux.personality.domain"},
		{"scheduler", func(s *specs.Spec, _ *Facts) {
			s.Process.Scheduler = &specs.Scheduler{Policy: "SCHED_FAIR"}
		}, errdefs.ErrInvalid, "process.scheduler.policy"},
		{"io priority", func(s *specs.Spec, _ *Facts) {
			s.Process.IOPriority = &specs.LinuxIOPriority{Class: specs.IOPRIO_CLASS_BE, Priority: 8}
		}, errdefs.ErrInvalid, "process.ioPriority.priority"},
		{"affinity", func(s *specs.Spec, _ *Facts) {
			s.Process.ExecCPUAffinity = &specs.CPUAffinity{Initial: "3-1"}
		}, errdefs.ErrInvalid, "process.execCPUAffinity.initial"},
		{"capability that we lack", func(_ *specs.Spec, f *Facts) { f.Held &^= 1 << unix.CAP_KILL }, errdefs.ErrUnavailable, "CAP_KILL"},
		{"effective and not permitted", func(s *specs.Spec, _ *Facts) {
			s.Process.Capabilities.Permitted = nil
		}, errdefs.ErrInvalid, "is not permitted"},
		{"AppArmor that is not there", func(s *specs.Spec, _ *Facts) { s.Process.ApparmorProfile = "profile" }, nil, "process.apparmorProfile"},
		{"SELinux that is not there", func(s *specs.Spec, _ *Facts) { s.Process.SelinuxLabel = "a:b:c:s0" }, nil, "process.selinuxLabel"},
		{"agent for every call", func(s *specs.Spec, _ *Facts) {
			s.Linux.Seccomp = &specs.LinuxSeccomp{DefaultAction: specs.ActNotify}
		}, errdefs.ErrInvalid, "linux.seccomp.defaultAction"},
		{"filter flag", func(s *specs.Spec, _ *Facts) {
			s.Linux.Seccomp = &specs.LinuxSeccomp{DefaultAction: specs.ActAllow, Flags: []specs.LinuxSeccompFlag{"SECCOMP_FILTER_FLAG_X"}}
		}, nil, "SECCOMP_FILTER_FLAG_X"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := gen.Runtime()
			f := factsOf(s)
			c.change(s, f)
			set, err := namespaces.From(s.Linux)
			if err != nil {
				t.Fatal(err)
			}
			_, err = NewContainer("c1", s, set, f, nil)
			if err == nil || !strings.Contains(err.Error(), c.words) || c.class != nil && !errors.Is(err, c.class) {
				t.Errorf("error = %v, want %q of class %v", err, c.words, c.class)
			}
		})
	}
}

// What is left out is said, and nothing else of the set is lost.
func TestNotes(t *testing.T) {
	s := gen.Runtime()
	s.Process.Capabilities.Bounding = append(s.Process.Capabilities.Bounding, "CAP_FUTURE")
	s.Process.Capabilities.Ambient = []string{"CAP_KILL"}
	c := draftOf(t, s, factsOf(s))
	want := []string{
		"ignoring unknown or unavailable capabilities: CAP_FUTURE",
		"can't raise ambient capability CAP_KILL: it is not both permitted and inheritable",
	}
	if got := c.Notes(); !slices.Equal(got, want) {
		t.Errorf("notes = %q, want %q", got, want)
	}
	if c.Process.caps.bounding&(1<<unix.CAP_KILL) == 0 {
		t.Error("CAP_KILL was lost with the unknown one")
	}
}

// From the same values follows the same program: maps have no order, plans have.
func TestSameValuesSamePlan(t *testing.T) {
	program := func() []byte {
		s := gen.Runtime()
		s.Linux.Sysctl = map[string]string{"net.ipv4.ip_forward": "0", "net.ipv4.ip_unprivileged_port_start": "0", "kernel.shmmax": "1", "kernel.msgmax": "2"}
		s.Linux.NetDevices = map[string]specs.LinuxNetDevice{"a": {}, "b": {}, "c": {}}
		s.Linux.Seccomp = &specs.LinuxSeccomp{DefaultAction: specs.ActAllow, Syscalls: []specs.LinuxSyscall{{Names: []string{"swapon"}, Action: specs.ActErrno}}}
		elf, err := launch.Compile(planOf(t, s).Plan, "amd64")
		if err != nil {
			t.Fatal(err)
		}
		return elf
	}
	first := program()
	for range 10 {
		if !bytes.Equal(first, program()) {
			t.Fatal("the same spec gave another program")
		}
	}
}

// explained is what Explain makes of the failure of the first step with that name.
func explained(t *testing.T, b *Assembly, name string, errno unix.Errno) string {
	t.Helper()
	at := positions(t, b.Plan, name)[0]
	return b.Explain(&launch.StepError{Index: at, Step: b.Plan.Steps()[at], Errno: errno}).Error()
}

// Engines derive exit codes and messages from these words.
func TestFailuresInWordsThatCallersKnow(t *testing.T) {
	s := gen.Runtime()
	s.Process.Args = []string{"serve"}
	byPath := gen.Runtime()
	byPath.Process.Args = []string{"/bin/serve"}
	bind := gen.Runtime()
	mounts(bind, specs.Mount{Type: "bind", Source: "/srv", Destination: "/data", Options: []string{"bind"}})
	for _, c := range []struct {
		spec  *specs.Spec
		step  string
		errno unix.Errno
		want  string
	}{
		{s, "find serve in PATH", unix.ENOENT, `exec: "serve": executable file not found in $PATH`},
		{byPath, "look for /bin/serve", unix.ENOENT, `exec: "/bin/serve": stat /bin/serve: no such file or directory`},
		{byPath, "look for /bin/serve", unix.EACCES, `exec: "/bin/serve": permission denied`},
		{byPath, "check that /bin/serve is a file", unix.EACCES, `exec: "/bin/serve": permission denied`},
		{byPath, "execute /bin/serve", unix.ENOEXEC, "exec /bin/serve: exec format error"},
		{bind, "mount /srv on /data", unix.EPERM, `error mounting "/srv" to rootfs at "/data"`},
		{s, "set the umask", unix.EPERM, "set the umask: operation not permitted"},
	} {
		if got := explained(t, planOf(t, c.spec), c.step, c.errno); !strings.Contains(got, c.want) {
			t.Errorf("%s, %v: %q, want %q", c.step, c.errno, got, c.want)
		}
	}
	if err := errors.New("another"); planOf(t, s).Explain(err) != err {
		t.Error("an error that is no step's was changed")
	}
	var failed *ExecError
	b := planOf(t, byPath)
	err := b.Explain(&launch.StepError{Index: positions(t, b.Plan, "execute /bin/serve")[0], Errno: unix.ENOENT})
	if !errors.As(err, &failed) || failed.Command != "/bin/serve" || !errors.Is(err, unix.ENOENT) {
		t.Errorf("the failure of execve is %#v", err)
	}
}

// processOf is the process of a spec, ready for an Exec or a Hook.
func processOf(t *testing.T, s *specs.Spec, edit func(*Facts)) *Process {
	t.Helper()
	f := goldenFacts
	if edit != nil {
		edit(&f)
	}
	p, err := NewProcess("c1", s.Process, &f, false)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// TestGoldenJoins pins the plans of processes that join, as TestGoldenPlans those of
// containers.
func TestGoldenJoins(t *testing.T) {
	const all = unix.CLONE_NEWPID | unix.CLONE_NEWNS | unix.CLONE_NEWNET | unix.CLONE_NEWUTS | unix.CLONE_NEWIPC | unix.CLONE_NEWCGROUP
	layout := Layout{Free: 3, Report: 3, Permit: 4}
	filter := []unix.SockFilter{{Code: unix.BPF_RET, K: 0x7fff0000}} // SECCOMP_RET_ALLOW
	type assembler interface{ Assemble() (*Assembly, error) }
	for name, build := range map[string]func(*specs.Spec) assembler{
		"exec": func(s *specs.Spec) assembler {
			return &Exec{Process: processOf(t, s, nil), Join: all, Pidfd: 5, Layout: layout}
		},
		"exec-full": func(s *specs.Spec) assembler {
			mask := uint32(0o77)
			s.Process.Terminal, s.Process.ApparmorProfile = false, "profile"
			s.Process.User = specs.User{UID: 1000, GID: 100, AdditionalGids: []uint32{7}, Umask: &mask}
			s.Process.Rlimits = []specs.POSIXRlimit{{Type: LimitProcesses, Soft: 8, Hard: 8}, {Type: LimitFiles, Soft: 64, Hard: 128}}
			s.Process.Scheduler = &specs.Scheduler{Policy: specs.SchedBatch}
			p := processOf(t, s, func(f *Facts) {
				f.Streams, f.Nulls = []Stream{{FD: 1}, {FD: 2}}, []int{0}
				f.Modules = label.Host{AppArmor: true}
			})
			p.Filter = filter
			p.AddExtras(&specs.Linux{Personality: &specs.LinuxPersonality{Domain: specs.PerLinux32}})
			score := -7
			return &Exec{Process: p, Join: all | unix.CLONE_NEWUSER, Pidfd: 5, Root: 6, Layout: layout, OOMScore: &score}
		},
		"hook-host": func(*specs.Spec) assembler {
			return &Hook{Path: "/usr/bin/hook", Dir: "/bundle/rootfs", Join: all, Pidfd: 4, Layout: Layout{Free: 3, Report: 3, Permit: 5}}
		},
		"hook-outside": func(*specs.Spec) assembler {
			return &Hook{Path: "/usr/bin/hook", Dir: "/bundle", Layout: Layout{Free: 3, Report: 3}}
		},
		"hook-container": func(s *specs.Spec) assembler {
			return &Hook{Path: "/bin/hook", Args: []string{"hook", "now"}, Process: processOf(t, s, nil), Join: all, Pidfd: 4, Layout: Layout{Free: 3, Report: 3, Permit: 5}}
		},
	} {
		t.Run(name, func(t *testing.T) {
			b, err := build(gen.Runtime()).Assemble()
			if err != nil {
				t.Fatal(err)
			}
			compareGolden(t, "testdata/join-"+name+".golden", outline(b.Plan))
			for _, arch := range []launch.Arch{"amd64", "arm64"} {
				if _, err := launch.Compile(b.Plan, arch); err != nil {
					t.Errorf("%s: %v", arch, err)
				}
			}
		})
	}
}

// A memory policy that only comes with AddExtras is refused by Assemble.
func TestExtrasAreChecked(t *testing.T) {
	p := processOf(t, gen.Runtime(), nil)
	p.AddExtras(&specs.Linux{MemoryPolicy: &specs.LinuxMemoryPolicy{Mode: "MPOL_ELSEWHERE"}})
	e := &Exec{Process: p, Layout: Layout{Report: 3}}
	if _, err := e.Assemble(); !errors.Is(err, errdefs.ErrInvalid) {
		t.Errorf("error = %v", err)
	}
}

// A process that enters its pid namespace late does so after all that the container could
// take from it, but before a filter that forbids it.
func TestWhenExecEntersThePidNamespace(t *testing.T) {
	const enter = "enter the container's pid namespace"
	order := func(filter []unix.SockFilter, noNew bool) []int {
		s := gen.Runtime()
		s.Process.NoNewPrivileges = noNew
		p := processOf(t, s, nil)
		p.Filter = filter
		b, err := (&Exec{Process: p, Join: unix.CLONE_NEWPID, Pidfd: 5, Layout: Layout{Report: 3, Permit: 4}}).Assemble()
		if err != nil {
			t.Fatal(err)
		}
		return positions(t, b.Plan, enter, "load the seccomp filter", "become user", "execute")
	}
	everything := []unix.SockFilter{{Code: unix.BPF_RET, K: 0x7fff0000}}
	nothing := []unix.SockFilter{{Code: unix.BPF_RET, K: 0x00050001}} // SECCOMP_RET_ERRNO
	if at := order(everything, false); at[0] < at[1] || at[0] > at[3] {
		t.Errorf("a filter that allows it: order %v", at)
	}
	if at := order(nothing, true); at[0] > at[1] || at[0] < at[2] {
		t.Errorf("a filter that forbids it: order %v", at)
	}
}
