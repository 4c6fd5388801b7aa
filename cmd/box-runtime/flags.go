package main

import (
	"strconv"
	"strings"

	"box/internal/errdefs"
)

// flag is one option of a command: its names without dashes, what its value is
// called in the help (empty for a switch), and where a value goes.
type flag struct {
	names []string
	value string
	help  string
	set   func(string) error
}

func on(p *bool, help string, names ...string) flag {
	return flag{names: names, help: help, set: func(v string) error {
		b, err := strconv.ParseBool(v)
		*p = b
		return err
	}}
}

func text(p *string, value, help string, names ...string) flag {
	return flag{names: names, value: value, help: help, set: func(v string) error {
		*p = v
		return nil
	}}
}

func number(p *int, help string, names ...string) flag {
	return flag{names: names, value: "N", help: help, set: func(v string) error {
		n, err := strconv.Atoi(v)
		*p = n
		return err
	}}
}

func list(p *[]string, value, help string, names ...string) flag {
	return flag{names: names, value: value, help: help, set: func(v string) error {
		*p = append(*p, v)
		return nil
	}}
}

// order says where flags may stand.
type order int

const (
	// anywhere: between and after the arguments too, as with most of runc's verbs:
	// "update ID --memory 1G".
	anywhere order = iota
	// inFront: what follows the first argument belongs to another command.
	inFront
)

// parse takes the flags out of args and returns the rest. "--" ends the flags. One
// dash is as good as two, and "--name value" as good as "--name=value", as with runc.
func parse(command string, flags []flag, args []string, o order) (rest []string, err error) {
	for len(args) > 0 {
		arg := args[0]
		switch {
		case arg == "--":
			return append(rest, args[1:]...), nil
		case len(arg) >= 2 && arg[0] == '-':
			if args, err = parseOne(flags, arg, args[1:]); err != nil {
				return nil, errdefs.New(errdefs.ErrInvalid, "%s: %w", command, err)
			}
		case o == inFront:
			return args, nil
		default:
			rest, args = append(rest, arg), args[1:]
		}
	}
	return rest, nil
}

func parseOne(flags []flag, arg string, args []string) ([]string, error) {
	name, value, given := strings.Cut(strings.TrimPrefix(arg[1:], "-"), "=")
	f := lookup(flags, name)
	switch {
	case f == nil:
		return nil, errdefs.New(errdefs.ErrInvalid, "flag provided but not defined: -%s", name)
	case f.value == "" && !given:
		value = "true"
	case !given && len(args) == 0:
		return nil, errdefs.New(errdefs.ErrInvalid, "flag needs an argument: -%s", name)
	case !given:
		value, args = args[0], args[1:]
	}
	if err := f.set(value); err != nil {
		return nil, errdefs.New(errdefs.ErrInvalid, "invalid value %q for flag -%s: %w", value, name, err)
	}
	return args, nil
}

func lookup(flags []flag, name string) *flag {
	for i := range flags {
		for _, n := range flags[i].names {
			if n == name {
				return &flags[i]
			}
		}
	}
	return nil
}

// spelling is how the help writes a flag: "--bundle DIR, -b DIR".
func (f *flag) spelling() string {
	var all []string
	for _, n := range f.names {
		dashes := "--"
		if len(n) == 1 {
			dashes = "-"
		}
		all = append(all, strings.TrimSpace(dashes+n+" "+f.value))
	}
	return strings.Join(all, ", ")
}
