package plan

import (
	"fmt"
	"strconv"
	"strings"

	"box/internal/errdefs"
	"box/pkg/build/dockerfile"
	"box/pkg/image"

	"golang.org/x/sys/unix"
)

// configure carries out the instructions that change the image config only.
func (p *planner) configure(s *stage, ins dockerfile.Instruction) error {
	cfg := &s.config.Config
	switch i := ins.(type) {
	case *dockerfile.Env:
		return p.env(s, i)
	case *dockerfile.Label:
		return p.labels(s, i)
	case *dockerfile.User:
		return p.user(s, i)
	case *dockerfile.Expose:
		return p.expose(s, i)
	case *dockerfile.Volume:
		return p.volume(s, i)
	case *dockerfile.StopSignal:
		return p.stopSignal(s, i)
	case *dockerfile.Cmd:
		cfg.Cmd = commandLine(cfg, i.Command)
		//lint:ignore SA1019 deprecated by the OCI, but Docker writes it and tools compare it
		cfg.ArgsEscaped = true
		s.cmdSet = true
		s.note(fmt.Sprintf("CMD %q", cfg.Cmd))
	case *dockerfile.Entrypoint:
		cfg.Entrypoint = commandLine(cfg, i.Command)
		// Arguments inherited from a base belong to the base's entrypoint.
		if !s.cmdSet {
			cfg.Cmd = nil
		}
		s.note(fmt.Sprintf("ENTRYPOINT %q", cfg.Entrypoint))
	case *dockerfile.Shell:
		cfg.Shell = i.Shell
		s.note(fmt.Sprintf("SHELL %v", i.Shell))
	case *dockerfile.Maintainer:
		s.config.Author = i.Name
		s.note("MAINTAINER " + i.Name)
	case *dockerfile.Onbuild:
		cfg.OnBuild = append(cfg.OnBuild, i.Trigger)
		s.note("ONBUILD " + i.Trigger)
	case *dockerfile.Healthcheck:
		cfg.Healthcheck = &image.Healthcheck{
			Test: i.Test, Interval: i.Interval, Timeout: i.Timeout,
			StartPeriod: i.StartPeriod, StartInterval: i.StartInterval, Retries: i.Retries,
		}
		s.note(fmt.Sprintf("HEALTHCHECK %+v", *cfg.Healthcheck))
	default:
		return errdefs.New(errdefs.ErrUnsupported, "%s is not supported yet", ins.Source())
	}
	return nil
}

// commandLine gives the words of a command, with the shell that is in force here.
func commandLine(cfg *image.RunConfig, c dockerfile.Command) []string {
	if !c.Shell || len(c.Args) == 0 {
		return c.Args
	}
	return append(append([]string(nil), shellOf(cfg)...), c.Args...)
}

// pairs expands names and values, all with the variables before the instruction.
func (p *planner) pairs(s *stage, in []dockerfile.KeyValue) ([]dockerfile.KeyValue, string, error) {
	var out []dockerfile.KeyValue
	var text strings.Builder
	for _, kv := range in {
		words, err := p.words(s, []string{kv.Key, kv.Value})
		if err != nil {
			return nil, "", err
		}
		if words[0] == "" {
			return nil, "", errdefs.New(errdefs.ErrInvalid, "the name %q is empty", kv.Key)
		}
		out = append(out, dockerfile.KeyValue{Key: words[0], Value: words[1]})
		text.WriteString(" " + words[0] + "=" + words[1])
	}
	return out, text.String(), nil
}

func (p *planner) env(s *stage, i *dockerfile.Env) error {
	vars, text, err := p.pairs(s, i.Vars)
	if err != nil {
		return err
	}
	for _, kv := range vars {
		s.config.Config.Env = setEnv(s.config.Config.Env, kv.Key, kv.Value)
	}
	s.note("ENV" + text)
	return nil
}

func (p *planner) labels(s *stage, i *dockerfile.Label) error {
	labels, text, err := p.pairs(s, i.Labels)
	if err != nil {
		return err
	}
	if s.config.Config.Labels == nil {
		s.config.Config.Labels = map[string]string{}
	}
	for _, kv := range labels {
		s.config.Config.Labels[kv.Key] = kv.Value
	}
	s.note("LABEL" + text)
	return nil
}

func (p *planner) user(s *stage, i *dockerfile.User) error {
	user, err := p.word(s, i.User)
	if err != nil {
		return err
	}
	if strings.ContainsAny(user, "\n\x00") {
		return errdefs.New(errdefs.ErrInvalid, "USER %q: not a name", user)
	}
	s.config.Config.User = user
	s.note("USER " + user)
	return nil
}

func (p *planner) volume(s *stage, i *dockerfile.Volume) error {
	paths, err := p.words(s, i.Paths)
	if err != nil {
		return err
	}
	if s.config.Config.Volumes == nil {
		s.config.Config.Volumes = map[string]struct{}{}
	}
	for _, v := range paths {
		if v == "" {
			return errdefs.New(errdefs.ErrInvalid, "VOLUME: a path is empty")
		}
		s.config.Config.Volumes[v] = struct{}{}
	}
	s.note(fmt.Sprintf("VOLUME %v", paths))
	return nil
}

func (p *planner) stopSignal(s *stage, i *dockerfile.StopSignal) error {
	name, err := p.word(s, i.Signal)
	if err != nil {
		return err
	}
	if !isSignal(name) {
		return errdefs.New(errdefs.ErrInvalid, "STOPSIGNAL %s: no such signal", name)
	}
	s.config.Config.StopSignal = name
	s.note("STOPSIGNAL " + name)
	return nil
}

// maxSignal is the largest signal number of Linux.
const maxSignal = 64

// isSignal accepts what Docker does: a number, or a name with or without SIG,
// also of a real-time signal relative to the first or last one.
func isSignal(s string) bool {
	if n, err := strconv.Atoi(s); err == nil {
		return n > 0 && n <= maxSignal
	}
	name := strings.TrimPrefix(strings.ToUpper(s), "SIG")
	for _, edge := range []string{"RTMIN", "RTMAX"} {
		if rest, ok := strings.CutPrefix(name, edge); ok {
			n, err := strconv.Atoi(rest)
			inside := edge == "RTMIN" && n > 0 || edge == "RTMAX" && n < 0
			return rest == "" || err == nil && inside && max(n, -n) <= maxRealTime
		}
	}
	return unix.SignalNum("SIG"+name) != 0
}

// maxRealTime is how far the real-time signals reach from either end.
const maxRealTime = 30
