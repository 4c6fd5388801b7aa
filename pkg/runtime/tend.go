package runtime

import (
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"box/internal/errdefs"
	"box/pkg/plan"
	"box/pkg/sched"
	"box/pkg/spec"
)

// This file holds what only the parent can do to the program, by its pid, while
// the program waits for permission to go on: the program is not dumpable, so its
// own /proc files belong to root, and in a user namespace it lacks the privileges.

// filesInUse is well above what a program holds while it sets up, see plan.LimitFiles.
const filesInUse = 1024

// withSuccessor returns the process with room for one more in its limit of processes,
// which the program takes back as soon as it is alone; its scheduler is for the successor
// (schedule).
func withSuccessor(p *specs.Process) *specs.Process {
	wider := *p
	wider.Scheduler = nil
	wider.Rlimits = slices.Clone(p.Rlimits)
	for i := range wider.Rlimits {
		if l := &wider.Rlimits[i]; l.Type == plan.LimitProcesses && l.Hard != unix.RLIM_INFINITY {
			l.Hard++
			l.Soft = l.Hard
		}
	}
	return &wider
}

// withMounts returns the process with room for so many mounts in its limit of files, where
// that is more than what the limit is left at anyway. The program takes it back in the end.
func withMounts(p *specs.Process, mounts int) *specs.Process {
	need := uint64(filesInUse/4 + 3*mounts)
	if need <= filesInUse {
		return p
	}
	wider := *p
	wider.Rlimits = slices.Clone(p.Rlimits)
	for i := range wider.Rlimits {
		if l := &wider.Rlimits[i]; l.Type == plan.LimitFiles {
			l.Hard = max(l.Hard, need)
		}
	}
	return &wider
}

// tend gives the process its limits and its place in the queues of the kernel: for CPUs,
// for disks, and of the out-of-memory killer. It is in its control group already, whose
// cpuset counts: pinned says that there is one. cpus are those it shall run on; without
// any it runs wherever the cpuset lets it.
func (r *Runtime) tend(pid int, p *specs.Process, pinned bool, cpus sched.Mask) error {
	if err := r.place(pid, p, pinned, cpus); err != nil {
		return err
	}
	for _, l := range p.Rlimits {
		if l.Type == plan.LimitFiles {
			l.Soft = l.Hard // the program still has many files open, see plan.LimitFiles
			if l.Hard < filesInUse {
				continue
			}
		}
		if err := setLimit(pid, l); err != nil {
			return err
		}
	}
	return setOOMScore(pid, p.OOMScoreAdj)
}

// ownScore returns the oom_score_adj that a program which joins the container must set
// itself; nil leaves it to us. See plan.Exec.
func (c *container) ownScore(p *specs.Process) *int {
	if os.Geteuid() == 0 || c.Join&unix.CLONE_NEWUSER == 0 {
		return nil
	}
	return p.OOMScoreAdj
}

// withoutScore returns the process without what ownScore returns.
func (c *container) withoutScore(p *specs.Process) *specs.Process {
	if c.ownScore(p) == nil {
		return p
	}
	rest := *p
	rest.OOMScoreAdj = nil
	return &rest
}

// place tells the schedulers about the process.
func (r *Runtime) place(pid int, p *specs.Process, pinned bool, cpus sched.Mask) error {
	if len(cpus) > 0 {
		if err := sched.SetCPUs(pid, cpus); err != nil {
			return err
		}
	} else if err := sched.ResetCPUs(pid); err != nil {
		// Nobody has asked for it by name: where we may not, the container runs all the same.
		r.warn(err.Error() + ": the container may inherit that of box-runtime")
	}
	if p.Scheduler != nil {
		if err := sched.Scheduler(pid, p.Scheduler, pinned); err != nil {
			return err
		}
	}
	if p.IOPriority != nil {
		return sched.IOPriority(pid, p.IOPriority)
	}
	return nil
}

func setLimit(pid int, l specs.POSIXRlimit) error {
	resource, ok := spec.Rlimit(l.Type)
	if !ok {
		return errdefs.New(errdefs.ErrInvalid, "process.rlimits: unknown limit %q", l.Type)
	}
	want := unix.Rlimit{Cur: l.Soft, Max: l.Hard}
	if err := unix.Prlimit(pid, resource, &want, nil); err != nil {
		return fmt.Errorf("set limit %s to %d, at most %d: %w", l.Type, l.Soft, l.Hard, err)
	}
	return nil
}

// setOOMScore writes oom_score_adj, if there is one to write, unless it is inherited as it
// should be: lowering it needs CAP_SYS_RESOURCE, and writing what stands there already must
// not.
func setOOMScore(pid int, score *int) error {
	if score == nil {
		return nil
	}
	path, want := "/proc/"+strconv.Itoa(pid)+"/oom_score_adj", strconv.Itoa(*score)
	if now, err := readFile(path); err == nil && strings.TrimSpace(string(now)) == want {
		return nil
	}
	if err := writeThere(path, want); err != nil {
		return fmt.Errorf("set oom_score_adj to %s: %w", want, err)
	}
	return nil
}
