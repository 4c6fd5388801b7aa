package ocirt

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"box/internal/errdefs"
)

// fake is a runtime that is a shell script.
func fake(t *testing.T, script string) Runtime {
	t.Helper()
	path := filepath.Join(t.TempDir(), "runtime")
	if err := os.WriteFile(path, []byte("#!/bin/sh\n"+script), 0o755); err != nil {
		t.Fatal(err)
	}
	return Runtime{Path: path, Root: "/state"}
}

// logs makes a script fail with an error line in its log, which is the fourth
// argument.
func logs(message string) string {
	return fmt.Sprintf(`echo '{"level":"warning","msg":"not this"}' >> $4
echo '{"level":"error","msg":"%s","time":"now"}' >> $4
exit 1`, message)
}

func TestFailureHasTheRuntimesWordsAndAClass(t *testing.T) {
	for message, class := range map[string]error{
		"container does not exist":                                    errdefs.ErrNotFound,
		"container not running":                                       errdefs.ErrConflict,
		"open pidfd: No such process":                                 errdefs.ErrConflict,
		"os: process already finished":                                errdefs.ErrConflict,
		"container with id exists: x":                                 errdefs.ErrExists,
		"cannot exec in a stopped container":                          errdefs.ErrConflict,
		"error opening file `/r/x/status`: No such file or directory": errdefs.ErrNotFound,
	} {
		err := fake(t, logs(message)).Start(t.Context(), "web")
		var e *Error
		if !errors.As(err, &e) || e.Message != message || e.Status != 1 || e.Verb != "start" || e.ID != "web" || !errors.Is(err, class) {
			t.Errorf("%s: got %#v", message, err)
		}
	}
	if err := fake(t, "exit 3").Start(t.Context(), "web"); err == nil || !strings.Contains(err.Error(), "exit status 3") {
		t.Errorf("silent failure: %v", err)
	}
	if err := (Runtime{Path: "/no/such/runtime"}).Start(t.Context(), "web"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no such program: %v", err)
	}
}

func TestArgumentsAreRuncs(t *testing.T) {
	out := filepath.Join(t.TempDir(), "args")
	r := fake(t, `echo "$@" > `+out+`; env >> `+out)
	t.Setenv("SECRET", "of the caller")
	for _, c := range []struct {
		call func() error
		want string
	}{
		{func() error { return r.Start(t.Context(), "web") }, "start web"},
		{func() error { return r.Kill(t.Context(), "web", syscall.SIGTERM, false) }, "kill web 15"},
		{func() error { return r.Kill(t.Context(), "web", syscall.SIGKILL, true) }, "kill --all web 9"},
		{func() error { return r.Delete(t.Context(), "web", true) }, "delete --force web"},
		{func() error {
			return r.Create(t.Context(), "web", "/", CreateOptions{ConsoleSocket: "/c", PidFile: "/p"})
		}, "create --bundle / --console-socket /c --pid-file /p web"},
		{func() error { return r.RunDetached(t.Context(), "web", "/", CreateOptions{}) }, "run --bundle / --detach web"},
		{func() error {
			_, err := r.Exec(t.Context(), "web", ExecOptions{ProcessFile: "/f", Tty: true, Detach: true})
			return err
		}, "exec --process /f --tty --detach web"},
	} {
		if err := c.call(); err != nil {
			t.Errorf("%s: %v", c.want, err)
		}
		data, err := os.ReadFile(out)
		if err != nil {
			t.Fatal(err)
		}
		first, env, _ := strings.Cut(string(data), "\n")
		if want := "--root /state --log /proc/self/fd/3 --log-format json " + c.want; first != want {
			t.Errorf("got %q, want %q", first, want)
		}
		if strings.Contains(env, "SECRET") {
			t.Errorf("the runtime sees our environment: %s", env)
		}
	}
}

func TestDeleteForceOfNothingIsNoError(t *testing.T) {
	r := fake(t, logs("container does not exist"))
	if err := r.Delete(t.Context(), "web", true); err != nil {
		t.Errorf("forced: %v", err)
	}
	if err := r.Delete(t.Context(), "web", false); !errors.Is(err, errdefs.ErrNotFound) {
		t.Errorf("not forced: %v", err)
	}
}

