package runtime

import (
	"encoding/json"
	"errors"
	"os"
	"strings"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"box/internal/testkit"
)

func TestHooks(t *testing.T) {
	b := newBench(t, "sleep", "1000")
	log := b.bundle + "/hooks"
	note := func(name string) []specs.Hook { // in the host's file system
		script := "cat > " + log + "." + name + "; echo " + name + " >> " + log
		return []specs.Hook{{Path: "/bin/sh", Args: []string{"sh", "-c", script}, Env: []string{"PATH=/bin:/usr/bin"}}}
	}
	b.spec.Hooks = &specs.Hooks{
		Prestart: note("prestart"), CreateRuntime: note("createRuntime"), CreateContainer: note("createContainer"),
		StartContainer: []specs.Hook{{Path: "/bin/sh", Args: []string{"sh", "-c", "cat > /tmp/start; id -u >> /tmp/start; hostname >> /tmp/start"}, Env: []string{"PATH=/bin"}}},
		Poststart:      note("poststart"), Poststop: note("poststop"),
	}
	b.spec.Process.User.UID = 65534
	b.spec.Hostname = "inside"
	b.spec.Annotations = map[string]string{"note": "to hooks"}
	if err := os.Chmod(b.bundle+"/rootfs/tmp", 0o777); err != nil {
		t.Fatal(err)
	}
	b.save()
	b.do("create", b.id)
	st := b.expectStatus(Created)
	var seen State
	if err := json.Unmarshal([]byte(testkit.Text(t, log+".prestart")), &seen); err != nil {
		t.Fatal(err)
	}
	if seen.Pid != st.Pid || seen.ID != b.id || seen.Status != Creating || seen.Bundle != b.bundle || seen.Annotations["note"] != "to hooks" || st.Annotations["note"] != "to hooks" {
		t.Errorf("prestart saw %+v", seen)
	}
	b.do("start", b.id)
	got := testkit.Text(t, b.bundle+"/rootfs/tmp/start")
	if !strings.Contains(got, b.id) || !strings.HasSuffix(got, "65534\ninside\n") {
		t.Errorf("startContainer hook wrote %q: want the state, the command's user and the container's host name", got)
	}
	b.do("delete", "--force", b.id)
	want := "prestart\ncreateRuntime\ncreateContainer\npoststart\npoststop\n"
	if got := testkit.Text(t, log); got != want {
		t.Errorf("hooks ran in this order: %q, want %q", got, want)
	}
}

func TestFailingHookFailsCreateAndLeavesNothing(t *testing.T) {
	for _, name := range []string{"prestart", "createRuntime", "createContainer"} {
		b := newBench(t, "true")
		hooks := []specs.Hook{{Path: "/bin/sh", Args: []string{"sh", "-c", "echo sorry >&2; exit 5"}}}
		switch name {
		case "prestart":
			b.spec.Hooks = &specs.Hooks{Prestart: hooks}
		case "createRuntime":
			b.spec.Hooks = &specs.Hooks{CreateRuntime: hooks}
		default:
			b.spec.Hooks = &specs.Hooks{CreateContainer: hooks}
		}
		b.save()
		want := "error running " + name + " hook #0: /bin/sh: exit status 5, output: sorry"
		if r := b.try("create", b.id); r.code != 1 || !strings.Contains(r.err, want) {
			t.Errorf("%s: %+v, want %q", name, r, want)
		}
		if b.state() != nil {
			t.Errorf("%s: the container exists", name)
		}
	}
}

