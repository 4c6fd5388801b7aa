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

	"box/internal/errdefs"
)

// call runs one command line with an empty environment.
func call(args ...string) (stdout, stderr string, code int) {
	var out, err strings.Builder
	a := &app{self: Build{Version: "1.2.3", Commit: "abcdef"}, in: os.Stdin, out: &out, err: &err, env: func(string) string { return "" }}
	code = a.main(args)
	return out.String(), err.String(), code
}

func TestVersionAndHelp(t *testing.T) {
	for _, args := range []string{"--version", "-v"} {
		if out, _, code := call(args); out != "box version 1.2.3, commit abcdef\n" || code != 0 {
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
		"container ls": "ps", "container run": "run", "image ls": "images", "image rm": "rmi", "image inspect": "inspect",
	}
	for line, want := range tests {
		cmd, _, err := find(strings.Fields(line))
		if err != nil || cmd.name != want {
			t.Errorf("%s: got %v, %v; want %s", line, cmd, err, want)
		}
	}
	_, rest, err := find(strings.Fields("image inspect x"))
	if err != nil || strings.Join(rest, " ") != "--type=image x" {
		t.Errorf("image inspect: %q, %v", rest, err)
	}
	for noun, forms := range longForms {
		for long, short := range forms {
			if _, _, err := find([]string{noun, long}); err != nil {
				t.Errorf("%s %s stands for %s, which is not there: %v", noun, long, short, err)
			}
		}
	}
}

// TestHelpTexts: every command explains itself within 80 columns.
func TestHelpTexts(t *testing.T) {
	for _, v := range verbs() {
		out, _, code := call("help", v.name)
		if code != 0 || !strings.HasPrefix(out, "Usage: box "+v.name) {
			t.Errorf("%s: %q, %d", v.name, out, code)
		}
		for line := range strings.Lines(out) {
			if n := len([]rune(strings.TrimSuffix(line, "\n"))); n > 80 {
				t.Errorf("%s: %d columns: %s", v.name, n, line)
			}
		}
		if v.make().name != v.name {
			t.Errorf("%s makes command %s", v.name, v.make().name)
		}
	}
}

func TestExitCodes(t *testing.T) {
	container := &command{name: "run", runsContainer: true}
	other := &command{name: "rm"}
	wrapped := func(err error) error { return fmt.Errorf("wrapped: %w", err) }
	tests := []struct {
		name string
		cmd  *command
		err  error
		want int
	}{
		{"all well", other, nil, 0},
		{"failure", other, errors.New("x"), 1},
		{"failure of a container command", container, errors.New("x"), 125},
		{"container's own", container, exitWith(42), 42},
		{"container's own 0", container, exitWith(0), 0},
		{"usage", other, wrapped(usage(errors.New("x"))), 125},
		{"not found in the container", container, wrapped(withCode(errors.New("x"), 127)), 127},
		{"interrupted", other, wrapped(&interrupted{syscall.SIGTERM}), 143},
		{"cancelled", other, wrapped(context.Canceled), 130},
		{"reported", other, reported{}, 1},
		{"reader has enough", other, &fs.PathError{Op: "write", Path: "/dev/stdout", Err: syscall.EPIPE}, 141},
	}
	for _, tt := range tests {
		var out, stderr strings.Builder
		a := &app{out: &out, err: &stderr}
		if got := a.fail(tt.cmd, tt.err); got != tt.want {
			t.Errorf("%s: %d, want %d", tt.name, got, tt.want)
		}
	}
}

func TestMessages(t *testing.T) {
	cmd := &command{name: "rm"}
	tests := []struct {
		name string
		err  error
		want string
	}{
		{"plain", errors.New("remove x: no"), "box rm: remove x: no\n"},
		{"hint", errdefs.WithHint(errors.New("remove x: no"), "try y"), "box rm: remove x: no; try y\n"},
		{"class", errdefs.New(errdefs.ErrUnauthorized, "pull x: denied"), "box rm: pull x: denied; log in with: box login HOST\n"},
		{"own hint wins", errdefs.WithHint(errdefs.New(errdefs.ErrUnauthorized, "pull x: denied"), "go away"), "box rm: pull x: denied; go away\n"},
		{"excerpt", errdefs.WithHint(errors.New("Dockerfile:2: x\n 2 | RNU\n"), "try RUN"), "box rm: Dockerfile:2: x\n 2 | RNU\ntry RUN\n"},
		{"escape sequences", errors.New("read \x1b]0;evil\x07: no"), `box rm: read \x1b]0;evil\x07: no` + "\n"},
	}
	for _, tt := range tests {
		var out strings.Builder
		a := &app{err: &out}
		a.fail(cmd, tt.err)
		if out.String() != tt.want {
			t.Errorf("%s: got %q, want %q", tt.name, out.String(), tt.want)
		}
	}
}

func TestEachGoesOn(t *testing.T) {
	var out strings.Builder
	a := &app{err: &out}
	var done []string
	err := a.each(&command{name: "rm"}, []string{"a", "b", "c"}, func(name string) error {
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
