package plan

import (
	"context"
	"slices"
	"sort"
	"strconv"
	"strings"

	"box/internal/errdefs"
	"box/pkg/build/dockerfile"
	"box/pkg/image"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go/v1"
)

// Options are what a build is asked for, beside the Dockerfile.
type Options struct {
	// Target names the stage to build; empty for the last one.
	Target string
	// BuildArgs are values for ARG.
	BuildArgs map[string]string
	// Labels are added to the image.
	Labels map[string]string
	// Platform is what the image is for, BuildPlatform where it is built.
	Platform, BuildPlatform v1.Platform
	// Network is that of RUN instructions without --network; empty for "default".
	Network string
}

// ImageRef names an image that a plan needs.
type ImageRef struct {
	// Name is the reference as written, after expansion; Platform is os/arch[/variant].
	Name     string
	Platform string
}

// Base is an image as a resolver found it.
type Base struct {
	// Name is the normalised reference.
	Name string
	// ID identifies the contents: the digest of the image's config or manifest.
	ID digest.Digest
	// Config is the image's configuration.
	Config *image.Config
}

// Resolver finds the image for a reference. New calls it from one goroutine.
type Resolver func(ctx context.Context, ref ImageRef) (*Base, error)

// Plan is a build, ready to be solved.
type Plan struct {
	// Ops are the operations, inputs first.
	Ops []*Op
	// Result is the operation whose file system becomes the image.
	Result *Op
	// Config is the image's config without rootfs; its history is that of the base.
	Config *image.Config
	// History holds the entries that the build adds.
	History []Entry
	// Epoch is SOURCE_DATE_EPOCH, in seconds, if it is set.
	Epoch *int64
	// Warnings are the findings of parser and planner.
	Warnings []dockerfile.Warning
}

// Entry is one entry of the image's history.
type Entry struct {
	// Op made the layer; nil for an entry without one.
	Op        *Op
	CreatedBy string
}

// planner holds what is being worked out.
type planner struct {
	file    *dockerfile.File
	opts    Options
	resolve func(ImageRef) (*Base, error)
	expand  *dockerfile.Expander
	globals variables
	stages  map[int]*stage
	bases   map[ImageRef]*Base
	ops     map[digest.Digest]*Op
	plan    *Plan
	used    map[string]bool // build args that some ARG asked for
}

// New plans the build of a target.
func New(ctx context.Context, file *dockerfile.File, opts Options, resolve Resolver) (*Plan, error) {
	p, target, err := newPlanner(file, opts)
	if err != nil {
		return nil, err
	}
	p.resolve = func(ref ImageRef) (*Base, error) { return resolve(ctx, ref) }
	s, err := p.stage(target)
	if err != nil {
		return nil, err
	}
	return p.finish(s)
}

func newPlanner(file *dockerfile.File, opts Options) (*planner, int, error) {
	p := &planner{
		file: file, opts: opts, expand: file.NewExpander(),
		stages: map[int]*stage{}, bases: map[ImageRef]*Base{}, ops: map[digest.Digest]*Op{},
		used: map[string]bool{}, plan: &Plan{Warnings: slices.Clone(file.Warnings)},
	}
	target, err := p.target()
	if err != nil {
		return nil, 0, err
	}
	return p, target, p.defineGlobals(file.Stages[target].Name)
}

// finish completes the image config from the target stage.
func (p *planner) finish(s *stage) (*Plan, error) {
	p.plan.Result, p.plan.Config, p.plan.History = s.op, s.config, s.history
	if _, ok := getEnv(s.config.Config.Env, "PATH"); !ok {
		s.config.Config.Env = append(s.config.Config.Env, "PATH="+defaultPath)
	}
	for k, v := range p.opts.Labels {
		if s.config.Config.Labels == nil {
			s.config.Config.Labels = map[string]string{}
		}
		s.config.Config.Labels[k] = v
	}
	p.warnUnusedArgs()
	return p.plan, p.setEpoch()
}

