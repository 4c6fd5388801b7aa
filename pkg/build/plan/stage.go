package plan

import (
	"fmt"
	"strconv"
	"strings"

	"box/internal/errdefs"
	"box/pkg/build/dockerfile"
	"box/pkg/image"

	"github.com/opencontainers/image-spec/specs-go/v1"
)

// stage is a stage while, and after, it is evaluated.
type stage struct {
	src      *dockerfile.Stage
	platform v1.Platform
	op       *Op
	config   *image.Config
	history  []Entry
	scope    scope
	cmdSet   bool // CMD was seen in this stage
	label    string
	step     int
	steps    int
}

// stage evaluates the stage with this index, once.
func (p *planner) stage(index int) (*stage, error) {
	if s := p.stages[index]; s != nil {
		return s, nil
	}
	src := p.file.Stages[index]
	s := &stage{src: src, label: p.label(src)}
	triggers, err := p.begin(s)
	if err != nil {
		return nil, p.file.ErrorAt(src.Pos, err)
	}
	s.steps += countSteps(triggers) + countSteps(src.Instructions)
	if s.op.Kind == KindImage && s.step == 1 && !strings.HasPrefix(s.op.Name, "[") {
		s.op.Name = fmt.Sprintf("[%s1/%d] %s", s.label, s.steps, s.op.Name)
	}
	if err := p.fire(s, triggers); err != nil {
		return nil, err
	}
	for _, ins := range src.Instructions {
		if err := p.evaluate(s, ins); err != nil {
			return nil, p.file.ErrorAt(ins.Where(), err)
		}
	}
	p.stages[index] = s
	return s, nil
}

// label is the stage's name in progress output; a lone stage needs none.
func (p *planner) label(src *dockerfile.Stage) string {
	switch {
	case len(p.file.Stages) == 1:
		return ""
	case src.Name != "":
		return src.Name + " "
	}
	return "stage-" + strconv.Itoa(src.Index) + " "
}

// begin carries out FROM and gives the ONBUILD triggers of a base image.
func (p *planner) begin(s *stage) ([]dockerfile.Instruction, error) {
	name, err := p.expand.Word(s.src.Base, p.globals.get)
	if err != nil {
		return nil, err
	}
	if name == "" {
		return nil, errdefs.New(errdefs.ErrInvalid, "FROM %s: the name is empty", s.src.Base)
	}
	if s.platform, err = p.stagePlatform(s.src); err != nil {
		return nil, err
	}
	if i, ok := p.findStage(name, s.src.Index); ok {
		return p.beginFromStage(s, i)
	}
	if name == "scratch" {
		s.op = p.add(&Op{Kind: KindScratch, Name: "scratch", Pos: s.src.Pos})
		s.config = scratchConfig(s.platform)
		return nil, nil
	}
	return p.beginFromImage(s, ImageRef{Name: name, Platform: image.FormatPlatform(s.platform)})
}

func (p *planner) stagePlatform(src *dockerfile.Stage) (v1.Platform, error) {
	if src.Platform == "" {
		return p.opts.Platform, nil
	}
	text, err := p.expand.Word(src.Platform, p.globals.get)
	if err != nil {
		return v1.Platform{}, err
	}
	if text == "" {
		return v1.Platform{}, errdefs.New(errdefs.ErrInvalid, "--platform=%s: the value is empty", src.Platform)
	}
	return parsePlatform(text)
}

// beginFromStage inherits file system, config and variables of an earlier stage.
func (p *planner) beginFromStage(s *stage, index int) ([]dockerfile.Instruction, error) {
	base, err := p.stage(index)
	if err != nil {
		return nil, err
	}
	s.op, s.config, s.scope = base.op, cloneConfig(base.config), base.scope.clone()
	s.history = append([]Entry(nil), base.history...)
	if s.src.Platform == "" {
		s.platform = base.platform
	}
	return p.takeTriggers(s.config)
}

