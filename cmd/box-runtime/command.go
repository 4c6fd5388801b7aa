package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"box/internal/errdefs"
	"box/pkg/runtime"
)

// command is one verb. run is given what remains after the flags.
type command struct {
	name  string
	usage string // the arguments, for the help
	about string
	min   int // fewest arguments
	max   int // most arguments, -1 for any number
	order order
	lends bool // its standard streams are those of a container's process
	flags []flag
	run   func(ctx context.Context, args []string) error
}

// verbs lists what makes the commands, in the order of a container's life. Only the one
// that is asked for is made.
var verbs = []struct {
	name string
	make func(*globals) *command
}{
	{"spec", specCommand},
	{"create", createCommand},
	{"start", startCommand},
	{"run", runCommand},
	{"exec", execCommand},
	{"state", stateCommand},
	{"list", listCommand},
	{"ps", psCommand},
	{"kill", killCommand},
	{"pause", pauseCommand},
	{"resume", resumeCommand},
	{"update", updateCommand},
	{"events", eventsCommand},
	{"delete", deleteCommand},
	{"plan", planCommand},
	{"features", featuresCommand},
	{"checkpoint", checkpointCommand},
	{"restore", restoreCommand},
}

// verb makes the command of that name.
func verb(g *globals, name string) (*command, error) {
	for _, v := range verbs {
		if v.name == name {
			c := v.make(g)
			c.name = name
			return c, nil
		}
	}
	return nil, noTopic(name)
}

// dispatch parses the global flags, finds the verb and runs it.
func dispatch(ctx context.Context, g *globals, args []string) error {
	rest, err := parse(program(), g.flags(), args, inFront)
	switch {
	case err != nil:
		return err
	case g.version:
		printVersion(os.Stdout)
		return nil
	case g.help || len(rest) == 0:
		return help(os.Stdout, g, nil)
	case rest[0] == "help" || rest[0] == "h":
		return help(os.Stdout, g, rest[1:])
	}
	if err := g.check(); err != nil {
		return err
	}
	c, err := verb(g, rest[0])
	if err != nil {
		return err
	}
	g.lent = c.lends
	return c.invoke(ctx, rest[1:])
}

func (c *command) invoke(ctx context.Context, args []string) error {
	wantHelp := false
	flags := append(c.flags, on(&wantHelp, "show this help", "help", "h"))
	rest, err := parse(c.name, flags, args, c.order)
	if err != nil {
		return err
	}
	if wantHelp {
		return c.help(os.Stdout)
	}
	if err := c.count(len(rest)); err != nil {
		return err
	}
	return c.run(ctx, rest)
}

func (c *command) count(n int) error {
	switch {
	case c.min == c.max && n != c.min:
		return errdefs.New(errdefs.ErrInvalid, "%q requires exactly %d argument(s)", c.name, c.min)
	case n < c.min:
		return errdefs.New(errdefs.ErrInvalid, "%q requires a minimum of %d argument(s)", c.name, c.min)
	case c.max >= 0 && n > c.max:
		return errdefs.New(errdefs.ErrInvalid, "%q requires a maximum of %d argument(s)", c.name, c.max)
	}
	return nil
}

// noSuchCommand is the exit status for a verb that nobody knows.
const noSuchCommand = 3

// noTopic is the answer to a verb that nobody knows, in the words and with the exit
// status that runc has from its command line library.
func noTopic(name string) error {
	return statusError{errdefs.New(errdefs.ErrInvalid, "No help topic for '%s'", name), noSuchCommand}
}

// help prints the overview, or one verb's page.
func help(w io.Writer, g *globals, topic []string) error {
	if len(topic) > 0 {
		c, err := verb(g, topic[0])
		if err != nil {
			return err
		}
		return c.help(w)
	}
	fmt.Fprintf(w, "NAME:\n   %s - Open Container Initiative runtime\n\n", program())
	fmt.Fprintf(w, "USAGE:\n   %s [global flags] COMMAND [flags] [arguments]\n\nVERSION:\n   %s\n\nCOMMANDS:\n", program(), version)
	for _, v := range verbs {
		fmt.Fprintf(w, "   %-12s %s\n", v.name, v.make(g).about)
	}
	fmt.Fprintf(w, "\nGLOBAL FLAGS:\n")
	return printFlags(w, g.flags())
}

func (c *command) help(w io.Writer) error {
	line := program() + " " + c.name
	fmt.Fprintf(w, "NAME:\n   %s - %s\n\nUSAGE:\n   ", line, c.about)
	if len(c.flags) > 0 {
		line += " [flags]"
	}
	fmt.Fprintln(w, strings.TrimSpace(line+" "+c.usage))
	if len(c.flags) == 0 {
		return nil
	}
	fmt.Fprintf(w, "\nFLAGS:\n")
	return printFlags(w, c.flags)
}

func printFlags(w io.Writer, flags []flag) error {
	for i := range flags {
		if _, err := fmt.Fprintf(w, "   %-34s %s\n", flags[i].spelling(), flags[i].help); err != nil {
			return err
		}
	}
	return nil
}

// program is the name that we were called by: where a link named runc leads to us,
// scripts look for that name in the version and the help.
func program() string { return filepath.Base(os.Args[0]) }

// runtime opens the state root that the global flags name.
func (g *globals) runtime() *runtime.Runtime {
	return &runtime.Runtime{
		Root: g.root, Inherited: g.inherited, Systemd: g.systemd, Rootless: g.cgroupless,
		Warn: g.warn, Debug: g.debugf,
	}
}
