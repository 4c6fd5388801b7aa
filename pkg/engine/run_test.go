package engine

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"

	"box/pkg/record"
)

func TestRunTellsExitCodeAndOutput(t *testing.T) {
	f := newFixture(t)
	code, out, errs := f.run(f.sh("echo out; echo err >&2; exit 7"))
	if code != 7 || out != "out\n" || errs != "err\n" {
		t.Errorf("got code %d, stdout %q, stderr %q", code, out, errs)
	}
	f.checkNothingLeft()
}

func TestExitCodes(t *testing.T) {
	f := newFixture(t)
	for script, want := range map[string]int{
		"true": 0, "false": 1, "exit 255": 255,
		// A container's first process does not die of a signal that it sends itself
		// without a handler, so its child does.
		"sh -c 'kill -TERM $$'; exit $?": 143, "sh -c 'kill -KILL $$'; exit $?": 137,
	} {
		if code, _, _ := f.run(f.sh(script)); code != want {
			t.Errorf("%s: code %d, want %d", script, code, want)
		}
	}
}

func TestCommandThatCannotStart(t *testing.T) {
	f := newFixture(t)
	for _, c := range []struct {
		args []string
		code int
	}{
		{[]string{"nosuchcommand"}, 127},
		{[]string{"/no/such"}, 127},
		{[]string{"/etc/passwd"}, 126},
		{[]string{"/etc"}, 126},
	} {
		for _, remove := range []bool{true, false} {
			o := CreateOptions{Image: f.image, Cmd: c.args, Network: NetworkNone, AutoRemove: remove}
			r, _, err := f.Run(t.Context(), o, Stdio{})
			var start *record.StartError
			if !errors.As(err, &start) || start.Code != c.code {
				t.Errorf("%v: %v, want a start error with code %d", c.args, err, c.code)
			}
			if remove {
				f.checkNothingLeft()
				continue
			}
			got, err := f.Find(t.Context(), r.ID)
			if err != nil || got.State.Status != record.Created || got.State.ExitCode != c.code || got.State.Error == "" {
				t.Errorf("%v: after the failed start: %+v %v", c.args, got, err)
			}
			if err := f.Remove(t.Context(), r.ID, RemoveOptions{}); err != nil {
				t.Error(err)
			}
		}
	}
}

// detached starts a container in the background.
func (f *fixture) detached(o CreateOptions) *record.Record {
	f.t.Helper()
	r, s, err := f.Run(f.t.Context(), o, Stdio{})
	if err != nil {
		f.t.Fatalf("run %v: %v", o.Cmd, err)
	}
	_ = s.Close()
	return r
}

func (f *fixture) wait(id string) int {
	f.t.Helper()
	code, err := f.Wait(f.t.Context(), id)
	if err != nil {
		f.t.Fatal(err)
	}
	return code
}

func TestStdinReachesTheContainerAndEnds(t *testing.T) {
	f := newFixture(t)
	in, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	out := f.output()
	o := CreateOptions{Image: f.image, Cmd: []string{"cat"}, Network: NetworkNone, OpenStdin: true, StdinOnce: true, AutoRemove: true}
	_, s, err := f.Run(t.Context(), o, Stdio{Stdin: in, Stdout: out.file})
	if err != nil {
		t.Fatal(err)
	}
	big := strings.Repeat("0123456789abcdef", 16<<10) // more than a pipe holds
	go func() {
		_, _ = w.WriteString(big)
		_ = w.Close()
	}()
	if code, err := s.Wait(t.Context()); code != 0 || err != nil {
		t.Errorf("wait: %d %v", code, err)
	}
	if got := out.text(); got != big {
		t.Errorf("%d bytes came back of %d", len(got), len(big))
	}
}

func TestClosedSessionEndsStdinOnce(t *testing.T) {
	f := newFixture(t)
	in, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	o := f.sh("cat > /dev/null; exit 4")
	o.OpenStdin, o.StdinOnce = true, true
	r, s, err := f.Run(t.Context(), o, Stdio{Stdin: in})
	if err != nil {
		t.Fatal(err)
	}
	_ = s.Close()
	if code := f.wait(r.ID); code != 4 {
		t.Errorf("code %d, want 4: stdin did not end", code)
	}
}

