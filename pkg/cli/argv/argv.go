// Package argv reads command lines the way Docker's users write them.
//
// Go's flag package and the libraries built on it know one dash only, stop at
// the first operand and take no value that is glued to its flag. People type
//
//	box run -dp 8080:80 -eKEY=value --rm=true image command -x
//	box rm hello -f
//
// so this package reads the grammar of POSIX and GNU instead: short flags can
// be combined (-it), a value may follow its flag or be glued to it (-p 80,
// -p80, -p=80, --publish 80, --publish=80), flags may stand among the operands
// unless the command hands its tail to another program, and -- ends the flags.
//
// It is not a command framework: it knows flags and operands, no commands.
//
// Invariants: a Set is filled by its own command only and read once; a flag
// that is known but not built is refused by name, never ignored; reading
// reports the first mistake and has then changed nothing outside the Set's
// own variables.
package argv

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"box/internal/errdefs"
)

// ErrHelp is returned by Parse when -h or --help stands where a flag may stand.
var ErrHelp = errors.New("help requested")

// Flag describes one flag, for reading it and for the help text.
type Flag struct {
	Name  string // long name without dashes
	Short byte   // short name, or 0
	Value string // what the value is called in the help text; "" means a switch
	Usage string // one short line for the help text

	refused bool
	set     func(string) error
}

// Set is the set of flags of one command.
type Set struct {
	flags []*Flag
}

// Add registers a flag whose value is handed to set as often as it is given.
func (s *Set) Add(f Flag, set func(string) error) {
	f.set = set
	s.flags = append(s.flags, &f)
}

// Bool registers a switch. --name=false switches it off again.
func (s *Set) Bool(p *bool, name string, short byte, usage string) {
	s.Add(Flag{Name: name, Short: short, Usage: usage}, func(v string) error {
		on, err := strconv.ParseBool(v)
		if err != nil {
			return fmt.Errorf("%q is neither true nor false", v)
		}
		*p = on
		return nil
	})
}

// String registers a flag of which the last one given counts.
func (s *Set) String(p *string, name string, short byte, value, usage string) {
	s.Add(Flag{Name: name, Short: short, Value: value, Usage: usage}, func(v string) error {
		*p = v
		return nil
	})
}

// List registers a flag whose values are collected in order.
func (s *Set) List(p *[]string, name string, short byte, value, usage string) {
	s.Add(Flag{Name: name, Short: short, Value: value, Usage: usage}, func(v string) error {
		*p = append(*p, v)
		return nil
	})
}

// Int registers a flag that takes a whole number.
func (s *Set) Int(p *int, name string, short byte, value, usage string) {
	s.Add(Flag{Name: name, Short: short, Value: value, Usage: usage}, func(v string) error {
		n, err := strconv.Atoi(v)
		if err != nil {
			return fmt.Errorf("%q is not a whole number", v)
		}
		*p = n
		return nil
	})
}

// Seconds registers a flag that takes a number of seconds, as Docker's -t
// does, or a duration with its unit (90s, 2m). Not given, *p stays nil.
func (s *Set) Seconds(p **time.Duration, name string, short byte, usage string) {
	s.Add(Flag{Name: name, Short: short, Value: "seconds", Usage: usage}, func(v string) error {
		d, err := time.ParseDuration(v)
		if n, atoiErr := strconv.Atoi(v); atoiErr == nil {
			d, err = time.Duration(n)*time.Second, nil
		}
		if err != nil {
			return fmt.Errorf("%q is not a number of seconds", v)
		}
		*p = &d
		return nil
	})
}

// Refuse registers flags that Docker has and box has not, so that they are
// told from typing errors. A name may carry its short form: "cpu-shares,c".
// Whether such a flag would take a value does not matter: it is refused before.
func (s *Set) Refuse(names ...string) {
	for _, n := range names {
		name, short, _ := strings.Cut(n, ",")
		f := &Flag{Name: name, refused: true}
		if short != "" {
			f.Short = short[0]
		}
		s.flags = append(s.flags, f)
	}
}

// All returns every flag, those that are refused included.
func (s *Set) All() []*Flag { return s.flags }

