package cli

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"syscall"
	"testing"

	"github.com/urfave/cli/v2"

	"box/internal/errdefs"
	"box/pkg/build/dockerfile"
)

// call runs one command line with an empty environment.
func call(args ...string) (stdout, stderr string, code int) {
	var out, err strings.Builder
	a := &app{self: Build{Version: "1.2.3", Commit: "abcdef"}, in: os.Stdin, out: &out, err: &err, env: func(string) string { return "" }}
	code = a.main(args)
	return out.String(), err.String(), code
}

func TestVersionAndHelp(t *testing.T) {
	for _, args := range [][]string{{"--version"}, {"-v"}, {"-v", "nosuch"}, {"--root", "/x", "-v"}} {
		if out, _, code := call(args...); out != "box version 1.2.3, commit abcdef\n" || code != 0 {
			t.Errorf("%s: %q, %d", args, out, code)
		}
	}
	for _, args := range []string{"", "help", "--help", "-h"} {
		out, stderr, code := call(strings.Fields(args)...)
		if !strings.HasPrefix(out, "Usage: box ") || stderr != "" || code != 0 {
			t.Errorf("%q: %q, %q, %d", args, out, stderr, code)
		}
	}
}

func TestWrongCommandLines(t *testing.T) {
	tests := []struct{ line, want string }{
		{"frobnicate", "box: unknown command \"frobnicate\"; box help lists the commands\n"},
		{"biuld .", "box: unknown command \"biuld\"; did you mean box build?\n"},
		{"compose up", "box: command \"compose\" is not supported yet\n"},
		{"image prune", "box: command \"image prune\" is not supported yet\n"},
		{"--nosuch ps", "box: unknown flag --nosuch; see box help\n"},
		{"--debug ps", "box: flag --debug is not supported yet\n"},
		{"run", "box run: needs more operands: box run IMAGE [COMMAND] [ARG...]; see box run --help\n"},
		{"run --nmae x y", "box run: unknown flag --nmae; did you mean --name?\n"},
		{"run --gpus all x", "box run: flag --gpus is not supported yet\n"},
		{"ps extra", "box ps: unexpected operand \"extra\": box ps; see box ps --help\n"},
		{"ps -n five", "box ps: flag --last: \"five\" is not a whole number; see box ps --help\n"},
		{"logs -n five x", "box logs: flag --tail: \"five\" is neither a number nor all; see box logs --help\n"},
		{"stop -t soon x", "box stop: flag --time: \"soon\" is not a number of seconds; see box stop --help\n"},
		{"help biuld", "box: unknown command \"biuld\"; did you mean box build?\n"},
		{"hlep", "box: unknown command \"hlep\"; did you mean box help?\n"},
		{"save --format zip x", "box save: flag --format: \"zip\" is neither docker-archive nor oci-archive; see box save --help\n"},
	}
	for _, tt := range tests {
		t.Run(tt.line, func(t *testing.T) {
			out, stderr, code := call(strings.Fields(tt.line)...)
			if stderr != tt.want || out != "" || code != 125 {
				t.Errorf("got %q, %q, %d; want %q, 125", out, stderr, code, tt.want)
			}
		})
	}
}

func TestLongForms(t *testing.T) {
	tests := map[string]string{
		"container ls -a":           "box ps --all=true --",
		"container run -it x -y":    "box run --interactive=true --tty=true -- x -y",
		"image ls":                  "box images --",
		"image rm x -f":             "box rmi --force=true -- x",
		"image inspect x":           "box inspect --type=image -- x",
		"help container ls":         "box ps --help --",
		"--root=/x image ls -q":     "box --root=/x images --quiet=true --",
		"--runtime runc rm -- help": "box --runtime=runc rm -- help",
	}
	for typed, want := range tests {
		a := &app{}
		line, err := a.line(a.library(), strings.Fields(typed))
		if got := strings.Join(line, " "); err != nil || got != want {
			t.Errorf("%s: got %q, %v; want %q", typed, got, err, want)
		}
	}
	for noun, forms := range longForms {
		for long, short := range forms {
			if verb := strings.Fields(short)[0]; len((&app{}).commands(verb)) != 1 {
				t.Errorf("%s %s stands for %s, which is not there", noun, long, short)
			}
		}
	}
}

// TestOperandsAreNoCommands: what looks like a flag or a command of the library
// is an operand behind a command.
func TestOperandsAreNoCommands(t *testing.T) {
	for _, operand := range []string{"help", "h", "force", "f", "-"} {
		var got []string
		a := &app{out: &strings.Builder{}, err: os.Stderr}
		library := a.library()
		line, err := a.line(library, []string{"rm", "-f", operand})
		if err != nil {
			t.Fatal(err)
		}
		library.Command("rm").Action = func(c *cli.Context) error {
			got = c.Args().Slice()
			return nil
		}
		if err := library.Run(line); err != nil || len(got) != 1 || got[0] != operand {
			t.Errorf("rm -f %s: operands %q, %v", operand, got, err)
		}
	}
}

func TestOperandRange(t *testing.T) {
	tests := map[string][2]int{
		"": {0, 0}, "CONTEXT": {1, 1}, "[HOST]": {0, 1}, "IMAGE NAME[:TAG]": {2, 2}, "FILE [NAME[:TAG]]": {1, 2},
		"CONTAINER [CONTAINER...]": {1, -1}, "CONTAINER COMMAND [ARG...]": {2, -1}, "IMAGE [COMMAND] [ARG...]": {1, -1},
	}
	for line, want := range tests {
		if atLeast, atMost := operandRange(line); [2]int{atLeast, atMost} != want {
			t.Errorf("%q: %d to %d, want %v", line, atLeast, atMost, want)
		}
	}
}

