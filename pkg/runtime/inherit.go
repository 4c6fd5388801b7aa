package runtime

import (
	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// This file says what a process that joins has of the container's own: rare settings
// for which the configuration is read once more, and only where there are any.

// hasExtras tells whether the configuration sets what joining processes have as well,
// beside what every engine writes into their own descriptions.
func hasExtras(s *specs.Spec) bool {
	p, l := s.Process, s.Linux
	return p.ApparmorProfile != "" || p.SelinuxLabel != "" || p.Scheduler != nil || p.IOPriority != nil ||
		p.ExecCPUAffinity != nil || l.MemoryPolicy != nil || l.Personality != nil
}

// inherit fills in what the description of a process leaves out, as runc does: the
// container's own process has it then.
func inherit(p, own *specs.Process) {
	if p.Capabilities == nil {
		p.Capabilities = own.Capabilities
	}
	if len(p.Rlimits) == 0 {
		p.Rlimits = own.Rlimits
	}
	if p.ApparmorProfile == "" {
		p.ApparmorProfile = own.ApparmorProfile
	}
	if p.SelinuxLabel == "" {
		p.SelinuxLabel = own.SelinuxLabel
	}
	if p.Scheduler == nil {
		p.Scheduler = own.Scheduler
	}
	if p.IOPriority == nil {
		p.IOPriority = own.IOPriority
	}
	if p.ExecCPUAffinity == nil {
		p.ExecCPUAffinity = own.ExecCPUAffinity
	}
}

// complete makes a description that a caller has given whole. One that says all that
// there is to say costs no look at the configuration.
func (j *joining) complete(p *specs.Process) error {
	if !j.Extras && p.Capabilities != nil && len(p.Rlimits) > 0 {
		return nil
	}
	config, err := j.config()
	if err != nil {
		return err
	}
	inherit(p, config.Process)
	return nil
}
