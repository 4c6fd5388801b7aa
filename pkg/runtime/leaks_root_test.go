package runtime

import (
	"bufio"
	"os"
	"os/exec"
	"runtime/debug"
	"slices"
	"strings"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// openFiles are the descriptors of this process, by what they lead to.
func openFiles(t *testing.T) (names []string) {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if to, err := os.Readlink("/proc/self/fd/" + e.Name()); err == nil && !strings.HasSuffix(to, "/fd") {
			names = append(names, e.Name()+" "+to)
		}
	}
	return names
}

// Whoever uses the package for more than one container keeps no descriptor of any,
// wherever a verb has come to.
func TestVerbsLeaveNoDescriptors(t *testing.T) {
	b := newBench(t, "sleep", "1000")
	defer debug.SetGCPercent(debug.SetGCPercent(-1)) // or finalizers would hide what is leaked
	r := &Runtime{Root: b.root}
	create := func(o CreateOptions) error {
		b.save()
		o.Bundle = b.bundle
		return r.Create(t.Context(), b.id, o)
	}
	if err := create(CreateOptions{}); err != nil { // once, for what is kept for good
		t.Fatal(err)
	}
	if err := r.Delete(t.Context(), b.id, true); err != nil {
		t.Fatal(err)
	}
	before := openFiles(t)
	for _, c := range []struct {
		name string
		do   func() error
		fail string
	}{
		{"create and delete", func() error {
			if err := create(CreateOptions{}); err != nil {
				return err
			}
			return r.Delete(t.Context(), b.id, true)
		}, ""},
		{"console socket that is missing", func() error {
			b.spec.Process.Terminal = true
			defer func() { b.spec.Process.Terminal = false }()
			return create(CreateOptions{ConsoleSocket: b.bundle + "/none"})
		}, "console socket"},
		{"descriptor that is missing", func() error { return create(CreateOptions{PreserveFDs: 1}) }, "preserve descriptor"},
		{"command that is missing", func() error {
			b.spec.Process.Args = []string{"/none"}
			defer func() { b.spec.Process.Args = []string{"sleep", "1000"} }()
			return create(CreateOptions{})
		}, "no such file"},
		{"namespace that is missing", func() error {
			list := b.spec.Linux.Namespaces
			defer func() { b.spec.Linux.Namespaces = list }()
			b.spec.Linux.Namespaces = append(list[:len(list):len(list)], specs.LinuxNamespace{Type: specs.TimeNamespace, Path: b.bundle})
			return create(CreateOptions{})
		}, "time namespace"},
		{"hook that fails", func() error {
			b.spec.Hooks = &specs.Hooks{CreateContainer: []specs.Hook{{Path: "/bin/false"}}}
			defer func() { b.spec.Hooks = nil }()
			return create(CreateOptions{})
		}, "createContainer hook"},
		{"exec that fails", func() error {
			if err := create(CreateOptions{}); err != nil {
				return err
			}
			_, err := r.Exec(t.Context(), b.id, ExecOptions{Args: []string{"/none"}, Detach: true})
			if e := r.Delete(t.Context(), b.id, true); e != nil {
				t.Error(e)
			}
			return err
		}, "no such file"},
	} {
		err := c.do()
		if (err == nil) != (c.fail == "") || err != nil && !strings.Contains(err.Error(), c.fail) {
			t.Errorf("%s: error = %v, want %q", c.name, err, c.fail)
		}
		if after := openFiles(t); len(after) != len(before) {
			t.Errorf("%s: had %q, now %q", c.name, before, after)
			before = after
		}
	}
}

// kill --all is for the members of the container's group: a number that has passed on to
// a stranger, and one that is not seen here (0), are left alone.
func TestSignalsReachMembersOnly(t *testing.T) {
	// Neither ends by itself: the one that is told first must not take the other with it.
	b := newBench(t, "sh", "-c", `trap 'echo first' USR1
		sh -c "trap 'echo second' USR1; echo ready; while :; do sleep 1000 & wait; done" &
		while :; do wait; done`)
	b.save()
	run := b.command("run", b.id)
	out, err := run.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := run.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = run.Wait() }()
	defer b.try("kill", b.id, "KILL")
	lines := bufio.NewScanner(out)
	if !lines.Scan() || lines.Text() != "ready" {
		t.Fatalf("the container wrote %q", lines.Text())
	}
	stranger := exec.Command("sleep", "1000")
	if err := stranger.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _, _ = stranger.Process.Wait() }()
	defer func() { _ = stranger.Process.Kill() }()
	c, err := (&Runtime{Root: b.root}).load(b.id)
	if err != nil {
		t.Fatal(err)
	}
	group, err := c.cgroup()
	if err != nil {
		t.Fatal(err)
	}
	if err := signalMembers(group, []int{stranger.Process.Pid, 0}, unix.SIGKILL); err != nil {
		t.Error(err)
	}
	if p, err := processStat(stranger.Process.Pid); err != nil || p.exiting {
		t.Errorf("a stranger was killed (%v)", err)
	}
	b.do("kill", "--all", b.id, "USR1")
	var heard []string
	for len(heard) < 2 && lines.Scan() {
		heard = append(heard, lines.Text())
	}
	if slices.Sort(heard); !slices.Equal(heard, []string{"first", "second"}) {
		t.Errorf("the signal was heard by %q", heard)
	}
}
