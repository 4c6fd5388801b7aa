package cli

import (
	"io"
	"os"

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
	showVersion   bool

	rooms rooms
}

// globalFlags are the flags that stand before the command.
func (a *app) globalFlags() *argv.Set {
	s := &argv.Set{}
	s.String(&a.root, "root", 0, "dir", "data root (BOX_ROOT; "+defaultRoot+")")
	s.String(&a.runRoot, "runroot", 0, "dir", "run root (BOX_RUNROOT; "+defaultRunRoot+")")
	s.String(&a.runtime, "runtime", 0, "name", "OCI runtime, a name or a path (BOX_RUNTIME; box-runtime)")
	s.Bool(&a.showVersion, "version", 'v', "print the version")
	s.Refuse("host,H", "context", "config", "debug,D", "log-level,l", "tls", "tlsverify")
	return s
}

// fillPlaces completes the global flags from the environment: flag, variable,
// default, in this order.
func (a *app) fillPlaces() {
	a.root = orElse(a.root, orElse(a.env("BOX_ROOT"), defaultRoot))
	a.runRoot = orElse(a.runRoot, orElse(a.env("BOX_RUNROOT"), defaultRunRoot))
	a.runtime = orElse(a.runtime, a.env("BOX_RUNTIME"))
}

// isTerminal tells whether a stream is a terminal.
func isTerminal(stream any) bool {
	f, ok := stream.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}