func TestAttachLaterToOpenStdin(t *testing.T) {
	f := newFixture(t)
	o := f.sh("read line; echo got $line; exit 5")
	o.OpenStdin = true
	r := f.detached(o)
	in, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	out := f.output()
	s, err := f.Attach(t.Context(), r.ID, Stdio{Stdin: in, Stdout: out.file})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.WriteString("hello\n"); err != nil {
		t.Fatal(err)
	}
	if code, err := s.Wait(t.Context()); code != 5 || err != nil {
		t.Errorf("wait: %d %v", code, err)
	}
	if got := out.text(); got != "got hello\n" {
		t.Errorf("output %q", got)
	}
	_ = w.Close()
}

func TestBigOutputIsWhole(t *testing.T) {
	f := newFixture(t)
	code, out, _ := f.run(f.sh("yes 0123456789 | head -n 200000"))
	if want := strings.Repeat("0123456789\n", 200000); code != 0 || out != want {
		t.Errorf("code %d, %d bytes, want %d", code, len(out), len(want))
	}
}

func TestEnvironmentUserAndWorkingDirectory(t *testing.T) {
	f := newFixture(t)
	o := f.sh("id -u; id -g; echo $HOME $FROM_IMAGE $MINE $HOSTNAME; pwd; hostname")
	o.User, o.Env, o.WorkingDir, o.Hostname = "ann", []string{"MINE=1", "FROM_IMAGE=no"}, "/made/here", "myhost"
	_, out, _ := f.run(o)
	if want := "1000\n1000\n/home/ann no 1 myhost\n/made/here\nmyhost\n"; out != want {
		t.Errorf("got %q, want %q", out, want)
	}
}

func TestHostnameIsShortID(t *testing.T) {
	f := newFixture(t)
	r := f.detached(f.sh("hostname; cat /etc/hostname; cat /etc/hosts"))
	f.wait(r.ID)
	out, _ := f.logs(r.ID, LogOptions{})
	if want := strings.Repeat(r.ID[:12]+"\n", 2) + "127.0.0.1"; !strings.HasPrefix(out, want) {
		t.Errorf("got %q, want it to start with %q", out, want)
	}
}

func TestNetworkNoneHasLoopbackOnly(t *testing.T) {
	f := newFixture(t)
	_, out, errs := f.run(f.sh("ls /sys/class/net; ip addr show lo | grep -c 'inet 127.0.0.1'"))
	if out != "lo\n1\n" {
		t.Errorf("got %q %q", out, errs)
	}
}

func TestParallelContainers(t *testing.T) {
	f := newFixture(t)
	const n = 12
	type result struct {
		i   int
		out string
		err error
	}
	results := make(chan result, n)
	for i := range n {
		out := f.output()
		go func() {
			o := f.sh("echo $WHO; env | grep -c ^WHO=")
			o.Env, o.AutoRemove = []string{fmt.Sprintf("WHO=%d", i)}, true
			_, s, err := f.Run(t.Context(), o, Stdio{Stdout: out.file})
			if err == nil {
				_, err = s.Wait(t.Context())
			}
			results <- result{i, out.text(), err}
		}()
	}
	for range n {
		r := <-results
		if want := fmt.Sprintf("%d\n1\n", r.i); r.err != nil || r.out != want {
			t.Errorf("container %d: %q %v", r.i, r.out, r.err)
		}
	}
	f.checkNothingLeft()
}

// CVE-2024-21626: a descriptor of the host that leaks into a container is a way
// out. It would also keep the container's lock held.
func TestContainerHasOnlyItsStdio(t *testing.T) {
	f := newFixture(t)
	r := f.detached(f.sh("ls /proc/self/fd; cat; sleep 1000"))
	f.awaitLog(r.ID, "3\n") // the directory that ls reads
	if out, _ := f.logs(r.ID, LogOptions{}); out != "0\n1\n2\n3\n" {
		t.Errorf("descriptors of the container: %q", out)
	}
	out := f.output()
	if _, err := f.Exec(t.Context(), r.ID, ExecOptions{Args: []string{"ls", "/proc/self/fd"}, Stdout: out.file}); err != nil {
		t.Error(err)
	}
	if got := out.text(); got != "0\n1\n2\n3\n" {
		t.Errorf("descriptors of an exec: %q", got)
	}
}