// target gives the index of the stage to build.
func (p *planner) target() (int, error) {
	if p.opts.Target == "" {
		return len(p.file.Stages) - 1, nil
	}
	if i, ok := p.findStage(p.opts.Target, len(p.file.Stages)); ok {
		return i, nil
	}
	var names []string
	for _, s := range p.file.Stages {
		if s.Name != "" {
			names = append(names, s.Name)
		}
	}
	err := errdefs.New(errdefs.ErrNotFound, "%s: no stage is named %q", p.file.Name, p.opts.Target)
	if len(names) > 0 {
		err = errdefs.WithHint(err, "stages: %s", strings.Join(names, ", "))
	}
	return 0, err
}

// findStage looks for a stage by name among those before the given index. The
// last one of that name wins; names are compared without case.
func (p *planner) findStage(name string, before int) (int, bool) {
	for i := before - 1; i >= 0; i-- {
		if s := p.file.Stages[i]; s.Name != "" && strings.EqualFold(s.Name, name) {
			return i, true
		}
	}
	return 0, false
}

// defineGlobals evaluates the ARGs before the first FROM, after the platform's.
func (p *planner) defineGlobals(target string) error {
	if target == "" {
		target = "default"
	}
	bp, tp := p.opts.BuildPlatform, p.opts.Platform
	for _, kv := range [][2]string{
		{"BUILDPLATFORM", image.FormatPlatform(bp)},
		{"BUILDOS", bp.OS},
		{"BUILDARCH", bp.Architecture},
		{"BUILDVARIANT", bp.Variant},
		{"TARGETPLATFORM", image.FormatPlatform(tp)},
		{"TARGETOS", tp.OS},
		{"TARGETARCH", tp.Architecture},
		{"TARGETVARIANT", tp.Variant},
		{"TARGETSTAGE", target},
	} {
		v := kv[1]
		if given, ok := p.buildArg(kv[0]); ok {
			v = given
		}
		p.globals.set(kv[0], v)
	}
	for _, a := range p.file.Args {
		if err := p.defineGlobal(a); err != nil {
			return p.file.ErrorAt(a.Where(), err)
		}
	}
	return nil
}

func (p *planner) defineGlobal(a *dockerfile.Arg) error {
	for _, v := range a.Vars {
		value, ok := p.buildArg(v.Key)
		if !ok && v.Value != nil {
			expanded, err := p.expand.Word(*v.Value, p.globals.get)
			if err != nil {
				return err
			}
			value, ok = expanded, true
		}
		if ok {
			p.globals.set(v.Key, value)
		}
	}
	return nil
}

// buildArg gives a value of the command line and notes that it was asked for.
func (p *planner) buildArg(name string) (string, bool) {
	p.used[name] = true
	v, ok := p.opts.BuildArgs[name]
	return v, ok
}

// warnUnusedArgs reports values that no ARG of the stages evaluated asked for:
// most often a misspelt name.
func (p *planner) warnUnusedArgs() {
	var unused []string
	for name := range p.opts.BuildArgs {
		if !p.used[name] && !slices.Contains(proxyNames, name) && name != epochName {
			unused = append(unused, name)
		}
	}
	sort.Strings(unused)
	for _, name := range unused {
		p.plan.Warnings = append(p.plan.Warnings, dockerfile.Warning{
			Text: "build argument " + name + " was not used: no ARG of the stages built declares it",
		})
	}
}

const epochName = "SOURCE_DATE_EPOCH"

// setEpoch reads SOURCE_DATE_EPOCH from the build arguments or a global ARG.
func (p *planner) setEpoch() error {
	text, ok := p.opts.BuildArgs[epochName]
	if !ok {
		text, ok = p.globals.get(epochName)
	}
	if !ok || text == "" {
		return nil
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil || n < 0 {
		return errdefs.New(errdefs.ErrInvalid, "%s=%s: not a number of seconds since 1970", epochName, text)
	}
	p.plan.Epoch = &n
	return nil
}

// base resolves an image once.
func (p *planner) base(ref ImageRef) (*Base, error) {
	if b := p.bases[ref]; b != nil {
		return b, nil
	}
	b, err := p.resolve(ref)
	if err != nil {
		return nil, err
	}
	p.bases[ref] = b
	return b, nil
}

// add gives the op with this definition: an equal one that is there already, or o itself.
func (p *planner) add(o *Op) *Op {
	o.Def = o.define()
	if same := p.ops[o.Def]; same != nil {
		return same
	}
	o.Index = len(p.plan.Ops)
	p.ops[o.Def] = o
	p.plan.Ops = append(p.plan.Ops, o)
	return o
}
