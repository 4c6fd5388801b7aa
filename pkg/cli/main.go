package cli

import (
	"fmt"
	"os"
	"slices"

	"github.com/urfave/cli/v2"

	"box/pkg/cli/argv"
)

// Build says what was built. The Makefile hands it to the linker; both are
// empty in a plain `go build`.
type Build struct {
	Version string // without a leading v
	Commit  string // abbreviated
}

func (b Build) String() string {
	s := orElse(b.Version, "unknown")
	if b.Commit != "" {
		s += ", commit " + b.Commit
	}
	return s
}

// Main runs one command line, without the program's name, on the process's
// own stdio, and returns the exit code.
func Main(build Build, args []string) int {
	a := &app{self: build, in: os.Stdin, out: os.Stdout, err: os.Stderr, env: os.Getenv}
	return a.main(args)
}

func (a *app) main(args []string) int {
	if len(args) > 0 && (args[0] == "--version" || args[0] == "-v") {
		// Installers and shell prompts ask this; the library's answer, sooner.
		fmt.Fprintln(a.out, "box version", a.self)
		return 0
	}
	defer a.close()
	library := a.library()
	line, err := a.line(library, args)
	if err != nil {
		return a.fail(usage(err))
	}
	return a.fail(library.Run(line))
}

// line rewrites what was typed into the form that the library reads, and finds
// out which command it is.
func (a *app) line(library *cli.App, args []string) ([]string, error) {
	globals, rest, err := argv.Normalise(append(library.Flags, cli.VersionFlag), args, false)
	line := append([]string{library.Name}, globals...)
	if err != nil {
		return nil, err
	}
	if len(rest) == 0 {
		rest = []string{"help"}
	}
	rest = shortForm(rest)
	library.Commands = a.commands(rest[0])
	if rest[0] == "help" {
		return line, nil // without a command the library explains them all
	}
	cmd := library.Command(rest[0])
	if cmd == nil {
		return nil, unknownCommand(rest, library.Commands)
	}
	a.verb = cmd.Name
	flags, operands, err := argv.Normalise(cmd.Flags, rest[1:], !passesOn(cmd))
	return slices.Concat(line, []string{cmd.Name}, flags, []string{"--"}, operands), err
}

func orElse(s, fallback string) string {
	if s == "" {
		return fallback
	}
	return s
}
