// Package argv rewrites command lines, as Docker's users write them, into the
// form that the library under box's command line reads.
//
// That library (urfave/cli, on Go's flag package) knows one flag per word,
// stops at the first operand and takes no value that is glued to a short flag.
// People type
//
//	box run -dp 8080:80 -eKEY=value --rm=true image command -x
//	box rm hello -f
//
// which is the grammar of POSIX and GNU: short flags can be combined (-it), a
// value may follow its flag or be glued to it (-p 80, -p80, -p=80, --publish 80,
// --publish=80), flags may stand among the operands unless the command hands
// its tail to another program, and -- ends the flags.
//
// It reads no values, holds no state and knows no commands: words in, words
// out.
//
// Invariants: what comes out is one --name=value per flag, by the flag's first
// name and in the order of the line, and the operands unchanged; a flag that is
// known but not built is refused by name, never ignored; the first mistake is
// reported and nothing is rewritten then.
package argv

import (
	"errors"
	"flag"
	"fmt"
	"strconv"
	"strings"

	"github.com/urfave/cli/v2"

	"box/internal/errdefs"
)

// Refused is a flag that Docker has and box has not, so that it is told from a
// typing error: its name, and its short name behind a comma if it has one
// ("cpu-shares,c"). Whether it would take a value does not matter: it is
// refused before. The library never sees it set and does not list it.
type Refused string

var _ cli.Flag = Refused("")

// Names are the long name and the short one.
func (r Refused) Names() []string { return strings.Split(string(r), ",") }

// Apply defines nothing: there is no value.
func (r Refused) Apply(*flag.FlagSet) error { return nil }

// IsSet is never so.
func (r Refused) IsSet() bool { return false }

// String is empty, as there is nothing to explain.
func (r Refused) String() string { return "" }

// UnknownFlagError says that there is no such flag.
type UnknownFlagError struct {
	Flag    string // as it was typed
	Nearest string // name of the flag that may have been meant, or ""
}

func (e *UnknownFlagError) Error() string { return "unknown flag " + e.Flag }

// errHelp stops the reading at -h or --help where a flag may stand.
var errHelp = errors.New("help is asked for")

// Normalise reads the flags at the beginning of args, or with interspersed
// everywhere, and returns them as single words; operands is everything else.
// If help is asked for, that is all that comes back.
func Normalise(flags []cli.Flag, args []string, interspersed bool) (words, operands []string, err error) {
	r := newReader(flags)
	r.rest = args
	for len(r.rest) > 0 {
		word := r.next()
		switch {
		case word == "--":
			return r.words, append(operands, r.rest...), nil
		case strings.HasPrefix(word, "--"):
			err = r.long(word[2:])
		case len(word) > 1 && word[0] == '-':
			err = r.shorts(word[1:])
		case !interspersed:
			return r.words, append([]string{word}, r.rest...), nil
		default:
			operands = append(operands, word)
		}
		if errors.Is(err, errHelp) {
			return []string{"--help"}, nil, nil
		}
		if err != nil {
			return nil, nil, err
		}
	}
	return r.words, operands, nil
}

// reader is what Normalise has read so far.
type reader struct {
	flags  []cli.Flag
	byName map[string]cli.Flag
	words  []string // flags, rewritten
	rest   []string // what is not read yet
}

func newReader(flags []cli.Flag) *reader {
	r := &reader{flags: flags, byName: map[string]cli.Flag{}}
	for _, f := range flags {
		for _, name := range f.Names() {
			r.byName[name] = f
		}
	}
	return r
}

// next takes a word off the rest.
func (r *reader) next() string {
	word := r.rest[0]
	r.rest = r.rest[1:]
	return word
}

// long reads --name, --name=value or --name value.
func (r *reader) long(word string) error {
	name, value, glued := strings.Cut(word, "=")
	f := r.byName[name]
	switch {
	case name == "help":
		return errHelp
	case f == nil || len(name) == 1:
		return r.unknown(name)
	}
	return r.flag(f, "--"+name, value, glued)
}

// shorts reads -a, -abc, -p80, -p=80 or -p 80.
func (r *reader) shorts(group string) error {
	for i := range len(group) {
		f, typed := r.byName[group[i:i+1]], "-"+group[i:i+1]
		switch {
		case f == nil && group[i] == 'h':
			return errHelp
		case f == nil:
			return &UnknownFlagError{Flag: fmt.Sprintf("%s in -%s", typed, group)}
		}
		// The rest of the word is more switches, or else the value.
		value, equals := strings.CutPrefix(group[i+1:], "=")
		if equals || value != "" && takesValue(f) {
			return r.flag(f, typed, value, true)
		}
		if err := r.flag(f, typed, "", false); err != nil {
			return err
		}
	}
	return nil
}

// flag adds one flag to the words. A value that is not glued to it is the next
// word, and true for a switch.
func (r *reader) flag(f cli.Flag, typed, value string, glued bool) error {
	name := f.Names()[0]
	_, refused := f.(Refused)
	switch {
	case refused:
		return errdefs.New(errdefs.ErrUnsupported, "flag --%s is not supported yet", name)
	case !takesValue(f) && !glued:
		value = "true"
	case !takesValue(f):
		if _, err := strconv.ParseBool(value); err != nil {
			return fmt.Errorf("flag %s: %q is neither true nor false", typed, value)
		}
	case !glued && len(r.rest) == 0:
		return fmt.Errorf("flag %s needs a value", typed)
	case !glued:
		value = r.next()
	}
	r.words = append(r.words, "--"+name+"="+value)
	return nil
}

func takesValue(f cli.Flag) bool {
	v, ok := f.(interface{ TakesValue() bool })
	return ok && v.TakesValue()
}

// unknown says which flag is not known, and which one may have been meant.
func (r *reader) unknown(name string) error {
	var names []string
	for _, f := range r.flags {
		if _, refused := f.(Refused); !refused {
			names = append(names, f.Names()[0])
		}
	}
	return &UnknownFlagError{Flag: "--" + name, Nearest: Nearest(name, names)}
}
