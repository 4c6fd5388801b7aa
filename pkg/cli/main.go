package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"box/pkg/cli/argv"
)

// Build says what was built. The Makefile hands it to the linker; both are
// empty in a plain `go build`.
type Build struct {
	Version string // without a leading v
	Commit  string // abbreviated
}

func (b Build) String() string {
	s := "box version " + orElse(b.Version, "unknown")
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

// main reads the flags of box itself and hands over to the command.
func (a *app) main(args []string) int {
	set := a.globalFlags()
	rest, err := set.Parse(args, false)
	switch {
	case errors.Is(err, argv.ErrHelp):
		a.printUsage(a.out)
		return 0
	case err != nil:
		return a.fail(nil, usage(err))
	case a.showVersion:
		fmt.Fprintln(a.out, a.self)
		return 0
	case len(rest) == 0:
		a.printUsage(a.out)
		return 0
	}
	a.fillPlaces()
	cmd, rest, err := find(rest)
	if err != nil {
		return a.fail(nil, err)
	}
	return a.call(cmd, rest)
}

// call reads the command's flags and runs it.
func (a *app) call(cmd *command, args []string) int {
	operands, err := cmd.flags.Parse(args, !cmd.stopsAtOperand)
	switch {
	case errors.Is(err, argv.ErrHelp):
		printHelp(a.out, cmd)
		return 0
	case err != nil:
		return a.fail(cmd, usage(err))
	}
	if err := cmd.checkOperands(operands); err != nil {
		return a.fail(cmd, usage(err))
	}
	if !cmd.anyUser && os.Geteuid() != 0 {
		return a.fail(cmd, errNotRoot)
	}
	ctx, stop := a.context(cmd)
	defer stop()
	defer a.close()
	return a.fail(cmd, cmd.run(ctx, a, operands))
}

// context is cancelled by the first SIGINT or SIGTERM. Commands that pass
// signals on to a container deal with them on their own.
func (a *app) context(cmd *command) (context.Context, context.CancelFunc) {
	if cmd.ownSignals {
		return context.WithCancel(context.Background())
	}
	ctx, cancel := context.WithCancelCause(context.Background())
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM)
	go func() {
		sig, ok := <-signals
		if !ok {
			return
		}
		// The second signal ends the process at once.
		signal.Stop(signals)
		cancel(&interrupted{sig: sig.(syscall.Signal)})
	}()
	return ctx, func() {
		signal.Stop(signals)
		close(signals)
		cancel(nil)
	}
}

// interrupted is the cause of a cancelled context.
type interrupted struct{ sig syscall.Signal }

func (e *interrupted) Error() string {
	return "interrupted by " + strings.ToUpper(e.sig.String())
}

func orElse(s, fallback string) string {
	if s == "" {
		return fallback
	}
	return s
}