func TestRunTellsCommandsCodeFromRuntimesFailure(t *testing.T) {
	code, err := fake(t, "exit 42").Run(t.Context(), "web", "/", RunOptions{})
	if code != 42 || err != nil {
		t.Errorf("command's code: %d %v", code, err)
	}
	if code, err := fake(t, logs("no rootfs")).Run(t.Context(), "web", "/", RunOptions{}); err == nil {
		t.Errorf("runtime's failure: code %d, no error", code)
	}
	if code, err := fake(t, "kill -KILL $$").Run(t.Context(), "web", "/", RunOptions{}); code != 137 || err != nil {
		t.Errorf("killed: %d %v", code, err)
	}
}

func TestCancelledRunKillsThroughTheRuntime(t *testing.T) {
	dir := t.TempDir()
	fifo := filepath.Join(dir, "fifo")
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	// The running container waits until kill is called for it.
	r := fake(t, `case "$*" in *" kill web 9") echo > `+fifo+`;; *) read x < `+fifo+`; exit 137;; esac`)
	ctx, cancel := context.WithCancelCause(t.Context())
	why := errors.New("the user said so")
	_, err := r.Run(ctx, "web", "/", RunOptions{Started: func(int) { cancel(why) }})
	if !errors.Is(err, why) {
		t.Errorf("got %v", err)
	}
}

func TestIgnoredSignalsAreNotPassedOn(t *testing.T) {
	signal.Ignore(syscall.SIGHUP)
	defer signal.Reset(syscall.SIGHUP)
	// The first bit is SIGHUP's.
	r := fake(t, `while read name mask; do case $name$mask in SigIgn:*[13579bdf]) exit 1;; esac; done < /proc/$$/status`)
	if err := r.Start(t.Context(), "web"); err != nil {
		t.Error(err)
	}
}

func TestInheritedFilesReachTheRuntime(t *testing.T) {
	f, err := os.Open("/dev/zero")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	r := fake(t, `[ "$(readlink `+InheritedPath(0)+`)" = /dev/zero ]`)
	if err := r.Create(t.Context(), "web", "/", CreateOptions{Inherit: []*os.File{f}}); err != nil {
		t.Error(err)
	}
}

func TestCommandExitCode(t *testing.T) {
	for message, want := range map[string]int{
		`exec: "nosuch": executable file not found in $PATH`:                                127,
		`unable to start container process: exec: "/x": stat /x: no such file or directory`: 127,
		`exec /run.sh: no such file or directory`:                                           127,
		`exec: "/etc/passwd": permission denied`:                                            126,
		`exec: "/etc": is a directory`:                                                      126,
		"exec /x: exec format error":                                                        126,
		"executable file `nosuch` not found in $PATH: No such file or directory":            127,
		"open executable: Permission denied":                                                126,
		"exec failed: unable to create new parent process: namespace path: lstat /proc/1/ns/ipc: no such file or directory": 0,
		`error mounting "/x" to rootfs: no such file or directory`:                                                          0,
		"cgroup: permission denied": 0,
		"":                          0,
	} {
		if got := CommandExitCode(fmt.Errorf("run: %w", &Error{Message: message})); got != want {
			t.Errorf("%q: %d, want %d", message, got, want)
		}
	}
	if got := CommandExitCode(errors.New("exec: no such file or directory")); got != 0 {
		t.Errorf("an error of our own: %d", got)
	}
}

func TestExplainReplacesVerbAndID(t *testing.T) {
	err := &Error{Verb: "run", ID: "0123", Message: "exec: \"x\": executable file not found in $PATH", class: errdefs.ErrNotFound}
	got := Explain(err, "start container %s", "web")
	if got.Error() != "start container web: "+err.Message || CommandExitCode(got) != 127 || !errors.Is(got, errdefs.ErrNotFound) {
		t.Errorf("got %v", got)
	}
}

func TestFind(t *testing.T) {
	r := fake(t, "")
	if got, err := Find(r.Path); err != nil || got != r.Path {
		t.Errorf("path: %q %v", got, err)
	}
	t.Setenv("PATH", filepath.Dir(r.Path))
	if got, err := Find("runtime"); err != nil || got != r.Path {
		t.Errorf("name: %q %v", got, err)
	}
	for _, name := range []string{"no-such-runtime", "/etc/passwd", filepath.Dir(r.Path)} {
		if _, err := Find(name); !errors.Is(err, errdefs.ErrNotFound) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
