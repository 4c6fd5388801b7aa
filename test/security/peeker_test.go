package security

import (
	"bufio"
	"fmt"
	"os/exec"
	"strings"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// execs is how often each peeker sees somebody join.
const execs = 120

// TestNothingToGrabFromWhoJoins: a container watches its procfs while commands are
// executed in it. Before a command is the container's own, it must not offer
// anything of the host: CVE-2016-9962 and CVE-2019-5736. The capability to trace
// everybody makes no difference, in a user namespace or not.
func TestNothingToGrabFromWhoJoins(t *testing.T) {
	for name, prepare := range map[string]func(*box){
		"default": func(*box) {},
		"tracer":  func(b *box) { b.allow("CAP_SYS_PTRACE", "CAP_DAC_OVERRIDE", "CAP_DAC_READ_SEARCH") },
		"tracer behind a filter": func(b *box) {
			b.allow("CAP_SYS_PTRACE")
			b.spec.Process.NoNewPrivileges = false // then CAP_SYS_ADMIN is needed to load it
			b.spec.Linux.Seccomp = &specs.LinuxSeccomp{DefaultAction: specs.ActAllow, Syscalls: []specs.LinuxSyscall{
				{Names: []string{"swapon"}, Action: specs.ActErrno},
			}}
		},
		"user namespace": func(b *box) { b.allow("CAP_SYS_PTRACE", "CAP_SYS_ADMIN", "CAP_DAC_OVERRIDE"); b.userNamespace() },
	} {
		t.Run(name, func(t *testing.T) {
			b := newBox(t, "peek", "trace")
			prepare(b)
			found := b.peekWhile(func() {
				for range execs {
					b.exec("/bin/probe", "true")
				}
			})
			t.Logf("%d rounds, %d strangers seen", found.Rounds, found.Strangers)
			for what, n := range found.Grabs {
				t.Errorf("%d times: %s", n, what)
			}
			if found.Rounds < execs {
				t.Errorf("only %d rounds in %d execs: the test shows nothing", found.Rounds, execs)
			}
		})
	}
}

// peeked is what the probe reports.
type peeked struct {
	Rounds, Strangers int
	Grabs             map[string]int
}

// peekWhile runs the container, whose command is the peeker, during f.
func (b *box) peekWhile(f func()) peeked {
	b.t.Helper()
	b.save()
	cmd := b.command("run", b.id)
	stdin, err := cmd.StdinPipe()
	if err != nil {
		b.t.Fatal(err)
	}
	stderr, err := cmd.StderrPipe()
	if err != nil {
		b.t.Fatal(err)
	}
	var out strings.Builder
	cmd.Stdout = &out
	if err := cmd.Start(); err != nil {
		b.t.Fatal(err)
	}
	defer stdin.Close()
	if line, err := bufio.NewReader(stderr).ReadString('\n'); line != "peeking\n" {
		b.t.Fatalf("peeker says %q, %v", line, err)
	}
	f()
	stdin.Close()
	if err := cmd.Wait(); err != nil {
		b.t.Fatalf("peeker: %v", err)
	}
	return decode[peeked](b.t, out.String())
}

// exec runs a command in the container. Its standard streams are pipes, which lead
// nowhere. That a peeker disturbs it is no failure.
func (b *box) exec(words ...string) {
	cmd := b.command(append([]string{"exec", b.id}, words...)...)
	cmd.Stdin, cmd.Stderr = strings.NewReader(""), &strings.Builder{}
	if out, err := cmd.Output(); err != nil {
		if _, ok := err.(*exec.ExitError); !ok {
			b.t.Fatalf("exec: %v\n%s", err, out)
		}
	}
}

// userNamespace gives the container a user namespace of its own.
func (b *box) userNamespace() {
	const first, size = 100000, 65536
	l := b.spec.Linux
	l.Namespaces = append(l.Namespaces, specs.LinuxNamespace{Type: specs.UserNamespace})
	l.UIDMappings = []specs.LinuxIDMapping{{HostID: first, Size: size}}
	l.GIDMappings = []specs.LinuxIDMapping{{HostID: first, Size: size}}
	chown(b.t, b.root, first)
}

// TestNothingToGrabFromWhoShares: a second container is made in the pid namespace of the
// first, as in a pod. That one sees it while it is set up, but cannot get hold of it
// unless it may trace everybody (docs/security.md says so), which in a user namespace
// does not help it either.
func TestNothingToGrabFromWhoShares(t *testing.T) {
	for name, prepare := range map[string]func(*box){
		"default": func(*box) {},
		// It gets what is documented. That shows what the peeker would find elsewhere.
		"tracer": func(b *box) { b.allow("CAP_SYS_PTRACE", "CAP_DAC_OVERRIDE", "CAP_DAC_READ_SEARCH") },
		"user namespace": func(b *box) {
			b.allow("CAP_SYS_PTRACE", "CAP_SYS_ADMIN", "CAP_DAC_OVERRIDE")
			b.userNamespace()
		},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBox(t, "peek", "trace")
			prepare(b)
			second := newBox(t, "true")
			second.id += "-second"
			found := b.peekWhile(func() {
				second.join(b, specs.PIDNamespace, "pid")
				if name == "user namespace" {
					chown(t, second.root, 100000)
					second.join(b, specs.UserNamespace, "user")
				}
				for range execs / 4 {
					if r := second.run(); r.code != 0 && r.code != 255 {
						t.Fatalf("second container: %+v", r)
					}
				}
			})
			t.Logf("%d rounds, %d strangers seen, %v", found.Rounds, found.Strangers, found.Grabs)
			if len(found.Grabs) > 0 != (name == "tracer") {
				t.Errorf("got hold of %v", found.Grabs)
			}
		})
	}
}

// join lets the container live in a namespace of another one that runs.
func (b *box) join(other *box, kind specs.LinuxNamespaceType, name string) {
	b.t.Helper()
	pid := decode[specs.State](b.t, other.do("state", other.id)).Pid
	b.dropNamespace(kind)
	b.spec.Linux.Namespaces = append(b.spec.Linux.Namespaces, specs.LinuxNamespace{
		Type: kind, Path: fmt.Sprintf("/proc/%d/ns/%s", pid, name),
	})
}
