package cli

import (
	"context"
	"fmt"
	"io"
	"strings"

	"box/internal/errdefs"
	"box/pkg/cli/argv"
)

// command is one verb.
type command struct {
	name     string
	operands string // for the usage line: "IMAGE [COMMAND] [ARG...]"
	summary  string // one line, without a full stop
	min, max int    // number of operands; max < 0 for any

	// stopsAtOperand ends the flags at the first operand, because what
	// follows belongs to another program.
	stopsAtOperand bool
	// ownSignals keeps SIGINT and SIGTERM away from the context, because the
	// command passes them on.
	ownSignals bool
	// runsContainer makes box's own failures exit with 125 instead of 1, so
	// that they are told from the container's exit code.
	runsContainer bool
	// anyUser is for commands that work without root.
	anyUser bool

	flags argv.Set
	run   func(ctx context.Context, a *app, args []string) error
}

// verb names a command and makes it; making is left to when it is wanted.
type verb struct {
	name, group string
	make        func() *command
}

// Groups of the help text, in its order.
const (
	groupContainer = "Containers"
	groupImage     = "Images"
	groupRegistry  = "Registries"
	groupOther     = "Other"
)

// verbs are all commands, in the order of the help text.
func verbs() []verb {
	return []verb{
		{"run", groupContainer, runCommand},
		{"create", groupContainer, createCommand},
		{"start", groupContainer, startCommand},
		{"attach", groupContainer, attachCommand},
		{"exec", groupContainer, execCommand},
		{"ps", groupContainer, psCommand},
		{"logs", groupContainer, logsCommand},
		{"inspect", groupContainer, inspectCommand},
		{"wait", groupContainer, waitCommand},
		{"stop", groupContainer, stopCommand},
		{"restart", groupContainer, restartCommand},
		{"kill", groupContainer, killCommand},
		{"rm", groupContainer, rmCommand},
		{"build", groupImage, buildCommand},
		{"images", groupImage, imagesCommand},
		{"tag", groupImage, tagCommand},
		{"rmi", groupImage, rmiCommand},
		{"load", groupImage, loadCommand},
		{"save", groupImage, saveCommand},
		{"import", groupImage, importCommand},
		{"pull", groupRegistry, pullCommand},
		{"push", groupRegistry, pushCommand},
		{"login", groupRegistry, loginCommand},
		{"logout", groupRegistry, logoutCommand},
		{"version", groupOther, versionCommand},
		{"help", groupOther, helpCommand},
	}
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

// find returns the command that args begin with, and what follows it.
func find(args []string) (*command, []string, error) {
	name, rest := args[0], args[1:]
	if short, ok := longForms[name]; ok && len(rest) > 0 {
		verb, ok := short[rest[0]]
		if !ok {
			return nil, nil, unknownCommand(name + " " + rest[0])
		}
		name, implied, _ := strings.Cut(verb, " ")
		return pick(name, append(strings.Fields(implied), rest[1:]...))
	}
	return pick(name, rest)
}

// pick makes the command that is called name.
func pick(name string, rest []string) (*command, []string, error) {
	for _, v := range verbs() {
		if v.name == name {
			return v.make(), rest, nil
		}
	}
	return nil, nil, unknownCommand(name)
}

func unknownCommand(name string) error {
	var names []string
	for _, v := range verbs() {
		names = append(names, v.name)
	}
	first, _, _ := strings.Cut(name, " ")
	for _, later := range laterCommands {
		if first == later {
			return usage(errdefs.New(errdefs.ErrUnsupported, "command %q is not supported yet", name))
		}
	}
	err := fmt.Errorf("unknown command %q", name)
	if near := argv.Nearest(name, names); near != "" {
		return usage(errdefs.WithHint(err, "did you mean box %s?", near))
	}
	return usage(errdefs.WithHint(err, "box help lists the commands"))
}

// checkOperands compares the number of operands with what the command takes.
func (c *command) checkOperands(operands []string) error {
	switch n := len(operands); {
	case n < c.min:
		return fmt.Errorf("needs more operands: %s", c.synopsis())
	case c.max >= 0 && n > c.max:
		return fmt.Errorf("unexpected operand %q: %s", operands[c.max], c.synopsis())
	}
	return nil
}

func (c *command) synopsis() string { return strings.TrimSpace("box " + c.name + " " + c.operands) }

func helpCommand() *command {
	return &command{
		name: "help", operands: "[COMMAND]", summary: "Explain box or one of its commands", max: 1, anyUser: true,
		run: func(_ context.Context, a *app, args []string) error {
			if len(args) == 0 {
				a.printUsage(a.out)
				return nil
			}
			cmd, _, err := find(args)
			if err != nil {
				return err
			}
			printHelp(a.out, cmd)
			return nil
		},
	}
}

// printUsage explains box as a whole.
func (a *app) printUsage(w io.Writer) {
	fmt.Fprint(w, "Usage: box [OPTIONS] COMMAND [ARG...]\n\nBuild, run and ship OCI containers, without a daemon.\n")
	group := ""
	for _, v := range verbs() {
		if v.group != group {
			group = v.group
			fmt.Fprintf(w, "\n%s:\n", group)
		}
		fmt.Fprintf(w, "  %-10s %s\n", v.name, v.make().summary)
	}
	fmt.Fprint(w, "\nOptions:\n")
	printFlags(w, a.globalFlags())
	fmt.Fprint(w, "\nbox COMMAND --help explains a command.\n")
}

// printHelp explains one command.
func printHelp(w io.Writer, c *command) {
	options := "[OPTIONS] "
	if len(c.flags.Flags()) == 0 {
		options = ""
	}
	fmt.Fprintf(w, "Usage: %s\n\n%s.\n", strings.TrimSpace("box "+c.name+" "+options+c.operands), c.summary)
	if options != "" {
		fmt.Fprint(w, "\nOptions:\n")
		printFlags(w, &c.flags)
	}
}

// flagColumn is where the explanations begin; longer flags get a line of
// their own, so that the whole stays within 80 columns.
const flagColumn = 28

func printFlags(w io.Writer, s *argv.Set) {
	for _, f := range s.Flags() {
		left := "      --" + f.Name
		if f.Short != 0 {
			left = fmt.Sprintf("  -%c, --%s", f.Short, f.Name)
		}
		left = strings.TrimRight(left+" "+f.Value, " ")
		if len(left) >= flagColumn {
			fmt.Fprintln(w, left)
			left = ""
		}
		fmt.Fprintf(w, "%-*s%s\n", flagColumn, left, f.Usage)
	}
}
