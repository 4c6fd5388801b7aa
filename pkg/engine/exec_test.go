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
	"box/pkg/record"
)

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

// An exec that meets the end of its container ends with it, one way or another.
func TestExecWhileTheContainerStops(t *testing.T) {
	f := newFixture(t)
	for range 5 {
		r := f.detached(f.sh("sleep 1000"))
		const n = 4
		results := make(chan error, n)
		for range n {
			go func() {
				code, err := f.Exec(t.Context(), r.ID, ExecOptions{Args: []string{"sleep", "1000"}})
				if err == nil && code != 137 {
					err = fmt.Errorf("exit code %d, want 137", code)
				}
				results <- err
			}()
		}
		now := time.Duration(0)
		if err := f.Stop(t.Context(), r.ID, &now); err != nil {
			t.Error(err)
		}
		for range n {
			if err := <-results; err != nil && !errors.Is(err, errdefs.ErrConflict) && !errors.Is(err, errdefs.ErrNotFound) {
				t.Errorf("exec: %v", err)
			}
		}
		if err := f.Remove(t.Context(), r.ID, RemoveOptions{}); err != nil {
			t.Error(err)
		}
	}
	f.checkNothingLeft()
}