// A hook of any kind is ended when its time is over, and fails what it is part of; but for
// poststop, after which there is nothing left to fail.
func TestTimeoutOfEachHook(t *testing.T) {
	second := 1
	late := []specs.Hook{{Path: "/bin/sh", Args: []string{"sh", "-c", "exec sleep 1000"}, Env: []string{"PATH=/bin:/usr/bin"}, Timeout: &second}}
	for name, c := range map[string]struct {
		hooks specs.Hooks
		verb  string // that says so
	}{
		"prestart":        {specs.Hooks{Prestart: late}, "create"}, //nolint:staticcheck // SA1019: still called by dockerd
		"createRuntime":   {specs.Hooks{CreateRuntime: late}, "create"},
		"createContainer": {specs.Hooks{CreateContainer: late}, "create"},
		"startContainer":  {specs.Hooks{StartContainer: late}, "start"},
		"poststart":       {specs.Hooks{Poststart: late}, "start"},
		"poststop":        {specs.Hooks{Poststop: late}, "delete"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t, "sleep", "1000")
			b.spec.Hooks = &c.hooks
			b.save()
			for _, args := range [][]string{{"create", b.id}, {"start", b.id}, {"delete", "--force", b.id}} {
				r := b.try(args...)
				if said := strings.Contains(r.err, "error running "+name+" hook #0: /bin/sh: timed out after 1s"); said != (args[0] == c.verb) {
					t.Errorf("%s: %+v", args[0], r)
				}
			}
		})
	}
}

// Hooks that mount something into a container (libraries of drivers, say) find its
// root in their working directory, and what they mount stays.
func TestCreateContainerHookStandsInTheRoot(t *testing.T) {
	b := newBench(t, "cat", "/etc/mounted")
	b.spec.Hooks = &specs.Hooks{CreateContainer: []specs.Hook{{
		Path: "/bin/sh", Args: []string{"sh", "-c", "echo from the hook > etc/mounted.src && : > etc/mounted && mount --bind etc/mounted.src etc/mounted"},
		Env: []string{"PATH=/bin:/usr/bin"},
	}}}
	if r := b.run(); r.code != 0 || r.out != "from the hook\n" {
		t.Errorf("run: %+v", r)
	}
	if data, err := os.ReadFile(b.bundle + "/rootfs/etc/mounted"); err != nil || len(data) != 0 {
		t.Errorf("the hook's mount reached the host: %q, %v", data, err)
	}
}

// Hooks of the host make files as those of whoever calls us are made; those of the
// container as its command's are.
func TestHooksMakeFilesForNobodyElse(t *testing.T) {
	b := newBench(t, "true")
	hook := func(file string) []specs.Hook {
		return []specs.Hook{{Path: "/bin/sh", Args: []string{"sh", "-c", "umask > " + file}}}
	}
	mask := uint32(0o37)
	b.spec.Process.User.Umask = &mask
	b.spec.Hooks = &specs.Hooks{
		CreateRuntime: hook("runtime"), CreateContainer: hook("container"), StartContainer: hook("/tmp/start"),
	}
	b.save()
	cmd := b.command("run", b.id)
	cmd.Args = append([]string{"sh", "-c", `umask 027; exec "$@"`, "sh"}, cmd.Args...)
	cmd.Path = "/bin/sh"
	if r := finish(t, cmd); r.code != 0 {
		t.Fatalf("run: %+v", r)
	}
	for file, want := range map[string]string{"runtime": "0027\n", "rootfs/container": "0027\n", "rootfs/tmp/start": "0037\n"} {
		if got := testkit.Text(t, b.bundle+"/"+file); got != want {
			t.Errorf("%s: umask %q, want %q", file, got, want)
		}
	}
}

// blocked makes a hook that tells that it is at work, and ends when it is told to: wait
// waits for the one, and end is the other.
func (b *bench) blocked() (hook specs.Hook, wait, end func()) {
	held, mayEnd := b.bundle+"/held", b.bundle+"/may-end"
	if err := errors.Join(mkfifo(held), mkfifo(mayEnd)); err != nil {
		b.t.Fatal(err)
	}
	hook = specs.Hook{Path: "/bin/sh", Args: []string{"sh", "-c", "echo > " + held + "; read x < " + mayEnd}}
	wait = func() { testkit.Text(b.t, held) }
	end = func() {
		f, err := os.OpenFile(mayEnd, os.O_RDWR, 0) // which waits for no reader
		if err != nil {
			b.t.Fatal(err)
		}
		b.t.Cleanup(func() { f.Close() }) // not before: the hook may not have opened it yet
		if _, err := f.WriteString("\n"); err != nil {
			b.t.Fatal(err)
		}
	}
	return hook, wait, end
}

