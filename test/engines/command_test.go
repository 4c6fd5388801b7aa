package engines

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"box/internal/testkit/vm"
)

// patience is how long anything may take before a test gives up on it. A healthy
// engine answers in well under a second, and in the test VM, which is emulated, in ten.
var patience = 20 * time.Second

func init() {
	if os.Getenv(vm.InsideVariable) != "" {
		patience *= 10
	}
}

// result is one finished command.
type result struct {
	stdout, stderr string
	code           int
}

func (r result) String() string {
	return fmt.Sprintf("exit code %d\nstdout: %s\nstderr: %s", r.code, r.stdout, r.stderr)
}

// client is an engine's command line: a program with the arguments that every
// call of it has.
type client struct {
	t    *testing.T
	name string // of the engine
	base []string
	env  []string
	dir  string // working directory, where it matters
}

// in is the same client, reporting to a subtest.
func (c client) in(t *testing.T) client {
	c.t = t
	return c
}

// feed runs a command with something on its standard input.
func (c client) feed(stdin string, args ...string) result {
	c.t.Helper()
	// Not the test's own context: cleanups run commands, too.
	ctx, cancel := context.WithTimeoutCause(context.Background(), patience, errors.New("no answer"))
	defer cancel()
	full := append(c.base[:len(c.base):len(c.base)], args...)
	cmd := exec.CommandContext(ctx, full[0], full[1:]...)
	var stdout, stderr bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(stdin), &stdout, &stderr
	cmd.Env, cmd.Dir = append(os.Environ(), c.env...), c.dir
	cmd.WaitDelay = time.Second // a background process may hold the pipes
	err := cmd.Run()
	var exit *exec.ExitError
	if ctx.Err() != nil || err != nil && !errors.As(err, &exit) && !errors.Is(err, exec.ErrWaitDelay) {
		c.t.Fatalf("%s: %v: %v\n%s%s", strings.Join(full, " "), err, context.Cause(ctx), &stdout, &stderr)
	}
	return result{stdout.String(), stderr.String(), cmd.ProcessState.ExitCode()}
}

// try runs a command, whatever comes of it.
func (c client) try(args ...string) result {
	c.t.Helper()
	return c.feed("", args...)
}

// do runs a command that must work and returns what it printed.
func (c client) do(args ...string) string {
	c.t.Helper()
	r := c.try(args...)
	if r.code != 0 {
		c.t.Fatalf("%s: %s", strings.Join(args, " "), r)
	}
	return strings.TrimSuffix(r.stdout, "\n")
}

// fails runs a command that must end with code and say each of the words.
func (c client) fails(code int, words []string, args ...string) {
	c.t.Helper()
	r := c.try(args...)
	if r.code != code {
		c.t.Errorf("%s: want exit code %d, got %s", strings.Join(args, " "), code, r)
	}
	for _, w := range words {
		if !strings.Contains(r.stdout+r.stderr, w) {
			c.t.Errorf("%s: %q is not in the answer: %s", strings.Join(args, " "), w, r)
		}
	}
}

// command runs another program with the client's environment.
func (c client) command(name string, args ...string) (string, error) {
	cmd := exec.Command(name, args...)
	cmd.Env, cmd.Dir = append(os.Environ(), c.env...), c.dir
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// eventually waits for something that other processes bring about.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatalf("gave up waiting until %s", what)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// requireProgram skips a test whose engine is not installed.
func requireProgram(t *testing.T, names ...string) (path string) {
	t.Helper()
	for i := len(names) - 1; i >= 0; i-- {
		var err error
		// Debian's own come first: another docker in /usr/local does not fit its daemon.
		for _, dir := range []string{"/usr/bin", "/usr/sbin"} {
			if path, err = exec.LookPath(filepath.Join(dir, names[i])); err == nil {
				break
			}
		}
		if err != nil {
			path, err = exec.LookPath(names[i])
		}
		if err != nil {
			t.Skipf("needs %s: run scripts/test-deps.sh", names[i])
		}
	}
	return path
}

// runDir is a directory with a short name, for sockets and for podman, which
// refuses long ones.
func runDir(t *testing.T) string {
	t.Helper()
	parent := "/run"
	if os.Geteuid() != 0 {
		parent = os.Getenv("XDG_RUNTIME_DIR")
	}
	dir, err := os.MkdirTemp(parent, "e")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Errorf("something is still in use: %v", err)
		}
	})
	return dir
}
