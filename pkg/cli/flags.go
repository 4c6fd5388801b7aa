package cli

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"box/pkg/cli/argv"
)

// The functions below make the library's flags. Names are written "name,n":
// the long name first, then others; in the explanation the name of the value
// stands in backquotes (see describe). What *to holds beforehand is the default.

// boolFlag makes a switch.
func boolFlag(to *bool, names, usage string) cli.Flag {
	name, aliases := split(names)
	return &cli.BoolFlag{Name: name, Aliases: aliases, Usage: usage, Destination: to, Value: *to}
}

// textFlag makes a flag of which the last one given counts.
func textFlag(to *string, names, usage string) cli.Flag {
	name, aliases := split(names)
	return &cli.StringFlag{Name: name, Aliases: aliases, Usage: usage, Destination: to, Value: *to}
}

// listFlag makes a flag whose values are collected in order. The library's own
// one cuts values at commas, trims blanks and turns bytes that are not UTF-8
// into others.
func listFlag(to *[]string, names, usage string) cli.Flag {
	return genericFlag(names, usage, func(v string) error {
		*to = append(*to, v)
		return nil
	})
}

// parsedFlag makes a flag whose value has a form of its own.
func parsedFlag[T any](to *T, names, usage string, parse func(string) (T, error)) cli.Flag {
	return genericFlag(names, usage, func(v string) (err error) {
		*to, err = parse(v)
		return err
	})
}

// refused are flags of Docker's that box has not; see argv.Refused.
func refused(names ...string) []cli.Flag {
	flags := make([]cli.Flag, len(names))
	for i, n := range names {
		flags[i] = argv.Refused(n)
	}
	return flags
}

func genericFlag(names, usage string, set func(string) error) cli.Flag {
	name, aliases := split(names)
	return &cli.GenericFlag{Name: name, Aliases: aliases, Usage: usage, Value: value(set)}
}

func split(names string) (name string, aliases []string) {
	all := strings.Split(names, ",")
	return all[0], all[1:]
}

// value receives what a flag is set to.
type value func(string) error

// again is what the library sets the other names of a flag to, once it is set
// by one of them. No word of a command line contains a zero byte.
const again = "\x00"

// Set is called once for every time that the flag is given.
func (v value) Set(text string) error {
	if text == again {
		return nil
	}
	return v(text)
}

// Serialize is what the library copies to the flag's other names.
func (v value) Serialize() string { return again }

// String would be the default; there is none.
func (v value) String() string { return "" }

// number reads a whole number.
func number(v string) (int, error) {
	n, err := strconv.Atoi(v)
	if err != nil {
		return 0, fmt.Errorf("%q is not a whole number", v)
	}
	return n, nil
}

// seconds reads a number of seconds, as Docker's -t takes it, or a duration
// with its unit (90s, 2m). The pointer tells 0 from not given.
func seconds(v string) (*time.Duration, error) {
	if n, err := strconv.Atoi(v); err == nil {
		d := time.Duration(n) * time.Second
		return &d, nil
	}
	d, err := time.ParseDuration(v)
	if err != nil {
		return nil, fmt.Errorf("%q is not a number of seconds", v)
	}
	return &d, nil
}

// given reads any text. The pointer tells the empty one from none.
func given(v string) (*string, error) { return &v, nil }

// flagMistake is the library's error about a value, in box's words:
//
//	invalid value "x" for flag -tail: cause
func flagMistake(_ *cli.Context, err error, _ bool) error {
	text, _ := strings.CutPrefix(err.Error(), "invalid value ")
	quoted, _ := strconv.QuotedPrefix(text)
	if text, ok := strings.CutPrefix(text[len(quoted):], " for flag -"); ok {
		return usage(fmt.Errorf("flag --%s", text))
	}
	return usage(err)
}
