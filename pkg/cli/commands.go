package cli

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"

	"github.com/urfave/cli/v2"

	"box/internal/errdefs"
	"box/pkg/cli/argv"
)

// Groups of the help text; the library sorts them.
const (
	groupContainer = "Containers"
	groupImage     = "Images"
	groupRegistry  = "Registries"
	groupSystem    = "System"
)

// verb names a command and makes it.
type verb struct {
	name string
	make func() *cli.Command
}

// verbs are all commands, in the order of the help text.
func (a *app) verbs() []verb {
	return []verb{
		{"run", a.runCommand},
		{"create", a.createCommand},
		{"start", a.startCommand},
		{"attach", a.attachCommand},
		{"exec", a.execCommand},
		{"ps", a.psCommand},
		{"logs", a.logsCommand},
		{"inspect", a.inspectCommand},
		{"wait", a.waitCommand},
		{"stop", a.stopCommand},
		{"restart", a.restartCommand},
		{"kill", a.killCommand},
		{"rm", a.rmCommand},
		{"build", a.buildCommand},
		{"images", a.imagesCommand},
		{"tag", a.tagCommand},
		{"rmi", a.rmiCommand},
		{"load", a.loadCommand},
		{"save", a.saveCommand},
		{"import", a.importCommand},
		{"pull", a.pullCommand},
		{"push", a.pushCommand},
		{"login", a.loginCommand},
		{"logout", a.logoutCommand},
		{"version", a.versionCommand},
	}
}

// commands is the one that is wanted, or all if there is none of this name:
// making all takes a fifth of a millisecond, a tenth of the start.
func (a *app) commands(wanted string) []*cli.Command {
	verbs := a.verbs()
	if i := slices.IndexFunc(verbs, func(v verb) bool { return v.name == wanted }); i >= 0 {
		verbs = verbs[i : i+1]
	}
	var list []*cli.Command
	for _, v := range verbs {
		c := v.make()
		c.CustomHelpTemplate, c.HideHelpCommand = commandHelp, true
		c.OnUsageError, c.Before = flagMistake, checkOperands
		list = append(list, c)
	}
	return list
}

// longForms are Docker's spellings with a noun before the verb, and the verb
// with its flags that each stands for.
var longForms = map[string]map[string]string{
	"container": {
		"run": "run", "create": "create", "start": "start", "attach": "attach", "exec": "exec", "ls": "ps", "list": "ps", "ps": "ps",
		"logs": "logs", "inspect": "inspect --type=container", "wait": "wait", "stop": "stop", "restart": "restart", "kill": "kill",
		"rm": "rm", "remove": "rm",
	},
	"image": {
		"build": "build", "ls": "images", "list": "images", "tag": "tag", "rm": "rmi", "remove": "rmi", "load": "load",
		"save": "save", "import": "import", "pull": "pull", "push": "push", "inspect": "inspect --type=image",
	},
	"builder": {"build": "build"},
	"buildx":  {"build": "build"},
}

// laterCommands are commands of Docker's that box has not, so that they are
// told from typing errors.
var laterCommands = []string{
	"commit", "compose", "container", "context", "cp", "diff", "events", "export", "history", "image",
	"info", "manifest", "network", "pause", "plugin", "port", "rename", "search", "stats", "swarm", "system",
	"top", "unpause", "update", "volume",
}

// shortForm replaces a noun and its verb by the command that they stand for,
// and "help COMMAND" by "COMMAND --help".
func shortForm(words []string) []string {
	if len(words) < 2 {
		return words
	}
	if words[0] == "help" {
		return append(shortForm(words[1:]), "--help")
	}
	if verb, ok := longForms[words[0]][words[1]]; ok {
		return append(strings.Fields(verb), words[2:]...)
	}
	return words
}

// unknownCommand says which command is not known, and which one may have been
// meant.
func unknownCommand(words []string, commands []*cli.Command) error {
	name := words[0]
	if len(words) > 1 && longForms[name] != nil {
		name += " " + words[1]
	}
	for _, later := range laterCommands {
		if words[0] == later {
			return errdefs.New(errdefs.ErrUnsupported, "command %q is not supported yet", name)
		}
	}
	names := []string{"help"}
	for _, c := range commands {
		names = append(names, c.Name)
	}
	err := fmt.Errorf("unknown command %q", name)
	if near := argv.Nearest(name, names); near != "" {
		return errdefs.WithHint(err, "did you mean box %s?", near)
	}
	return errdefs.WithHint(err, "box help lists the commands")
}

// passesOn tells whether what follows the first operand belongs to another
// program, flags included.
func passesOn(c *cli.Command) bool { return strings.HasSuffix(c.ArgsUsage, "[ARG...]") }

// checkOperands compares the number of operands with the usage line.
func checkOperands(c *cli.Context) error {
	atLeast, atMost := operandRange(c.Command.ArgsUsage)
	synopsis := strings.TrimSpace(c.Command.HelpName + " " + c.Command.ArgsUsage)
	switch n := c.NArg(); {
	case n < atLeast:
		return usage(fmt.Errorf("needs more operands: %s", synopsis))
	case atMost >= 0 && n > atMost:
		return usage(fmt.Errorf("unexpected operand %q: %s", c.Args().Get(atMost), synopsis))
	}
	return nil
}

// operandRange is how many operands a usage line asks for: brackets around one
// make it optional, dots allow any number (then atMost is negative).
func operandRange(line string) (atLeast, atMost int) {
	for word := range strings.FieldsSeq(line) {
		if !strings.HasPrefix(word, "[") {
			atLeast++
		}
		if strings.Contains(word, "...") {
			return atLeast, -1
		}
		atMost++
	}
	return atLeast, atMost
}

// deed is what a command does with its operands.
type deed func(ctx context.Context, operands []string) error

// anyone lets every user do it. The first SIGINT or SIGTERM cancels ctx.
func anyone(do deed) cli.ActionFunc {
	return func(c *cli.Context) error {
		ctx, stop := interruptible(c.Context)
		defer stop()
		return do(ctx, c.Args().Slice())
	}
}

// asRoot lets root do it. The first SIGINT or SIGTERM cancels ctx.
func asRoot(do deed) cli.ActionFunc { return anyone(rootOnly(do)) }

// attached leaves signals to the deed, because it passes them on to a container.
func attached(do deed) cli.ActionFunc {
	return func(c *cli.Context) error { return do(c.Context, c.Args().Slice()) }
}

// rootOnly keeps everybody else out.
func rootOnly(do deed) deed {
	return func(ctx context.Context, operands []string) error {
		if os.Geteuid() != 0 {
			return errNotRoot
		}
		return do(ctx, operands)
	}
}

// interruptible is cancelled by the first SIGINT or SIGTERM.
func interruptible(parent context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(parent)
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
