package dockerfile

import "time"

// File is a parsed Dockerfile.
type File struct {
	// Name is what errors call the file.
	Name string
	// Escape is the escape character, a backslash or a backtick.
	Escape rune
	// Args are the ARG instructions before the first FROM.
	Args []*Arg
	// Stages are the build stages, in the order of the file; never empty.
	Stages []*Stage
	// Warnings are findings that do not stop a build, by line.
	Warnings []Warning

	lines []string
}

// Warning is a finding of the parser or of a check.
type Warning struct {
	// Line is the first line concerned, counted from 1.
	Line int
	// Rule names the check, such as "StageNameCasing"; empty for the parser's own.
	Rule string
	// Text says what is wrong.
	Text string
}

// Pos is a range of lines, counted from 1, both ends included.
type Pos struct{ Start, End int }

// Stage is a FROM instruction and what follows it up to the next one.
type Stage struct {
	Pos
	// Index counts stages from 0.
	Index int
	// Name is the lower-case name given by AS, or empty.
	Name string
	// Base is the image or stage named by FROM, not expanded.
	Base string
	// Platform is the value of --platform, not expanded.
	Platform string
	// Text is the FROM instruction as written.
	Text string
	// Instructions follow FROM.
	Instructions []Instruction
}

// Instruction is one of the types of this package below.
type Instruction interface {
	// Where gives the lines of the instruction.
	Where() Pos
	// Source gives the instruction as written, continuations joined.
	Source() string
	// Refusal names what box does not carry out, such as "RUN --mount"; empty if all is well.
	Refusal() string
}

// Common is what every instruction has.
type Common struct {
	pos     Pos
	text    string
	refused string
}

// Where implements Instruction.
func (c *Common) Where() Pos { return c.pos }

// Source implements Instruction.
func (c *Common) Source() string { return c.text }

// Refusal implements Instruction.
func (c *Common) Refusal() string { return c.refused }

// KeyValue is a name with its value.
type KeyValue struct{ Key, Value string }

// Command is a command line in exec form, or in shell form with Shell set.
type Command struct {
	Args  []string
	Shell bool
}

// ArgVar is a variable declared by ARG; Value is nil without a default.
type ArgVar struct {
	Key   string
	Value *string
}

// Arg is the ARG instruction.
type Arg struct {
	Common
	Vars []ArgVar
}

// Env is the ENV instruction.
type Env struct {
	Common
	Vars []KeyValue
}

// Label is the LABEL instruction.
type Label struct {
	Common
	Labels []KeyValue
}

// Script is a heredoc with an interpreter line: it is run as a file.
type Script struct{ Name, Data string }

// Run is the RUN instruction. A single heredoc has become the command's text,
// or Script if it starts with "#!"; several stand in the text for the shell.
type Run struct {
	Common
	Command
	// Script, if not nil, is run instead of Args.
	Script *Script
	// Network is "default", "none" or "host".
	Network string
	// Summary is the instruction as it is shown to people.
	Summary string
}

// Inline is a heredoc source of COPY or ADD.
type Inline struct {
	Name, Data string
	// Expand says that variables in Data are expanded.
	Expand bool
}

// Copy is the COPY instruction, or ADD with Add set.
type Copy struct {
	Common
	Add         bool
	Sources     []string
	Inline      []Inline
	Dest        string
	From        string
	Chown       string
	Chmod       string
	Link        bool
	Unpack      *bool // ADD --unpack, nil if not given
	ExcludeGlob []string
}

// Workdir is the WORKDIR instruction.
type Workdir struct {
	Common
	Path string
}

// User is the USER instruction.
type User struct {
	Common
	User string
}

// Expose is the EXPOSE instruction.
type Expose struct {
	Common
	Ports []string
}

// Volume is the VOLUME instruction.
type Volume struct {
	Common
	Paths []string
}

// Cmd is the CMD instruction.
type Cmd struct {
	Common
	Command
}

// Entrypoint is the ENTRYPOINT instruction.
type Entrypoint struct {
	Common
	Command
}

// Shell is the SHELL instruction.
type Shell struct {
	Common
	Shell []string
}

// StopSignal is the STOPSIGNAL instruction.
type StopSignal struct {
	Common
	Signal string
}

// Maintainer is the deprecated MAINTAINER instruction.
type Maintainer struct {
	Common
	Name string
}

// Onbuild is the ONBUILD instruction; Trigger is parsed when it fires.
type Onbuild struct {
	Common
	Trigger string
}

// Healthcheck is the HEALTHCHECK instruction, in the words of the image config.
type Healthcheck struct {
	Common
	// Test is {"NONE"}, {"CMD", args...} or {"CMD-SHELL", text}.
	Test []string
	// Interval, Timeout, StartPeriod and StartInterval are zero if not given.
	Interval, Timeout, StartPeriod, StartInterval time.Duration
	// Retries is zero if not given.
	Retries int
}
