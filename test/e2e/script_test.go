package e2e

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"box/internal/testkit"
	"box/test/baseimage"
)

// TestScripts runs the scenarios of testdata/*.txtar. Beside testscript's own
// commands they have
//
//	exits CODE PROGRAM [ARG...]   the program must end with this code
//	fetch URL                     get a page, waiting for the server to listen
//	box ARG...                    exec box, which must work
//
// and the variables $PORT1 and $PORT2 (free ports), $MIRROR (the registry that
// stands in for docker.io). Each has a data root and a run root of its own;
// behind each it is checked that nothing is left.
func TestScripts(t *testing.T) {
	requireRoot(t)
	require(t, "docker-registry", "busybox")
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata",
		Setup:               func(env *testscript.Env) error { return setupScript(t, env) },
		RequireExplicitExec: true,
		ContinueOnError:     true,
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"exits": exits,
			"fetch": fetchPage,
			"box":   runBox,
		},
	})
}

func setupScript(t *testing.T, env *testscript.Env) error {
	addr, err := mirror.serve("busybox")
	if err != nil {
		return err
	}
	// Short, because sockets lie below it.
	dir, err := os.MkdirTemp("", "bx")
	if err != nil {
		return err
	}
	conf := filepath.Join(dir, "registries.toml")
	if err := baseimage.WriteRegistries(conf, addr); err != nil {
		return err
	}
	env.Setenv("PATH", programs+":"+os.Getenv("PATH"))
	env.Setenv("HOME", filepath.Join(dir, "home"))
	env.Setenv("BOX_ROOT", filepath.Join(dir, "data"))
	env.Setenv("BOX_RUNROOT", filepath.Join(dir, "run"))
	env.Setenv("BOX_RUNTIME", os.Getenv("BOX_RUNTIME"))
	env.Setenv("BOX_REGISTRIES_CONF", conf)
	env.Setenv("MIRROR", addr)
	env.Setenv("PORT1", testkit.FreePort(t))
	env.Setenv("PORT2", testkit.FreePort(t))
	h := &host{t: t, dir: dir, root: filepath.Join(dir, "data"), runRoot: filepath.Join(dir, "run"), env: env.Vars, ids: map[string]bool{}}
	env.Defer(h.end)
	return nil
}

// exits runs a program that must end with a given code. What it printed can be
// looked at by stdout and stderr, as behind exec.
func exits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits CODE PROGRAM [ARG...]")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	err = ts.Exec(args[1], args[2:]...)
	got := 0
	var exit *exec.ExitError
	switch {
	case errors.As(err, &exit):
		got = exit.ExitCode()
	case err != nil:
		ts.Fatalf("%s: %v", strings.Join(args[1:], " "), err)
	}
	if got != want {
		ts.Fatalf("%s: exit code %d, want %d", strings.Join(args[1:], " "), got, want)
	}
}

func runBox(ts *testscript.TestScript, neg bool, args []string) {
	err := ts.Exec("box", args...)
	if (err != nil) != neg {
		ts.Fatalf("box %s: %v", strings.Join(args, " "), err)
	}
}

// fetchPage gets a page with curl, so that stdout can be looked at.
func fetchPage(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: fetch URL")
	}
	ts.Check(ts.Exec("curl", "-fsS", "--retry", "20", "--retry-connrefused", "--retry-all-errors", "--retry-delay", "1", args[0]))
}
