package engine

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"box/internal/errdefs"
	"box/pkg/image"
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

func (f *fixture) logs(id string, o LogOptions) (stdout, stderr string) {
	f.t.Helper()
	var out, errs strings.Builder
	if err := f.Logs(f.t.Context(), id, o, &out, &errs); err != nil {
		f.t.Fatal(err)
	}
	return out.String(), errs.String()
}

func TestDetachedContainerIsLoggedAndWaitedFor(t *testing.T) {
	f := newFixture(t)
	r := f.detached(f.sh("echo one; echo two >&2; printf three; exit 3"))
	if code := f.wait(r.Name); code != 3 {
		t.Errorf("wait: %d, want 3", code)
	}
	if code := f.wait(r.ID[:10]); code != 3 {
		t.Errorf("second wait, by prefix: %d, want 3", code)
	}
	if out, errs := f.logs(r.ID, LogOptions{}); out != "one\nthree" || errs != "two\n" {
		t.Errorf("logs: %q, %q", out, errs)
	}
	got, err := f.Find(t.Context(), r.ID)
	if err != nil || got.State.Status != record.Exited || got.State.ExitCode != 3 || got.State.FinishedAt.Before(got.State.StartedAt) {
		t.Errorf("record: %+v %v", got, err)
	}
	f.awaitEnd()
	f.checkEmpty(filepath.Join(f.config.RunRoot, "containers"))
	f.checkCgroupGone(r.ID)
}

func TestStartAgainKeepsFiles(t *testing.T) {
	f := newFixture(t)
	r := f.detached(f.sh("cat /tmp/mark 2>/dev/null; echo was here > /tmp/mark"))
	f.wait(r.ID)
	out := f.output()
	_, s, err := f.Start(t.Context(), r.ID, Stdio{Stdout: out.file})
	if err != nil {
		t.Fatal(err)
	}
	if code, err := s.Wait(t.Context()); code != 0 || err != nil {
		t.Errorf("second run: %d %v", code, err)
	}
	if got := out.text(); got != "was here\n" {
		t.Errorf("second run saw %q", got)
	}
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

func TestStopSendsStopSignalThenKills(t *testing.T) {
	f := newFixture(t)
	o := f.sh("trap 'exit 9' USR1; echo ready; while :; do usleep 10000; done")
	o.StopSignal = "USR1"
	r := f.detached(o)
	f.awaitLog(r.ID, "ready")
	if err := f.Stop(t.Context(), r.ID, nil); err != nil {
		t.Fatal(err)
	}
	if code := f.wait(r.ID); code != 9 {
		t.Errorf("exit code %d, want 9 from the trap", code)
	}
	deaf := f.detached(f.sh("trap '' TERM; echo ready; while :; do usleep 10000; done"))
	f.awaitLog(deaf.ID, "ready")
	patience := 50 * time.Millisecond
	if err := f.Stop(t.Context(), deaf.ID, &patience); err != nil {
		t.Fatal(err)
	}
	if code := f.wait(deaf.ID); code != 137 {
		t.Errorf("exit code %d, want 137", code)
	}
	if err := f.Stop(t.Context(), deaf.ID, nil); err != nil {
		t.Errorf("stop of a stopped container: %v", err)
	}
}

// awaitLog follows the log until a line is there.
func (f *fixture) awaitLog(id, line string) {
	f.t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		f.t.Fatal(err)
	}
	defer r.Close()
	go func() {
		// Ends by the broken pipe once the line was seen.
		_ = f.Logs(f.t.Context(), id, LogOptions{Follow: true}, w, w)
		_ = w.Close()
	}()
	var got strings.Builder
	buf := make([]byte, 512)
	for !strings.Contains(got.String(), line) {
		n, err := r.Read(buf)
		if err != nil {
			f.t.Fatalf("log of %s ended without %q: %q", id, line, got.String())
		}
		got.Write(buf[:n])
	}
}

