package cli

import (
	"fmt"
	"strings"

	"github.com/urfave/cli/v2"
)

// boxHelp and commandHelp are the library's templates for the help texts.
const (
	boxHelp = `Usage: box [OPTIONS] COMMAND [ARG...]

{{.Usage}}.
{{range .VisibleCategories}}
{{.Name}}:{{range .VisibleCommands}}
  {{printf "%-10s" .Name}} {{.Usage}}{{end}}
{{end}}
Options:
{{range .VisibleFlags}}{{.}}
{{end}}
box COMMAND --help explains a command.
`
	commandHelp = `Usage: {{.HelpName}}{{if .VisibleFlags}} [OPTIONS]{{end}}{{if .ArgsUsage}} {{.ArgsUsage}}{{end}}

{{.Usage}}.
{{if .VisibleFlags}}
Options:
{{range .VisibleFlags}}{{.}}
{{end}}{{end}}`
)

// flagColumn is where the explanations begin; longer flags get a line of
// their own, so that the whole stays within 80 columns.
const flagColumn = 28

// describe is one flag in a help text. The name of its value stands in
// backquotes in its explanation, as the library wants it. Behind a colon at the
// end it is no part of the sentence.
func describe(f cli.Flag) string {
	d, ok := f.(cli.DocGenerationFlag)
	if !ok {
		return ""
	}
	before, rest, _ := strings.Cut(d.GetUsage(), "`")
	value, after, _ := strings.Cut(rest, "`")
	usage, apart := strings.CutSuffix(before, ": ")
	if !apart {
		usage += value + after
	}
	left := strings.TrimRight(flagNames(d.Names())+" "+value, " ")
	if len(left) > flagColumn-2 {
		return left + "\n" + strings.Repeat(" ", flagColumn) + usage
	}
	return fmt.Sprintf("%-*s%s", flagColumn, left, usage)
}

// flagNames puts the short name first, and leaves its place empty if there is
// none.
func flagNames(names []string) string {
	short, long := "    ", ""
	for _, name := range names {
		switch {
		case len(name) == 1:
			short = "-" + name + ", "
		case long == "":
			long = "--" + name
		default:
			long += ", --" + name
		}
	}
	return "  " + short + long
}
