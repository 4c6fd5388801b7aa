package sched

import (
	"errors"
	"fmt"
	"slices"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"box/internal/errdefs"
)

// policies are those of linux/sched.h, each at its number. SCHED_ISO has a number and no
// implementation: the kernel refuses it.
var policies = []specs.LinuxSchedulerPolicy{
	specs.SchedOther, specs.SchedFIFO, specs.SchedRR, specs.SchedBatch, specs.SchedISO, specs.SchedIdle, specs.SchedDeadline,
}

// schedulerFlags are those of sched_setattr(2), each at the number of its bit.
var schedulerFlags = []specs.LinuxSchedulerFlag{
	specs.SchedFlagResetOnFork, specs.SchedFlagReclaim, specs.SchedFlagDLOverrun, specs.SchedFlagKeepPolicy,
	specs.SchedFlagKeepParams, specs.SchedFlagUtilClampMin, specs.SchedFlagUtilClampMax,
}

func invalid(format string, a ...any) error { return errdefs.New(errdefs.ErrInvalid, format, a...) }

// CheckScheduler checks process.scheduler; nil is no scheduler.
func CheckScheduler(s *specs.Scheduler) error {
	if s == nil {
		return nil
	}
	if s.Policy == "" {
		return invalid("process.scheduler.policy: missing: scheduler policy is required")
	}
	if !slices.Contains(policies, s.Policy) {
		return invalid("process.scheduler.policy: unknown policy %q", s.Policy)
	}
	for i, f := range s.Flags {
		if !slices.Contains(schedulerFlags, f) {
			return invalid("process.scheduler.flags[%d]: unknown flag %q", i, f)
		}
	}
	return checkParameters(s)
}

// checkParameters checks that each number belongs to the policy.
func checkParameters(s *specs.Scheduler) error {
	usual := s.Policy == specs.SchedOther || s.Policy == specs.SchedBatch
	if usual && (s.Nice < -20 || s.Nice > 19) {
		return invalid("process.scheduler.nice: invalid scheduler.nice: %d when scheduler.policy is %s", s.Nice, s.Policy)
	}
	if s.Priority != 0 && s.Policy != specs.SchedFIFO && s.Policy != specs.SchedRR {
		return invalid("process.scheduler.priority: %d: it can only be specified for SCHED_FIFO or SCHED_RR", s.Priority)
	}
	if s.Priority < 0 {
		return invalid("process.scheduler.priority: %d is negative", s.Priority)
	}
	if s.Policy != specs.SchedDeadline && (s.Runtime != 0 || s.Deadline != 0 || s.Period != 0) {
		return invalid("process.scheduler: runtime, deadline and period can only be specified for SCHED_DEADLINE")
	}
	return nil
}

// attributes is the structure of sched_setattr(2) for a checked scheduler. Times are in
// nanoseconds.
func attributes(s *specs.Scheduler) *unix.SchedAttr {
	a := &unix.SchedAttr{
		Size: unix.SizeofSchedAttr, Policy: uint32(slices.Index(policies, s.Policy)), Nice: s.Nice, Priority: uint32(s.Priority),
		Runtime: s.Runtime, Deadline: s.Deadline, Period: s.Period,
	}
	for _, f := range s.Flags {
		a.Flags |= 1 << slices.Index(schedulerFlags, f)
	}
	return a
}

// Scheduler gives a process its place in the CPU scheduler. pinned says that the
// process's control group has a cpuset of its own, with which some policies do not
// work: sched_setattr(2) says EPERM then, as for a want of privileges.
func Scheduler(pid int, s *specs.Scheduler, pinned bool) error {
	if err := CheckScheduler(s); err != nil {
		return err
	}
	err := unix.SchedSetAttr(pid, attributes(s), 0)
	if errors.Is(err, unix.EPERM) && pinned {
		return errdefs.New(errdefs.ErrInvalid, "set scheduler to %s: process scheduler can't be used together with AllowedCPUs: %w", s.Policy, err)
	}
	if err != nil {
		return fmt.Errorf("set scheduler to %s: %w", s.Policy, err)
	}
	return nil
}