func TestKillAndStates(t *testing.T) {
	f := newFixture(t)
	r := f.detached(f.sh("sleep 1000"))
	if err := f.Remove(t.Context(), r.ID, RemoveOptions{}); !errors.Is(err, errdefs.ErrConflict) {
		t.Errorf("remove of a running container: %v", err)
	}
	if _, _, err := f.Start(t.Context(), r.ID, Stdio{}); !errors.Is(err, errdefs.ErrConflict) {
		t.Errorf("start of a running container: %v", err)
	}
	if err := f.Kill(t.Context(), r.Name, unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if code := f.wait(r.ID); code != 137 {
		t.Errorf("code %d, want 137", code)
	}
	if err := f.Kill(t.Context(), r.ID, unix.SIGKILL); !errors.Is(err, errdefs.ErrConflict) {
		t.Errorf("kill of a stopped container: %v", err)
	}
	if err := f.Remove(t.Context(), r.ID, RemoveOptions{}); err != nil {
		t.Error(err)
	}
	if _, err := f.Find(t.Context(), r.ID); !errors.Is(err, errdefs.ErrNotFound) {
		t.Errorf("after remove: %v", err)
	}
	f.checkNothingLeft()
	f.checkCgroupGone(r.ID)
}

func TestNames(t *testing.T) {
	f := newFixture(t)
	o := f.sh("true")
	o.Name = "first"
	r, err := f.Create(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.Create(t.Context(), o); !errors.Is(err, errdefs.ErrConflict) || !strings.Contains(err.Error(), `"first"`) {
		t.Errorf("same name: %v", err)
	}
	if ids, _ := f.records.IDs(); len(ids) != 1 {
		t.Errorf("a failed create left %v", ids)
	}
	for _, key := range []string{"first", "/first", r.ID, r.ID[:12], r.ID[:5]} {
		if got, err := f.Find(t.Context(), key); err != nil || got.ID != r.ID {
			t.Errorf("find %q: %v", key, err)
		}
	}
	for _, key := range []string{"", "firs", "second", strings.Repeat("z", 64), "../" + r.ID} {
		if _, err := f.Find(t.Context(), key); !errors.Is(err, errdefs.ErrNotFound) {
			t.Errorf("find %q: %v, want not found", key, err)
		}
	}
	o.Name = "x/y"
	if _, err := f.Create(t.Context(), o); !errors.Is(err, errdefs.ErrInvalid) {
		t.Errorf("bad name: %v", err)
	}
}

func TestExec(t *testing.T) {
	f := newFixture(t)
	o := f.sh("echo ready; sleep 1000")
	o.Env = []string{"OF_CONTAINER=1"}
	r := f.detached(o)
	run := func(o ExecOptions) (int, string, error) {
		out := f.output()
		o.Stdout, o.Stderr = out.file, out.file
		code, err := f.Exec(t.Context(), r.ID, o)
		return code, out.text(), err
	}
	for _, c := range []struct {
		name string
		o    ExecOptions
		code int
		out  string
	}{
		{"code", ExecOptions{Args: []string{"sh", "-c", "exit 11"}}, 11, ""},
		{"environment", ExecOptions{Args: []string{"sh", "-c", "echo $OF_CONTAINER $MORE $HOME"}, Env: []string{"MORE=2"}}, 0, "1 2 /root\n"},
		{"user", ExecOptions{Args: []string{"sh", "-c", "id -u; id -G; echo $HOME"}, User: "ann"}, 0, "1000\n1000 50\n/home/ann\n"},
		{"directory", ExecOptions{Args: []string{"pwd"}, WorkingDir: "/etc"}, 0, "/etc\n"},
		{"signal", ExecOptions{Args: []string{"sh", "-c", "kill -KILL $$"}}, 137, ""},
	} {
		code, out, err := run(c.o)
		if err != nil || code != c.code || out != c.out {
			t.Errorf("%s: code %d, output %q, %v", c.name, code, out, err)
		}
	}
	for _, c := range []struct {
		arg  string
		code int
	}{{"nosuch", 127}, {"/etc/passwd", 126}} {
		_, out, err := run(ExecOptions{Args: []string{c.arg}})
		var start *record.StartError
		if !errors.As(err, &start) || start.Code != c.code {
			t.Errorf("exec %s: %v (output %q), want code %d", c.arg, err, out, c.code)
		}
	}
	if _, _, err := run(ExecOptions{Args: []string{"true"}, User: "nobody-here"}); err == nil {
		t.Error("exec as an unknown user succeeded")
	}
	if err := f.Kill(t.Context(), r.ID, unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	f.wait(r.ID)
	if _, _, err := run(ExecOptions{Args: []string{"true"}}); !errors.Is(err, errdefs.ErrConflict) {
		t.Errorf("exec in a stopped container: %v", err)
	}
}

// The process of an exec must not get hold of the client's own files: through
// /proc/self/fd it could open them again, with the rights of root.
func TestExecDoesNotHandOutTheClientsFiles(t *testing.T) {
	f := newFixture(t)
	r := f.detached(f.sh("sleep 1000"))
	path := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(path, []byte("secret\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	in, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	_, client := pty(t)
	out := f.output()
	code, err := f.Exec(t.Context(), r.ID, ExecOptions{
		Args:  []string{"sh", "-c", "cat; echo overwritten > /proc/self/fd/0; test -t 2; echo $?; for i in 0 1 2; do stat -Lc %F /proc/self/fd/$i; done"},
		Stdin: in, Stdout: out.file, Stderr: client,
	})
	if got := out.text(); code != 0 || err != nil || got != "secret\n1\nfifo\nfifo\nfifo\n" {
		t.Errorf("code %d, %v, output %q", code, err, got)
	}
	if data, err := os.ReadFile(path); err != nil || string(data) != "secret\n" {
		t.Errorf("the client's file is now %q %v", data, err)
	}
}

// A child that keeps the output open does not keep the client waiting.
func TestExecLeavesBackgroundChildrenBehind(t *testing.T) {
	f := newFixture(t)
	if filepath.Base(f.config.Runtime) == "runc" {
		t.Skip("runc copies the streams itself, and waits for their end")
	}
	r := f.detached(f.sh("sleep 1000"))
	out := f.output()
	code, err := f.Exec(t.Context(), r.ID, ExecOptions{Args: []string{"sh", "-c", "sleep 1000 & echo done"}, Stdout: out.file, Stderr: out.file})
	if got := out.text(); code != 0 || err != nil || got != "done\n" {
		t.Errorf("code %d, %v, output %q", code, err, got)
	}
}

func TestExecBigStreams(t *testing.T) {
	f := newFixture(t)
	r := f.detached(f.sh("sleep 1000"))
	in, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	big := strings.Repeat("0123456789abcde\n", 1<<15)
	go func() {
		_, _ = w.WriteString(big)
		_ = w.Close()
	}()
	out := f.output()
	code, err := f.Exec(t.Context(), r.ID, ExecOptions{Args: []string{"cat"}, Stdin: in, Stdout: out.file})
	if got := out.text(); code != 0 || err != nil || got != big {
		t.Errorf("code %d, %v, %d bytes of %d", code, err, len(got), len(big))
	}
}

func TestExecDetached(t *testing.T) {
	f := newFixture(t)
	r := f.detached(f.sh("while ! test -e /tmp/go; do usleep 10000; done; exit 6"))
	code, err := f.Exec(t.Context(), r.ID, ExecOptions{Args: []string{"touch", "/tmp/go"}, Detach: true})
	if code != 0 || err != nil {
		t.Fatalf("exec: %d %v", code, err)
	}
	if code := f.wait(r.ID); code != 6 {
		t.Errorf("code %d, want 6", code)
	}
}

func TestVolumes(t *testing.T) {
	f := newFixture(t)
	img := f.makeImage(func(c *image.Config, root string) {
		c.Config.Volumes = map[string]struct{}{"/data": {}, "../../escape": {}}
		for name, mode := range map[string]os.FileMode{"data/a": 0o640, "data/sub/b": 0o755} {
			path := filepath.Join(root, name)
			if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(name), mode), os.Chown(path, 1000, 1000)); err != nil {
				t.Fatal(err)
			}
		}
		if err := errors.Join(os.Link(filepath.Join(root, "data/a"), filepath.Join(root, "data/hard")), os.Symlink("/etc/passwd", filepath.Join(root, "data/soft")), os.Chmod(filepath.Join(root, "data"), 0o777|os.ModeSticky)); err != nil {
			t.Fatal(err)
		}
	})
	host := filepath.Join(t.TempDir(), "made", "for", "me")
	o := f.sh("stat -c '%a %u' /data /data/a /data/sub/b; cat /data/hard /data/sub/b; echo; stat -c %h /data/a; echo x > /host/x; echo y > /ro/y || echo readonly; ls /escape; echo z >> /named/z; cat /named/z; ls /named/sub")
	o.Image = img
	o.Volumes = []string{host + ":/host", host + ":/ro:ro", "store:/named"}
	want := "1777 0\n640 1000\n755 1000\ndata/adata/sub/b\n2\nreadonly\nz\n"
	code, out, errs := f.run(o)
	if out != want || code == 0 { // the last ls fails
		t.Errorf("code %d, got %q, want %q (stderr %q)", code, out, want, errs)
	}
	if data, err := os.ReadFile(filepath.Join(host, "x")); err != nil || string(data) != "x\n" {
		t.Errorf("host file: %q %v", data, err)
	}
	names, err := os.ReadDir(filepath.Join(f.config.Root, "volumes"))
	if err != nil || len(names) != 1 || names[0].Name() != "store" {
		t.Errorf("volumes left: %v %v, want only the named one", names, err)
	}
	if err := os.RemoveAll(filepath.Join(f.config.Root, "volumes", "store")); err != nil {
		t.Error(err)
	}
	if _, err := f.Create(t.Context(), CreateOptions{Image: img, Volumes: []string{"/a:/x", "/b:/x"}}); !errors.Is(err, errdefs.ErrInvalid) {
		t.Errorf("duplicate mount point: %v", err)
	}
	f.checkNothingLeft()
}

func TestInspectHasDockersFields(t *testing.T) {
	f := newFixture(t)
	o := f.sh("sleep 1000")
	o.Name, o.Labels, o.Expose = "inspected", map[string]string{"a": "b"}, []string{"80"}
	r := f.detached(o)
	i, err := f.Inspect(t.Context(), "inspected")
	if err != nil {
		t.Fatal(err)
	}
	if i.ID != r.ID || i.Name != "/inspected" || !i.State.Running || i.State.Pid == 0 || i.Path != "sh" || i.Config.Labels["a"] != "b" || i.HostConfig.NetworkMode != "none" {
		t.Errorf("inspection: %+v", i)
	}
	if _, ok := i.NetworkSettings.Ports["80/tcp"]; !ok {
		t.Errorf("exposed port is not listed: %v", i.NetworkSettings.Ports)
	}
	list, err := f.List(t.Context(), false)
	if err != nil || len(list) != 1 || list[0].ID != r.ID {
		t.Errorf("list: %v %v", list, err)
	}
	use, err := f.ImagesInUse(t.Context())
	if err != nil || use[f.image.ID].Container != "inspected" || !use[f.image.ID].Running {
		t.Errorf("images in use: %v %v", use, err)
	}
}

func TestLogsFollowTailAndTimes(t *testing.T) {
	f := newFixture(t)
	r := f.detached(f.sh("seq 1 100; while ! test -e /tmp/go; do usleep 10000; done; echo last"))
	f.awaitLog(r.ID, "100\n")
	two := 2
	if out, _ := f.logs(r.ID, LogOptions{Tail: &two}); out != "99\n100\n" {
		t.Errorf("tail: %q", out)
	}
	var followed strings.Builder
	done := make(chan error, 1)
	go func() {
		done <- f.Logs(t.Context(), r.ID, LogOptions{Follow: true, Tail: &two}, &followed, nil)
	}()
	if _, err := f.Exec(t.Context(), r.ID, ExecOptions{Args: []string{"touch", "/tmp/go"}}); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil || followed.String() != "99\n100\nlast\n" {
		t.Errorf("follow: %q %v", followed.String(), err)
	}
	zero := 0
	if out, _ := f.logs(r.ID, LogOptions{Tail: &zero}); out != "" {
		t.Errorf("tail 0: %q", out)
	}
	one := 1
	out, _ := f.logs(r.ID, LogOptions{Tail: &one, Timestamps: true})
	stamp, text, _ := strings.Cut(out, " ")
	if _, err := time.Parse(time.RFC3339Nano, stamp); err != nil || text != "last\n" {
		t.Errorf("timestamps: %q", out)
	}
	if out, _ := f.logs(r.ID, LogOptions{Since: time.Now().Add(time.Hour)}); out != "" {
		t.Errorf("since the future: %q", out)
	}
	if out, _ := f.logs(r.ID, LogOptions{Until: r.Created}); out != "" {
		t.Errorf("until the past: %q", out)
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

// The next command notices that a monitor was killed, and ends its container.
func TestKilledMonitorIsNoticed(t *testing.T) {
	f := newFixture(t)
	r := f.detached(f.sh("sleep 1000"))
	for _, pid := range processes("box-monitor", f.config.RunRoot) {
		if err := unix.Kill(pid, unix.SIGKILL); err != nil {
			t.Fatal(err)
		}
	}
	if code := f.wait(r.ID); code != 137 {
		t.Errorf("code %d, want 137", code)
	}
	list, err := f.List(t.Context(), true)
	if err != nil || len(list) != 1 || list[0].State.Status != record.Exited || list[0].State.ExitCode != 137 {
		t.Errorf("list: %+v %v", list, err)
	}
	f.checkCgroupGone(r.ID)
	f.checkEmpty(filepath.Join(f.config.RunRoot, "containers"))
}
