package plan

import (
	"path"
	"strings"

	"box/internal/errdefs"
	"box/pkg/build/dockerfile"
)

// run adds the operation of a RUN instruction.
func (p *planner) run(s *stage, i *dockerfile.Run) error {
	cfg := &s.config.Config
	args := i.Args
	if i.Shell {
		args = append(append([]string(nil), shellOf(cfg)...), i.Args...)
	}
	network := i.Network
	if network == "default" && p.opts.Network != "" {
		network = p.opts.Network
	}
	r := &Run{
		Args: args, Env: s.scope.environment(cfg.Env), Cwd: absolute(cfg.WorkingDir), User: cfg.User,
		Script: i.Script, Network: network, Arch: s.config.Architecture, Proxy: s.scope.proxies(p.opts.BuildArgs),
	}
	if i.Script != nil {
		r.Args = nil
	}
	createdBy := "RUN " + s.scope.historyArgs(cfg.Env) + strings.Join(args, " ") + " # buildkit"
	p.layer(s, &Op{Kind: KindRun, Run: r}, i, createdBy)
	return nil
}

func (p *planner) workdir(s *stage, i *dockerfile.Workdir) error {
	dir, err := p.word(s, i.Path)
	if err != nil {
		return err
	}
	if strings.TrimSpace(dir) == "" {
		return errdefs.New(errdefs.ErrInvalid, "WORKDIR %s: the path is empty", i.Path)
	}
	if !path.IsAbs(dir) {
		dir = path.Join(absolute(s.config.Config.WorkingDir), dir)
	}
	dir = path.Clean(dir)
	s.config.Config.WorkingDir = dir
	if dir == "/" {
		s.step++
		s.note("WORKDIR /")
		return nil
	}
	p.layer(s, &Op{Kind: KindWorkdir, Workdir: &Workdir{Path: dir, User: s.config.Config.User}}, i, "WORKDIR "+dir)
	return nil
}

// arg declares variables. A value comes from the command line, else from the
// instruction, else from the ARG of that name before the first FROM.
func (p *planner) arg(s *stage, i *dockerfile.Arg) error {
	look := s.scope.clone()
	env := look.lookup(s.config.Config.Env)
	var words []string
	for _, v := range i.Vars {
		name, err := p.expand.Word(v.Key, env)
		if err != nil {
			return err
		}
		value, ok, err := p.argValue(name, v.Value, env)
		if err != nil {
			return err
		}
		s.scope.declare(name)
		word := name
		if ok {
			s.scope.args.set(name, value)
			word += "=" + value
		}
		words = append(words, word)
	}
	s.note("ARG " + strings.Join(words, " "))
	return nil
}

func (p *planner) argValue(name string, fallback *string, env dockerfile.Lookup) (string, bool, error) {
	if v, ok := p.buildArg(name); ok {
		return v, true, nil
	}
	if fallback == nil {
		v, ok := p.globals.get(name)
		return v, ok, nil
	}
	v, err := p.expand.Word(*fallback, env)
	return v, true, err
}

// absolute makes a working directory of an image config usable.
func absolute(dir string) string {
	return path.Clean("/" + dir)
}
