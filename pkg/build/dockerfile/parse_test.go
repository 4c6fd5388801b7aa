package dockerfile

import (
	"errors"
	"strings"
	"testing"

	"box/internal/errdefs"

	"github.com/google/go-cmp/cmp"
)

func parse(t *testing.T, text string) *File {
	t.Helper()
	f, err := Parse("Dockerfile", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func TestStagesAndLines(t *testing.T) {
	f := parse(t, "\ufeff# comment\nARG A=1\nFROM busybox AS Base\r\nRUN a \\\n # inside\n  && b\n\nFROM base\nUSER 1\n")
	if len(f.Args) != 1 || len(f.Stages) != 2 || f.Stages[0].Name != "base" || f.Stages[1].Base != "base" {
		t.Fatalf("args %d, stages %+v", len(f.Args), f.Stages)
	}
	run := f.Stages[0].Instructions[0]
	if run.Where() != (Pos{4, 6}) {
		t.Errorf("RUN at %v", run.Where())
	}
	if d := cmp.Diff([]string{"a   && b"}, run.(*Run).Args); d != "" {
		t.Error(d)
	}
}

// TestErrorText checks the whole of what a user sees: file, line, cause, hint
// and the marked lines.
func TestErrorText(t *testing.T) {
	for _, c := range []struct{ name, text, want string }{
		{
			"unknown instruction", "FROM a\n\nRUN x\nCOPPY a b\nRUN y\nRUN z\nRUN far\n",
			"Dockerfile:4: unknown instruction: COPPY (did you mean COPY?)\n" +
				"  2 |\n  3 | RUN x\n> 4 | COPPY a b\n  5 | RUN y\n  6 | RUN z",
		},
		{
			"two lines", "FROM a\nCOPY --nope \\\n  a b\n",
			"Dockerfile:2: unknown flag: --nope\n  1 | FROM a\n> 2 | COPY --nope \\\n> 3 |   a b",
		},
		{"nothing", "", "Dockerfile: file with no instructions"},
		{"before FROM", "ARG a\nRUN x\n", "Dockerfile:2: RUN stands before the first FROM: only ARG may\n  1 | ARG a\n> 2 | RUN x"},
		{"stage name", "FROM a AS 1x\n", "Dockerfile:1: invalid name for build stage: \"1x\", name can't start with a number or contain symbols\n> 1 | FROM a AS 1x"},
		{"only ARG", "ARG a\n", "Dockerfile: no build stage: a Dockerfile needs a FROM instruction"},
		{"empty RUN", "FROM a\nRUN\n", "Dockerfile:2: RUN requires a command\n  1 | FROM a\n> 2 | RUN"},
		{"directive twice", "# escape=`\n# escape=`\nFROM a\n", "Dockerfile:1: only one escape parser directive can be used\n> 1 | # escape=`\n  2 | # escape=`\n  3 | FROM a"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := Parse("Dockerfile", []byte(c.text))
			if err == nil {
				t.Fatal("parsed")
			}
			if d := cmp.Diff(c.want, err.Error()); d != "" {
				t.Error(d)
			}
			if !errors.Is(err, errdefs.ErrInvalid) {
				t.Error("class is not ErrInvalid")
			}
		})
	}
}

func TestNearestInstruction(t *testing.T) {
	for word, want := range map[string]string{
		"RNU": "RUN", "RUNN": "RUN", "rn": "RUN", "COPPY": "COPY", "EXPSOE": "EXPOSE", "WORKDRI": "WORKDIR",
		"FORM": "FROM", "XYZZY": "", "CMDX": "CMD", "ETNRYPOINT": "ENTRYPOINT", "": "",
	} {
		if got := nearestInstruction(word); got != want {
			t.Errorf("%s: %q, want %q", word, got, want)
		}
	}
}

func TestTooLarge(t *testing.T) {
	if _, err := Parse("D", make([]byte, MaxSize+1)); err == nil || len(err.Error()) > 200 {
		t.Fatalf("error: %.300v", err)
	}
}

func TestRefusals(t *testing.T) {
	for text, want := range map[string]string{
		"RUN --mount=type=secret,id=x cat /x": "RUN --mount=type=secret,id=x",
		"RUN --security=insecure x":           "RUN --security=insecure",
		"COPY --parents a b":                  "COPY --parents",
		"COPY --link a b":                     "COPY --link",
		"ADD --keep-git-dir=true a b":         "ADD --keep-git-dir",
		"ADD --checksum=sha256:00 a b":        "ADD --checksum",
		"RUN --network=none x":                "",
		"COPY --chmod=1 --exclude=x a b":      "",
	} {
		f := parse(t, "FROM a\n"+text+"\n")
		if got := f.Stages[0].Instructions[0].Refusal(); got != want {
			t.Errorf("%s: refused %q, want %q", text, got, want)
		}
	}
}

// A file for another front end is refused, not read as if it were Docker's.
func TestSyntax(t *testing.T) {
	for _, image := range []string{
		"docker/dockerfile", "docker/dockerfile:1", "docker.io/docker/dockerfile:1.7-labs", "docker/dockerfile-upstream:master",
		"mirror.example:5000/docker/dockerfile:1@sha256:" + strings.Repeat("0", 64),
	} {
		if _, err := Parse("Dockerfile", []byte("# syntax="+image+"\nFROM a\n")); err != nil {
			t.Errorf("%s: %v", image, err)
		}
	}
	for _, image := range []string{"evil.example/frontend", "dockerfile", "evildocker/dockerfile", "docker/dockerfile2:1", "docker/dockerfile/x"} {
		_, err := Parse("Dockerfile", []byte("#!/bin/x\n# syntax = "+image+"\n{}\n"))
		if !errors.Is(err, errdefs.ErrUnsupported) || !strings.HasPrefix(err.Error(), "Dockerfile:2: syntax="+image+": ") {
			t.Errorf("%s: %v", image, err)
		}
	}
}

func TestWarnings(t *testing.T) {
	f := parse(t, "# check=error=true\nFROM a as Up\nRUN x \\\n\n  y\n")
	var rules []string
	for _, w := range f.Warnings {
		rules = append(rules, w.Rule)
		if w.Line == 0 || w.Text == "" {
			t.Errorf("warning without line or text: %+v", w)
		}
	}
	if d := cmp.Diff([]string{"", "", "StageNameCasing", "FromAsCasing"}, rules); d != "" {
		t.Error(d)
	}
}

func TestTrigger(t *testing.T) {
	ins, err := ParseTrigger("COPY a /b")
	if err != nil {
		t.Fatal(err)
	}
	if c, ok := ins.(*Copy); !ok || c.Dest != "/b" {
		t.Errorf("%#v", ins)
	}
	for _, bad := range []string{"", "FROM x", "ONBUILD RUN x", "RUN a\nRUN b", "NOPE"} {
		if _, err := ParseTrigger(bad); err == nil {
			t.Errorf("%q was accepted", bad)
		}
	}
}

func TestExpander(t *testing.T) {
	x := parse(t, "FROM a\n").NewExpander()
	env := Lookup(func(n string) (string, bool) {
		v, ok := map[string]string{"A": "1", "TWO": "x y"}[n]
		return v, ok
	})
	for in, want := range map[string]string{
		"$A": "1", "${A}b": "1b", `\$A`: "$A", "'$A'": "$A", `"$TWO"`: "x y",
		"${N:-d$A}": "d1", "${A:+y}": "y", "$N": "", "${TWO% *}": "x", "${TWO/x/z}": "z y",
	} {
		if got, err := x.Word(in, env); err != nil || got != want {
			t.Errorf("%s: %q %v, want %q", in, got, err, want)
		}
	}
	if got, _ := x.Words("$TWO", env); len(got) != 2 {
		t.Errorf("words of $TWO: %q", got)
	}
	if got, _ := x.Raw(`"$A" 'q'`, env); got != `"1" 'q'` {
		t.Errorf("raw: %s", got)
	}
	if _, err := x.Word("${", env); !errors.Is(err, errdefs.ErrInvalid) {
		t.Errorf("bad word: %v", err)
	}
}

// TestExpansionBombs: what a few lines of a hostile file can expand to is bounded.
func TestExpansionBombs(t *testing.T) {
	vars := map[string]string{"A": strings.Repeat("a", 1<<10), "B": strings.Repeat("b", 1<<10), "LONG": strings.Repeat("a", 1<<20)}
	env := Lookup(func(n string) (string, bool) { return vars[n], vars[n] != "" })
	for name, word := range map[string]string{
		"many":     strings.Repeat("$LONG", 100),
		"default":  strings.Repeat("${NONE:-$LONG}", 100),
		"replaced": "${LONG//a/$LONG}",
		"nested":   "${A//a/${B//b/$A}}",
	} {
		x := parse(t, "FROM a\n").NewExpander()
		if out, err := x.Word(word, env); err == nil || len(err.Error()) > 500 {
			t.Errorf("%s: %d bytes, %.100v", name, len(out), err)
		}
	}
	x := parse(t, "FROM a\n").NewExpander()
	for range 60 { // as: ENV A=$A$A
		vars["A"], _ = x.Word("$A$A", env)
	}
	if len(vars["A"]) > 0 {
		t.Errorf("doubled to %d bytes", len(vars["A"]))
	}
	x = parse(t, "FROM a\n").NewExpander()
	if got, err := x.Word("${B//b/x}-${B//b/y}", env); err != nil || len(got) != 2<<10+1 {
		t.Errorf("two replacements: %d bytes, %v", len(got), err)
	}
}

// TestLongErrors: an error shows where the fault is, not all of it.
func TestLongErrors(t *testing.T) {
	for name, text := range map[string]string{
		"long line":  "FROM a\nNOSUCH " + strings.Repeat("x", 60_000) + "\n",
		"many lines": "FROM a\nRUN <<EOF\n" + strings.Repeat("x\n", 10_000),
		"NUL":        "FROM a\nCOPY a\x00b /\n",
	} {
		_, err := Parse("D", []byte(text))
		if located, ok := errors.AsType[*Error](err); !ok || len(err.Error()) > 2000 || located.Pos.Start != 2 {
			t.Errorf("%s: %.300v", name, err)
		}
	}
}

// FuzzParse looks for panics and for instructions without a line.
func FuzzParse(f *testing.F) {
	f.Add("FROM a\nRUN <<EOF\nx\nEOF\nCOPY --from=b [\"a\",\"b\"] /\n")
	f.Add("# escape=`\nFROM a\nHEALTHCHECK --interval=1s CMD x\nONBUILD ADD a b\n")
	f.Add("# check=skip=all\nFROM --platform=$X a AS b\nENV a=b c=\"d e\" f\\ g=h\n")
	f.Fuzz(func(t *testing.T, text string) {
		file, err := Parse("Dockerfile", []byte(text))
		if err != nil {
			if !strings.HasPrefix(err.Error(), "Dockerfile:") {
				t.Fatalf("error without the file's name: %v", err)
			}
			return
		}
		for _, s := range file.Stages {
			for _, ins := range s.Instructions {
				if ins.Where().Start < 1 || ins.Source() == "" {
					t.Fatalf("%T at %v: %q", ins, ins.Where(), ins.Source())
				}
			}
		}
	})
}