// TestHelpTexts: every command explains itself within 80 columns.
func TestHelpTexts(t *testing.T) {
	for i, c := range append((&app{}).commands(""), &cli.Command{}) {
		if verbs := (&app{}).verbs(); i < len(verbs) && verbs[i].name != c.Name {
			t.Errorf("%s makes command %s", verbs[i].name, c.Name)
		}
		out, _, code := call(strings.Fields("help " + c.Name)...)
		if again, _, _ := call(c.Name, "--help"); c.Name != "" && again != out {
			t.Errorf("%s --help: %q, not the same as help %s", c.Name, again, c.Name)
		}
		if code != 0 || !strings.HasPrefix(out, strings.TrimSpace("Usage: box "+c.Name)) {
			t.Errorf("%s: %q, %d", c.Name, out, code)
		}
		for line := range strings.Lines(out) {
			if n := len([]rune(strings.TrimSuffix(line, "\n"))); n > 80 {
				t.Errorf("%s: %d columns: %s", c.Name, n, line)
			}
		}
	}
}

func TestHelpOfOneCommand(t *testing.T) {
	const want = `Usage: box stop [OPTIONS] CONTAINER [CONTAINER...]

Ask containers to stop, and kill those that do not.

Options:
  -t, --time, --timeout seconds
                            time to stop in before it is killed (10)
`
	if out, stderr, code := call("stop", "-h", "x"); out != want || stderr != "" || code != 0 {
		t.Errorf("got %q, %q, %d", out, stderr, code)
	}
	if out, _, _ := call("tag", "--help"); out != "Usage: box tag IMAGE NAME[:TAG]\n\nGive an image a further name.\n" {
		t.Errorf("without flags: %q", out)
	}
}

func TestExitCodes(t *testing.T) {
	container := func(err error) error {
		return ofContainer(func(context.Context, []string) error { return err })(t.Context(), nil)
	}
	wrapped := func(err error) error { return fmt.Errorf("wrapped: %w", err) }
	tests := []struct {
		name string
		err  error
		want int
	}{
		{"all well", nil, 0},
		{"failure", errors.New("x"), 1},
		{"failure of a container command", container(errors.New("x")), 125},
		{"container's own", container(exitWith(42)), 42},
		{"container's own 0", container(exitWith(0)), 0},
		{"interrupted before it ran", container(&interrupted{syscall.SIGINT}), 130},
		{"usage of a container command", container(usage(errors.New("x"))), 125},
		{"usage", wrapped(usage(errors.New("x"))), 125},
		{"not found in the container", container(wrapped(withCode(errors.New("x"), 127))), 127},
		{"interrupted", wrapped(&interrupted{syscall.SIGTERM}), 143},
		{"cancelled", wrapped(context.Canceled), 130},
		{"reported", reported{}, 1},
		{"reader has enough", &fs.PathError{Op: "write", Path: "/dev/stdout", Err: syscall.EPIPE}, 141},
	}
	for _, tt := range tests {
		var out, stderr strings.Builder
		a := &app{out: &out, err: &stderr}
		if got := a.fail(tt.err); got != tt.want {
			t.Errorf("%s: %d, want %d", tt.name, got, tt.want)
		}
	}
}

func TestMessages(t *testing.T) {
	tests := []struct {
		name string
		err  error
		want string
	}{
		{"plain", errors.New("remove x: no"), "box rm: remove x: no\n"},
		{"hint", errdefs.WithHint(errors.New("remove x: no"), "try y"), "box rm: remove x: no; try y\n"},
		{"class", errdefs.New(errdefs.ErrUnauthorized, "pull x: denied"), "box rm: pull x: denied; log in with: box login HOST\n"},
		{"own hint wins", errdefs.WithHint(errdefs.New(errdefs.ErrUnauthorized, "pull x: denied"), "go away"), "box rm: pull x: denied; go away\n"},
		{"excerpt", errdefs.WithHint(&dockerfile.Error{File: "Dockerfile", Err: errors.New("x\n 2 | RNU")}, "try RUN"), "box rm: Dockerfile: x\n 2 | RNU\ntry RUN\n"},
		{"lines of others", errors.New("registry: no\nbox rm: done\r"), `box rm: registry: no; box rm: done\x0d` + "\n"},
		{"joined", errdefs.WithHint(errors.Join(errors.New("one"), errors.New("two")), "try y"), "box rm: one; two; try y\n"},
		{"escape sequences", errors.New("read \x1b]0;evil\x07: no"), `box rm: read \x1b]0;evil\x07: no` + "\n"},
	}
	for _, tt := range tests {
		var out strings.Builder
		a := &app{err: &out, verb: "rm"}
		a.fail(tt.err)
		if out.String() != tt.want {
			t.Errorf("%s: got %q, want %q", tt.name, out.String(), tt.want)
		}
	}
}

func TestEachGoesOn(t *testing.T) {
	var out strings.Builder
	a := &app{err: &out, verb: "rm"}
	var done []string
	err := a.each([]string{"a", "b", "c"}, func(name string) error {
		if name == "b" {
			return errors.New("no such container: b")
		}
		done = append(done, name)
		return nil
	})
	if !errors.Is(err, reported{}) || strings.Join(done, "") != "ac" || out.String() != "box rm: no such container: b\n" {
		t.Errorf("got %v, %q, %q", err, done, out.String())
	}
}