// Flags returns the flags that work, in the order of their registration.
func (s *Set) Flags() []*Flag {
	var list []*Flag
	for _, f := range s.flags {
		if !f.refused {
			list = append(list, f)
		}
	}
	return list
}

// Parse reads args and returns the operands. With interspersed false the
// first operand ends the flags and everything after it is returned as it is.
func (s *Set) Parse(args []string, interspersed bool) ([]string, error) {
	var operands []string
	for len(args) > 0 {
		arg := args[0]
		var err error
		switch {
		case arg == "--":
			return append(operands, args[1:]...), nil
		case strings.HasPrefix(arg, "--"):
			args, err = s.long(arg[2:], args[1:])
		case len(arg) > 1 && arg[0] == '-':
			args, err = s.shorts(arg[1:], args[1:])
		case !interspersed:
			return append(operands, args...), nil
		default:
			operands, args = append(operands, arg), args[1:]
		}
		if err != nil {
			return nil, err
		}
	}
	return operands, nil
}

// long reads --name, --name=value or --name value and returns what is left.
func (s *Set) long(arg string, rest []string) ([]string, error) {
	name, value, glued := strings.Cut(arg, "=")
	f := s.byName(name)
	switch {
	case f == nil && name == "help":
		return nil, ErrHelp
	case f == nil:
		return nil, s.unknown(name)
	case f.refused:
		return nil, refusal(f)
	case f.Value == "" && !glued:
		value = "true"
	case !glued:
		if len(rest) == 0 {
			return nil, fmt.Errorf("flag --%s needs a value: --%s %s", name, name, f.Value)
		}
		value, rest = rest[0], rest[1:]
	}
	if err := f.set(value); err != nil {
		return nil, fmt.Errorf("flag --%s: %w", name, err)
	}
	return rest, nil
}

// shorts reads -a, -abc, -p80, -p=80 or -p 80 and returns what is left.
func (s *Set) shorts(group string, rest []string) ([]string, error) {
	for i := 0; i < len(group); i++ {
		f := s.byShort(group[i])
		switch {
		case f == nil && group[i] == 'h':
			return nil, ErrHelp
		case f == nil:
			return nil, &UnknownFlagError{Flag: fmt.Sprintf("-%c in -%s", group[i], group)}
		case f.refused:
			return nil, refusal(f)
		case f.Value != "":
			return s.shortValue(f, group[i+1:], rest)
		}
		value, end := "true", false
		if strings.HasPrefix(group[i+1:], "=") {
			value, end = group[i+2:], true
		}
		if err := f.set(value); err != nil {
			return nil, fmt.Errorf("flag -%c: %w", f.Short, err)
		}
		if end {
			break
		}
	}
	return rest, nil
}

// shortValue takes the value of f from the rest of its own word or from the
// next one.
func (s *Set) shortValue(f *Flag, glued string, rest []string) ([]string, error) {
	value := strings.TrimPrefix(glued, "=")
	if glued == "" {
		if len(rest) == 0 {
			return nil, fmt.Errorf("flag -%c needs a value: -%c %s", f.Short, f.Short, f.Value)
		}
		value, rest = rest[0], rest[1:]
	}
	if err := f.set(value); err != nil {
		return nil, fmt.Errorf("flag -%c: %w", f.Short, err)
	}
	return rest, nil
}

func (s *Set) byName(name string) *Flag {
	for _, f := range s.flags {
		if f.Name == name {
			return f
		}
	}
	return nil
}

func (s *Set) byShort(c byte) *Flag {
	for _, f := range s.flags {
		if f.Short == c && c != 0 {
			return f
		}
	}
	return nil
}

// unknown says which flag is not known, and which one may have been meant.
func (s *Set) unknown(name string) error {
	var names []string
	for _, f := range s.Flags() {
		names = append(names, f.Name)
	}
	return &UnknownFlagError{Flag: "--" + name, Nearest: Nearest(name, names)}
}

// UnknownFlagError says that there is no such flag.
type UnknownFlagError struct {
	Flag    string // as it was typed
	Nearest string // name of the flag that may have been meant, or ""
}

func (e *UnknownFlagError) Error() string { return "unknown flag " + e.Flag }

func refusal(f *Flag) error {
	return errdefs.New(errdefs.ErrUnsupported, "flag --%s is not supported yet", f.Name)
}
