package dockerfile

import (
	"errors"
	"fmt"
	"strings"

	"box/internal/errdefs"

	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/frontend/dockerfile/parser"
)

// excerptMargin is how many lines are shown before and after a fault.
const excerptMargin = 2

// Error is a fault in a Dockerfile. Its text begins with file:line and ends
// with the lines around the fault, the faulty ones marked.
type Error struct {
	// File is the name of the Dockerfile.
	File string
	// Pos are the faulty lines; the zero value when the whole file is meant.
	Pos Pos
	// Err is the cause.
	Err error

	excerpt string
}

// Error implements error.
func (e *Error) Error() string {
	if e.Pos.Start == 0 {
		return fmt.Sprintf("%s: %v", e.File, e.Err)
	}
	return fmt.Sprintf("%s:%d: %v\n%s", e.File, e.Pos.Start, e.Err, e.excerpt)
}

// Unwrap gives the cause.
func (e *Error) Unwrap() error { return e.Err }

// ErrorAt says that err concerns the lines at pos.
func (f *File) ErrorAt(pos Pos, err error) error {
	var located *Error
	if errors.As(err, &located) {
		return err
	}
	return &Error{File: f.Name, Pos: pos, Err: err, excerpt: excerpt(f.lines, pos)}
}

// Refuse gives the error for an instruction that box does not carry out.
func (f *File) Refuse(pos Pos, what string) error {
	return f.ErrorAt(pos, errdefs.New(errdefs.ErrUnsupported, "%s is not supported yet", what))
}

// excerpt shows the lines at pos with a margin; a marker stands before the faulty ones.
func excerpt(lines []string, pos Pos) string {
	var b strings.Builder
	first := max(1, pos.Start-excerptMargin)
	last := min(len(lines), pos.End+excerptMargin, first+maxLines-1)
	width := len(fmt.Sprint(last))
	for n := first; n <= last; n++ {
		mark := "  "
		if n >= pos.Start && n <= pos.End {
			mark = "> "
		}
		line := fmt.Sprintf("%s%*d | %s", mark, width, n, cut(lines[n-1], maxShown))
		b.WriteString(strings.TrimRight(line, " \t\r"))
		b.WriteByte('\n')
	}
	return strings.TrimRight(b.String(), "\n")
}

// maxLines is how many lines an error shows: heredocs may have thousands.
const maxLines = 20

// maxShown is how much of a line an error shows, in bytes: lines may have millions.
const maxShown = 240

// cut shortens s for an error.
func cut(s string, limit int) string {
	if len(s) <= limit {
		return s
	}
	return strings.ToValidUTF8(s[:limit], "") + "…"
}

// locate turns an error of BuildKit's packages into an *Error. The innermost
// location is the most exact one, hence the first that was attached.
func (f *File) locate(err error) error {
	var at *parser.LocationError
	pos := Pos{}
	if errors.As(err, &at) && len(at.Locations) > 0 {
		pos = posOf(at.Locations[0])
		err = at.Unwrap()
	}
	if unknown, ok := errors.AsType[*instructions.UnknownInstructionError](err); ok {
		err = unknownInstruction(unknown.Instruction)
	}
	pos = f.clamp(pos)
	return f.ErrorAt(pos, errdefs.Wrap(errdefs.ErrInvalid, err))
}

// clamp keeps pos inside the file: the parser reports line 0 or one past the
// end for faults that concern the file as a whole.
func (f *File) clamp(pos Pos) Pos {
	if pos.Start < 1 || pos.Start > len(f.lines) {
		return Pos{}
	}
	pos.End = min(max(pos.End, pos.Start), len(f.lines))
	return pos
}

func posOf(ranges []parser.Range) Pos {
	if len(ranges) == 0 {
		return Pos{}
	}
	return Pos{Start: ranges[0].Start.Line, End: ranges[len(ranges)-1].End.Line}
}