// Scenario: the signals by which programs are ended come while a container is made in the
// foreground, or while what a failed create has made is removed. Nothing is left.
func TestInterruptedCreationLeavesNothing(t *testing.T) {
	interrupt := func(verb string, hooks func(blocked specs.Hook) *specs.Hooks, want string) func(*testing.T) {
		return func(t *testing.T) {
			b := newBench(t, "true")
			hook, wait, end := b.blocked()
			b.spec.Hooks = hooks(hook)
			b.save()
			var errs strings.Builder
			cmd := b.command(verb, b.id)
			cmd.Stderr = &errs
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			wait()
			if err := cmd.Process.Signal(unix.SIGTERM); err != nil {
				t.Fatal(err)
			}
			end()
			_ = cmd.Wait()
			if cmd.ProcessState.ExitCode() != 1 || !strings.Contains(errs.String(), want) {
				t.Errorf("%v, %q; want exit status 1 and %q", cmd.ProcessState, errs.String(), want)
			}
			if b.state() != nil {
				t.Error("the container is still there")
			}
		}
	}
	atFirst := func(blocked specs.Hook) *specs.Hooks { return &specs.Hooks{CreateRuntime: []specs.Hook{blocked}} }
	atLast := func(blocked specs.Hook) *specs.Hooks {
		return &specs.Hooks{CreateRuntime: []specs.Hook{{Path: "/bin/false"}}, Poststop: []specs.Hook{blocked}}
	}
	t.Run("run", interrupt("run", atFirst, "interrupted by SIGTERM"))
	t.Run("failing run", interrupt("run", atLast, "error running createRuntime hook #0"))
	t.Run("failing create", interrupt("create", atLast, "error running createRuntime hook #0"))
}

// Nobody may be left to read a warning: the rest is done all the same.
func TestDeleteGoesOnWithoutAReader(t *testing.T) {
	b := newBench(t, "true")
	b.spec.Hooks = &specs.Hooks{Poststop: []specs.Hook{{Path: "/bin/false"}}}
	b.save()
	b.do("create", b.id)
	read, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	read.Close()
	defer write.Close()
	cmd := b.command("delete", "--force", b.id)
	cmd.Stderr = write
	if err := cmd.Run(); err != nil {
		t.Errorf("delete: %v", err)
	}
	if b.state() != nil {
		t.Error("the container is still there")
		b.do("delete", "--force", b.id)
	}
}

// Scenario: exec and state come while create or run is at work, and the program has still
// its creator's root: what joined it then would work on the host's files.
func TestExecBeforeTheRootIsRefused(t *testing.T) {
	for _, verb := range []string{"create", "run"} {
		b := newBench(t, "true")
		hook, wait, end := b.blocked()
		b.spec.Hooks = &specs.Hooks{CreateRuntime: []specs.Hook{hook}}
		b.save()
		create := b.command(verb, b.id)
		if err := create.Start(); err != nil {
			t.Fatal(err)
		}
		wait()
		b.expectStatus(Creating)
		if r := b.try("exec", b.id, "/bin/sh", "-c", "exit 0"); r.code != 255 || !strings.Contains(r.err, "container not running") {
			t.Errorf("exec while %s is at work: exit %d, %s", verb, r.code, r.err)
		}
		end()
		if err := create.Wait(); err != nil {
			t.Errorf("%s: %v", verb, err)
		}
		if verb == "create" {
			b.expectStatus(Created)
			b.do("exec", b.id, "/bin/sh", "-c", "exit 0")
			b.do("delete", "--force", b.id)
		}
	}
}
