package dockerfile

import (
	"strings"

	"box/internal/errdefs"

	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/frontend/dockerfile/parser"
)

// convertCommand gives box's own type for a command of BuildKit's.
func convertCommand(cmd instructions.Command) (Instruction, error) {
	switch c := cmd.(type) {
	case *instructions.ArgCommand:
		return convertArg(c), nil
	case *instructions.EnvCommand:
		return &Env{Common: common(c), Vars: convertKeyValues(c.Env)}, nil
	case *instructions.LabelCommand:
		return &Label{Common: common(c), Labels: convertKeyValues(c.Labels)}, nil
	case *instructions.RunCommand:
		return convertRun(c)
	case *instructions.CopyCommand:
		return convertCopy(c), nil
	case *instructions.AddCommand:
		return convertAdd(c), nil
	case *instructions.WorkdirCommand:
		return &Workdir{Common: common(c), Path: c.Path}, nil
	case *instructions.UserCommand:
		return &User{Common: common(c), User: c.User}, nil
	}
	return convertConfig(cmd)
}

// convertConfig converts the commands that change nothing but the image config.
func convertConfig(cmd instructions.Command) (Instruction, error) {
	switch c := cmd.(type) {
	case *instructions.ExposeCommand:
		return &Expose{Common: common(c), Ports: c.Ports}, nil
	case *instructions.VolumeCommand:
		return &Volume{Common: common(c), Paths: c.Volumes}, nil
	case *instructions.CmdCommand:
		return &Cmd{Common: common(c), Command: commandOf(c.ShellDependantCmdLine)}, nil
	case *instructions.EntrypointCommand:
		return &Entrypoint{Common: common(c), Command: commandOf(c.ShellDependantCmdLine)}, nil
	case *instructions.ShellCommand:
		return &Shell{Common: common(c), Shell: c.Shell}, nil
	case *instructions.StopSignalCommand:
		return &StopSignal{Common: common(c), Signal: c.Signal}, nil
	case *instructions.MaintainerCommand:
		return &Maintainer{Common: common(c), Name: c.Maintainer}, nil
	case *instructions.OnbuildCommand:
		return &Onbuild{Common: common(c), Trigger: c.Expression}, nil
	case *instructions.HealthCheckCommand:
		return convertHealthcheck(c), nil
	}
	return nil, errdefs.New(errdefs.ErrUnsupported, "%s is not supported yet", strings.ToUpper(cmd.Name()))
}

// sourced is what BuildKit's commands have in common beside instructions.Command.
type sourced interface {
	instructions.Command
	String() string
}

func common(c sourced) Common {
	return Common{pos: posOf(c.Location()), text: c.String()}
}

func commandOf(c instructions.ShellDependantCmdLine) Command {
	return Command{Args: c.CmdLine, Shell: c.PrependShell}
}

func convertArg(c *instructions.ArgCommand) *Arg {
	out := &Arg{Common: common(c)}
	for _, a := range c.Args {
		out.Vars = append(out.Vars, ArgVar{Key: a.Key, Value: a.Value})
	}
	return out
}

func convertKeyValues(in instructions.KeyValuePairs) []KeyValue {
	out := make([]KeyValue, 0, len(in))
	for _, kv := range in {
		out = append(out, KeyValue{Key: kv.Key, Value: kv.Value})
	}
	return out
}

func convertHealthcheck(c *instructions.HealthCheckCommand) *Healthcheck {
	h := c.Health
	return &Healthcheck{
		Common: common(c), Test: h.Test, Interval: h.Interval, Timeout: h.Timeout,
		StartPeriod: h.StartPeriod, StartInterval: h.StartInterval, Retries: h.Retries,
	}
}

// convertRun also settles heredocs: which of them are the script itself and
// which are handed to the shell is a matter of grammar, not of planning.
func convertRun(c *instructions.RunCommand) (*Run, error) {
	out := &Run{Common: common(c), Command: commandOf(c.ShellDependantCmdLine), Network: instructions.GetNetwork(c), Summary: c.String()}
	switch {
	case len(instructions.GetMounts(c)) > 0:
		out.refused = "RUN " + flagOf(c.String(), "--mount")
	case instructions.GetSecurity(c) != instructions.SecuritySandbox:
		out.refused = "RUN --security=" + instructions.GetSecurity(c)
	case len(instructions.GetDevices(c)) > 0:
		out.refused = "RUN --device"
	case len(out.Args) == 0 || out.Shell && strings.TrimSpace(out.Args[0]) == "":
		return nil, errdefs.New(errdefs.ErrInvalid, "RUN requires a command")
	}
	if len(c.Files) == 0 {
		return out, nil
	}
	return out, out.settleHeredocs(c.Files)
}

// flagOf gives the first flag of that name as it was written: what BuildKit
// makes of it is not complete before variables are expanded.
func flagOf(text, name string) string {
	for _, word := range strings.Fields(text) {
		if strings.HasPrefix(word, name+"=") {
			return word
		}
	}
	return name
}

func (r *Run) settleHeredocs(files []instructions.ShellInlineFile) error {
	if len(r.Args) != 1 || !r.Shell {
		return errdefs.New(errdefs.ErrInvalid, "a heredoc needs the shell form of RUN")
	}
	if parser.MustParseHeredoc(r.Args[0]) == nil {
		r.Args = []string{rejoinHeredocs(r.Args[0], files)}
		return nil
	}
	data := files[0].Data
	if files[0].Chomp {
		data = parser.ChompHeredocContent(data)
	}
	r.Summary += " (" + firstLine(data) + ")"
	if strings.HasPrefix(data, "#!") {
		r.Script = &Script{Name: files[0].Name, Data: data}
		return nil
	}
	r.Args = []string{data}
	return nil
}

// rejoinHeredocs restores the text as it was written, for the shell to read.
func rejoinHeredocs(line string, files []instructions.ShellInlineFile) string {
	var b strings.Builder
	b.WriteString(line)
	for _, f := range files {
		b.WriteString("\n" + f.Data + f.Name)
	}
	b.WriteString("\n")
	return b.String()
}

func firstLine(s string) string {
	line, rest, _ := strings.Cut(strings.TrimSpace(s), "\n")
	if rest != "" {
		line += "..."
	}
	return line
}

func convertCopy(c *instructions.CopyCommand) *Copy {
	out := &Copy{
		Common: common(c), Sources: c.SourcePaths, Inline: inlines(c.SourceContents), Dest: c.DestPath,
		From: c.From, Chown: c.Chown, Chmod: c.Chmod, Link: c.Link, ExcludeGlob: c.ExcludePatterns,
	}
	switch {
	case c.Parents:
		out.refused = "COPY --parents"
	case c.Link:
		out.refused = "COPY --link"
	}
	return out
}

func convertAdd(c *instructions.AddCommand) *Copy {
	out := &Copy{
		Common: common(c), Add: true, Sources: c.SourcePaths, Inline: inlines(c.SourceContents), Dest: c.DestPath,
		Chown: c.Chown, Chmod: c.Chmod, Link: c.Link, Unpack: c.Unpack, ExcludeGlob: c.ExcludePatterns,
	}
	switch {
	case c.Link:
		out.refused = "ADD --link"
	case c.KeepGitDir != nil:
		out.refused = "ADD --keep-git-dir"
	case c.Checksum != "":
		out.refused = "ADD --checksum"
	}
	return out
}

func inlines(in []instructions.SourceContent) []Inline {
	var out []Inline
	for _, c := range in {
		out = append(out, Inline{Name: c.Path, Data: c.Data, Expand: c.Expand})
	}
	return out
}
