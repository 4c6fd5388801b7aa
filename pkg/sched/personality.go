package sched

import (
	"github.com/opencontainers/runtime-spec/specs-go"

	"box/pkg/launch"
)

// The execution domains of personality(2).
const (
	perLinux   = 0x0000
	perLinux32 = 0x0008
)

// domain reads linux.personality. The specification has a list of flags and no flag.
func domain(p *specs.LinuxPersonality) (int, error) {
	if len(p.Flags) > 0 {
		return 0, invalid("linux.personality.flags[0]: unknown flag %q", p.Flags[0])
	}
	switch p.Domain {
	case specs.PerLinux:
		return perLinux, nil
	case specs.PerLinux32:
		return perLinux32, nil
	}
	return 0, invalid("linux.personality.domain: invalid personality domain %q", p.Domain)
}

// CheckPersonality checks linux.personality; nil is none.
func CheckPersonality(p *specs.LinuxPersonality) error {
	if p == nil {
		return nil
	}
	_, err := domain(p)
	return err
}

// AddPersonality adds the step that sets the execution domain: what uname(2) says the
// machine is.
func AddPersonality(p *launch.Plan, per *specs.LinuxPersonality) error {
	if per == nil {
		return nil
	}
	value, err := domain(per)
	if err != nil {
		return err
	}
	p.Add(launch.Step{
		Name: "set personality " + string(per.Domain), Call: launch.Personality, Args: launch.Args{launch.Int(value)},
		Why: "stays over execve; a filter may forbid the call later",
	})
	return nil
}
