package dockerfile

import (
	"bytes"
	"errors"
	"path"
	"strings"

	"box/internal/errdefs"

	"github.com/moby/buildkit/frontend/dockerfile/command"
	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/frontend/dockerfile/linter"
	"github.com/moby/buildkit/frontend/dockerfile/parser"
)

// MaxSize is the largest Dockerfile that is accepted, in bytes. A file of this
// size has no place in practice; the bound keeps a wrong -f from eating memory.
const MaxSize = 16 << 20

// Parse reads a Dockerfile. name is used in errors only.
func Parse(name string, text []byte) (*File, error) {
	f := &File{Name: name, lines: splitLines(text)}
	if len(text) > MaxSize {
		return nil, f.ErrorAt(Pos{}, errdefs.New(errdefs.ErrInvalid, "%d bytes are more than a Dockerfile may have (%d)", len(text), MaxSize))
	}
	if at := bytes.IndexByte(text, 0); at >= 0 {
		line := 1 + bytes.Count(text[:at], []byte("\n"))
		return nil, f.ErrorAt(Pos{Start: line, End: line}, errdefs.New(errdefs.ErrInvalid, "the line has a NUL byte"))
	}
	if err := f.checkSyntax(text); err != nil {
		return nil, err
	}
	tree, err := parser.Parse(bytes.NewReader(text))
	if err != nil {
		return nil, f.locate(err)
	}
	f.Escape = tree.EscapeToken
	for _, w := range tree.Warnings {
		f.warn(w.Short, w.Location)
	}
	if _, _, at, ok := parser.ParseDirective("check", text); ok {
		f.Warnings = append(f.Warnings, Warning{Line: posOf(at).Start, Text: "the directive check= is not carried out: findings never stop a build"})
	}
	if err := f.startsWithFrom(tree.AST); err != nil {
		return nil, err
	}
	stages, args, err := instructions.Parse(tree.AST, f.linter())
	if err != nil {
		return nil, f.locate(err)
	}
	return f, f.convert(stages, args)
}

// checkSyntax refuses a file that is written for another front end than Docker's
// own, which is a program in an image: its words may mean anything. Docker's is this
// one, whatever version is named and wherever it is mirrored; what a later one knows
// and this one does not is refused where it stands.
func (f *File) checkSyntax(text []byte) error {
	image, _, at, ok := parser.DetectSyntax(text)
	if !ok {
		return nil
	}
	name, _, _ := strings.Cut(image, "@")
	dir, base := path.Split(name)
	base, _, _ = strings.Cut(base, ":")
	if strings.HasSuffix("/"+dir, "/docker/") && (base == "dockerfile" || base == "dockerfile-upstream") {
		return nil
	}
	return f.Refuse(f.clamp(posOf(at)), "syntax="+cut(image, maxShown)+": a front end other than docker/dockerfile")
}

// startsWithFrom checks that nothing but ARG stands before the first FROM:
// BuildKit's own words for that do not tell a beginner what to do.
func (f *File) startsWithFrom(tree *parser.Node) error {
	for _, n := range tree.Children {
		name := strings.ToUpper(n.Value)
		if _, known := command.Commands[strings.ToLower(n.Value)]; !known || name == "FROM" {
			return nil
		}
		if name != "ARG" {
			err := errdefs.New(errdefs.ErrInvalid, "%s stands before the first FROM: only ARG may", name)
			return f.ErrorAt(f.clamp(posOf(n.Location())), err)
		}
	}
	return nil
}

// linter collects the findings of BuildKit's checks as warnings.
func (f *File) linter() *linter.Linter {
	return linter.New(&linter.Config{
		Warn: func(rule, _, _, text string, at []parser.Range) {
			f.Warnings = append(f.Warnings, Warning{Line: posOf(at).Start, Rule: rule, Text: text})
		},
	})
}

func (f *File) warn(text string, at *parser.Range) {
	w := Warning{Text: text}
	if at != nil {
		w.Line = at.Start.Line
	}
	f.Warnings = append(f.Warnings, w)
}

// convert fills the file from BuildKit's stages.
func (f *File) convert(stages []instructions.Stage, args []instructions.ArgCommand) error {
	if len(stages) == 0 {
		return f.ErrorAt(Pos{}, errdefs.New(errdefs.ErrInvalid, "no build stage: a Dockerfile needs a FROM instruction"))
	}
	for i := range args {
		f.Args = append(f.Args, convertArg(&args[i]))
	}
	for i := range stages {
		stage, err := f.convertStage(i, &stages[i])
		if err != nil {
			return err
		}
		f.Stages = append(f.Stages, stage)
	}
	return nil
}

func (f *File) convertStage(index int, s *instructions.Stage) (*Stage, error) {
	out := &Stage{
		Pos: posOf(s.Location), Index: index, Name: s.Name,
		Base: s.BaseName, Platform: s.Platform, Text: s.SourceCode,
	}
	for _, cmd := range s.Commands {
		ins, err := convertCommand(cmd)
		if err != nil {
			return nil, f.ErrorAt(f.clamp(posOf(cmd.Location())), err)
		}
		out.Instructions = append(out.Instructions, ins)
	}
	return out, nil
}

// ParseTrigger parses the text of an ONBUILD trigger found in a base image.
// The text comes from an image, so it is as little trusted as a Dockerfile.
func ParseTrigger(text string) (Instruction, error) {
	tree, err := parser.Parse(strings.NewReader(text))
	if err != nil {
		return nil, errdefs.Wrap(errdefs.ErrInvalid, bare(err))
	}
	if len(tree.AST.Children) != 1 {
		return nil, errdefs.New(errdefs.ErrInvalid, "trigger %q is not one instruction", text)
	}
	cmd, err := instructions.ParseCommand(tree.AST.Children[0])
	if err != nil {
		return nil, errdefs.Wrap(errdefs.ErrInvalid, bare(err))
	}
	if _, ok := cmd.(*instructions.OnbuildCommand); ok {
		return nil, errdefs.New(errdefs.ErrInvalid, "ONBUILD is not allowed as a trigger of ONBUILD")
	}
	return convertCommand(cmd)
}

// bare drops the location of an error: lines of a trigger mean nothing to the reader.
func bare(err error) error {
	var at *parser.LocationError
	if errors.As(err, &at) {
		return at.Unwrap()
	}
	return err
}

// splitLines gives the lines as an editor counts them.
func splitLines(text []byte) []string {
	return strings.Split(strings.TrimSuffix(string(text), "\n"), "\n")
}
