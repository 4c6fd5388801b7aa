package cli

import (
	"io"
	"os"

	"github.com/urfave/cli/v2"
	"golang.org/x/term"

	"box/pkg/cli/argv"
)

// Places where box keeps its state unless told otherwise.
const (
	defaultRoot    = "/var/lib/box"
	defaultRunRoot = "/run/box"
)

// app is one invocation: its streams, the flags of box itself, and the rooms
// that its command has opened.
type app struct {
	self Build
	in   *os.File
	out  io.Writer
	err  io.Writer
	env  func(string) string

	root, runRoot string
	runtime       string // name or path of the OCI runtime
	verb          string // name of the command; "" while it is not known

	rooms rooms
}

// library is box as the library under the command line sees it. The library
// reads flags, finds the command and prints help and version; errors come back
// from it untouched, because exit codes and messages are made in fail.
func (a *app) library() *cli.App {
	// -h is not among its names, because run has such a flag.
	cli.HelpFlag = &cli.BoolFlag{Name: "help", Hidden: true}
	cli.FlagStringer = describe
	return &cli.App{
		Name: "box", Usage: "Build, run and ship OCI containers, without a daemon", Version: a.self.String(),
		Flags: a.globalFlags(), Before: a.fillPlaces,
		Writer: a.out, ErrWriter: a.err, CustomAppHelpTemplate: boxHelp, HideHelpCommand: true,
		OnUsageError: flagMistake, ExitErrHandler: func(*cli.Context, error) {},
	}
}

// globalFlags are the flags that stand before the command.
func (a *app) globalFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{
			Name: "root", EnvVars: []string{"BOX_ROOT"}, Destination: &a.root,
			Usage: "data root (BOX_ROOT; " + defaultRoot + "): `dir`",
		},
		&cli.StringFlag{
			Name: "runroot", EnvVars: []string{"BOX_RUNROOT"}, Destination: &a.runRoot,
			Usage: "run root (BOX_RUNROOT; " + defaultRunRoot + "): `dir`",
		},
		&cli.StringFlag{
			Name: "runtime", EnvVars: []string{"BOX_RUNTIME"}, Destination: &a.runtime,
			Usage: "OCI runtime, a name or a path (BOX_RUNTIME): `name`",
		},
		argv.Refused("host,H"), argv.Refused("context"), argv.Refused("config"), argv.Refused("debug,D"),
		argv.Refused("log-level,l"), argv.Refused("tls"), argv.Refused("tlsverify"),
	}
}

// fillPlaces completes what neither a flag nor a variable says. A variable that
// is set to nothing counts as not set.
func (a *app) fillPlaces(*cli.Context) error {
	a.root = orElse(a.root, defaultRoot)
	a.runRoot = orElse(a.runRoot, defaultRunRoot)
	return nil
}

// isTerminal tells whether a stream is a terminal.
func isTerminal(stream any) bool {
	f, ok := stream.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}