func (p *planner) beginFromImage(s *stage, ref ImageRef) ([]dockerfile.Instruction, error) {
	op, base, err := p.imageOp(ref, s.src.Pos)
	if err != nil {
		return nil, err
	}
	s.steps, s.step = 1, 1
	s.op, s.config = op, cloneConfig(base.Config)
	return p.takeTriggers(s.config)
}

// imageOp resolves an image and gives the op that provides its file system.
func (p *planner) imageOp(ref ImageRef, pos dockerfile.Pos) (*Op, *Base, error) {
	base, err := p.base(ref)
	if err != nil {
		return nil, nil, err
	}
	op := p.add(&Op{
		Kind:  KindImage,
		Image: &Image{Name: base.Name, Platform: ref.Platform, ID: base.ID},
		Name:  "FROM " + base.Name,
		Pos:   pos,
	})
	return op, base, nil
}

// takeTriggers parses the ONBUILD triggers of a base and clears them: they
// fire in the child, not in its children.
func (p *planner) takeTriggers(c *image.Config) ([]dockerfile.Instruction, error) {
	var out []dockerfile.Instruction
	for _, text := range c.Config.OnBuild {
		ins, err := dockerfile.ParseTrigger(text)
		if err != nil {
			return nil, errdefs.New(errdefs.ErrInvalid, "ONBUILD trigger %q of the base image: %w", text, err)
		}
		out = append(out, ins)
	}
	c.Config.OnBuild = nil
	return out, nil
}

// fire evaluates the triggers of the base; their errors belong to FROM's line.
func (p *planner) fire(s *stage, triggers []dockerfile.Instruction) error {
	for _, ins := range triggers {
		if err := p.evaluate(s, ins); err != nil {
			return p.file.ErrorAt(s.src.Pos, fmt.Errorf("ONBUILD %s: %w", ins.Source(), err))
		}
	}
	return nil
}

func countSteps(list []dockerfile.Instruction) int {
	n := 0
	for _, ins := range list {
		switch ins.(type) {
		case *dockerfile.Run, *dockerfile.Copy, *dockerfile.Workdir:
			n++
		}
	}
	return n
}

// evaluate carries out one instruction.
func (p *planner) evaluate(s *stage, ins dockerfile.Instruction) error {
	if what := ins.Refusal(); what != "" {
		return errdefs.New(errdefs.ErrUnsupported, "%s is not supported yet", what)
	}
	switch i := ins.(type) {
	case *dockerfile.Run:
		return p.run(s, i)
	case *dockerfile.Copy:
		return p.copy(s, i)
	case *dockerfile.Workdir:
		return p.workdir(s, i)
	case *dockerfile.Arg:
		return p.arg(s, i)
	}
	return p.configure(s, ins)
}

// words expands a list of words with the variables of the stage as they are now.
func (p *planner) words(s *stage, in []string) ([]string, error) {
	out := make([]string, 0, len(in))
	for _, w := range in {
		x, err := p.word(s, w)
		if err != nil {
			return nil, err
		}
		out = append(out, x)
	}
	return out, nil
}

func (p *planner) word(s *stage, w string) (string, error) {
	return p.expand.Word(w, s.scope.lookup(s.config.Config.Env))
}

// layer makes op the state of the stage and records its history entry.
func (p *planner) layer(s *stage, o *Op, ins dockerfile.Instruction, createdBy string) {
	s.step++
	o.Name = fmt.Sprintf("[%s%d/%d] %s", s.label, s.step, s.steps, summary(ins))
	o.Step = s.label + strconv.Itoa(s.step)
	o.Pos = ins.Where()
	o.Base = s.op
	s.op = p.add(o)
	s.history = append(s.history, Entry{Op: s.op, CreatedBy: createdBy})
}

// summary is an instruction on one line, its name in capitals.
func summary(ins dockerfile.Instruction) string {
	text := ins.Source()
	if r, ok := ins.(*dockerfile.Run); ok {
		text = r.Summary
	}
	name, rest, _ := strings.Cut(text, " ")
	return strings.TrimSpace(strings.ToUpper(name) + " " + rest)
}

func (s *stage) note(createdBy string) {
	s.history = append(s.history, Entry{CreatedBy: createdBy})
}
