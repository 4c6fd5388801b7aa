package cgroups

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"box/internal/errdefs"
	"box/pkg/cgroups/kernfs"
	"box/pkg/cgroups/limits"
	"box/pkg/cgroups/systemd"
)

// Note is a sentence about a value that could not be written and is not missed.
// It is for a debug log if the value asks for nothing, and a warning if it is for
// what no kernel does any more.
type Note struct {
	Text    string
	Warning bool
}

// noteOf is the note about a silent limit.
func noteOf(l limits.Limit) Note {
	if l.Refused != "" {
		return Note{fmt.Sprintf("linux.resources.%s: left out: %s", l.Field, l.Refused), true}
	}
	return Note{fmt.Sprintf("linux.resources.%s: %s not set to %s, which asks for nothing", l.Field, l.File, l.Value), false}
}

// Apply writes the limits, of a new group or as a change to those of an old one:
// what r does not name stays as it is. On an error some limits may have been
// written; the caller removes the group, or keeps the old container.
//
// It does not touch device rules; see SetDevices.
func (c *Cgroup) Apply(r *specs.LinuxResources) (notes []Note, err error) {
	list, err := limits.Plan(r, c.host(r))
	if err != nil || len(list) == 0 {
		return nil, err
	}
	if c.none {
		return nil, checkUnlimited(list)
	}
	if err := c.checkUsage(r); err != nil {
		return nil, err
	}
	if c.unit != nil {
		var weightless bool
		list, weightless = systemd.AsHeld(list)
		if weightless || idleWithShares(r.CPU) {
			notes = append(notes, Note{"linux.resources.cpu: unable to apply both a CPU weight and cpu.idle, which are one property for systemd: the weight is left out", true})
		}
		if err := c.unit.apply(list); err != nil {
			return notes, err
		}
	}
	missing, err := c.enable(controllers(list))
	if err != nil {
		return nil, err
	}
	var again []limits.Limit
	for _, l := range list {
		lack, lacking, err := c.try(l, missing)
		switch {
		case l.Again && errors.Is(err, unix.EINVAL):
			again = append(again, l)
		case err != nil:
			return notes, err
		case !lacking:
		case l.Silent:
			notes = append(notes, noteOf(l))
		default:
			return notes, c.refuse(l, lack.explain())
		}
	}
	for _, l := range again {
		if _, _, err := c.set(l); err != nil {
			return notes, err
		}
	}
	return notes, nil
}

// idleWithShares tells whether idle and a weight are asked for: the plan for an idle group
// has no weight.
func idleWithShares(c *specs.LinuxCPU) bool {
	return c != nil && c.Idle != nil && *c.Idle == 1 && c.Shares != nil && *c.Shares != 0
}

// checkUnlimited is about a container without a group. The words are runc's.
func checkUnlimited(list []limits.Limit) error {
	for _, l := range list {
		if !l.Silent {
			return errdefs.New(errdefs.ErrUnsupported,
				"linux.resources.%s: rootless needs no limits + no cgrouppath when no permission is granted for cgroups", l.Field)
		}
	}
	return nil
}

// Update changes the limits of a group that is in use.
func (c *Cgroup) Update(r *specs.LinuxResources) (notes []Note, err error) { return c.Apply(r) }

// host looks up what the plan for r depends on.
func (c *Cgroup) host(r *specs.LinuxResources) *limits.Host {
	h := &limits.Host{}
	if c.legacy != nil {
		h.Legacy = c.legacy.Has
		if r.Memory != nil {
			h.Both, _ = kernfs.Value(trimmed(c.file("memory", "memory.memsw.limit_in_bytes")))
		}
	}
	if r.BlockIO != nil {
		file := "io.bfq.weight"
		if h.Legacy != nil && h.Legacy("blkio") {
			file = "blkio.bfq.weight"
		}
		h.BFQ = unix.Access(c.file("blkio", file), unix.F_OK) == nil
	}
	// A group without these files has no such limits, which is what empty means.
	if limits.NeedsQuota(r) {
		h.Quota, h.Period, _ = strings.Cut(trimmed(c.file("", "cpu.max")), " ")
	}
	if limits.NeedsMemory(r) {
		h.Memory = signed(trimmed(c.file("", "memory.max")))
	}
	return h
}

// signed is an amount as the specification has it: -1 for "max", 0 for unknown.
func signed(amount string) int64 {
	if amount == "max" {
		return -1
	}
	n, _ := strconv.ParseInt(amount, 10, 64)
	return n
}

// file is an interface file of a controller, in the words of v1, wherever that is.
func (c *Cgroup) file(controller, name string) string {
	if dir := c.legacy.Dir(controller); dir != "" {
		return filepath.Join(dir, name)
	}
	return filepath.Join(c.Dir(), name)
}

// try writes one limit if its controller is there.
func (c *Cgroup) try(l limits.Limit, missing map[string]lack) (why lack, lacking bool, err error) {
	if l.Refused != "" {
		return lack{refused: l.Refused}, true, nil
	}
	if !l.Legacy {
		if why, lacking = missing[l.Controller]; lacking {
			return why, lacking, nil
		}
	}
	return c.set(l)
}

// lack is the reason why a limit cannot be set. It is put into words only if that
// turns out to matter: most limits that cannot be set ask for nothing.
type lack struct {
	controller string
	group      string // that does not hand the controller down, or does not have it
	file       string // that the kernel does not have
	cause      error  // why the group does not hand it down
	refused    string // why nobody could set it
}

func (l lack) explain() string {
	switch {
	case l.refused != "":
		return l.refused
	case l.file != "":
		return "this kernel has no " + l.file
	case l.cause != nil:
		return "the cgroup " + l.group + " cannot hand down the controller " + l.controller + ": " + rootCause(l.cause)
	case l.group != "/":
		return "the cgroup " + l.group + " does not have the controller " + l.controller
	}
	return "this kernel offers no controller " + l.controller
}

// refuse is the error for a limit that cannot be had here.
func (c *Cgroup) refuse(l limits.Limit, why string) error {
	if l.File == "" {
		return errdefs.New(errdefs.ErrUnsupported, "linux.resources.%s: not supported: %s", l.Field, why)
	}
	err := errdefs.New(errdefs.ErrUnsupported, "linux.resources.%s: cannot set %s of cgroup %s: %s", l.Field, l.File, c.path, why)
	return errdefs.WithHint(err, "The limit needs the %s controller; leave it out, or run where that is handed down to the group.", l.Controller)
}

// set writes one limit. A file that the kernel does not have is a lack, not an
// error, so that silent limits may pass.
func (c *Cgroup) set(l limits.Limit) (why lack, lacking bool, err error) {
	name := filepath.Join(c.Dir(), l.File)
	if l.Legacy {
		name = c.file(l.Controller, l.File)
	}
	if l.Legacy && l.File == "pids.max" { // which forks change for a moment
		release, err := c.legacy.Hold()
		if err != nil {
			return lack{}, false, err
		}
		defer release()
	}
	err = kernfs.Write(name, l.Value)
	if errors.Is(err, fs.ErrNotExist) {
		return lack{file: l.File}, !l.Optional, nil
	}
	if errors.Is(err, unix.EBUSY) && l.File == "memory.limit_in_bytes" {
		// The kernel has tried to free what is above it. The words are runc's.
		err = errdefs.New(errdefs.ErrConflict, "unable to set memory limit to %s (current usage: %s, peak usage: %s): %w", l.Value,
			trimmed(c.file(l.Controller, "memory.usage_in_bytes")), trimmed(c.file(l.Controller, "memory.max_usage_in_bytes")), err)
	}
	if err != nil {
		err = fmt.Errorf("linux.resources.%s: %w", l.Field, err)
	}
	return lack{}, false, err
}

// checkUsage carries out checkBeforeUpdate: lowering the limit below what is in
// use would kill processes. The texts are runc's.
func (c *Cgroup) checkUsage(r *specs.LinuxResources) error {
	m := r.Memory
	if m == nil || m.CheckBeforeUpdate == nil || !*m.CheckBeforeUpdate {
		return nil
	}
	file := "memory.current"
	if c.legacy.Has("memory") {
		file = "memory.usage_in_bytes"
	}
	usage, ok := kernfs.Value(trimmed(c.file("memory", file)))
	if !ok {
		return nil // no memory controller: Apply says so for the limit itself
	}
	for _, l := range []struct {
		name  string
		limit *int64
	}{{"memory+swap", m.Swap}, {"memory", m.Limit}} {
		if l.limit != nil && *l.limit > 0 && uint64(*l.limit) <= usage {
			return errdefs.New(errdefs.ErrConflict, "rejecting %s limit %d <= usage %d", l.name, *l.limit, usage)
		}
	}
	return nil
}

// controllers lists the controllers of the unified hierarchy that limits need, each
// once.
func controllers(list []limits.Limit) []string {
	var names []string
	for _, l := range list {
		if !l.Legacy && l.Refused == "" && !slices.Contains(names, l.Controller) {
			names = append(names, l.Controller)
		}
	}
	return names
}

// enable switches controllers on for the group: each group above it has to hand
// them down in its cgroup.subtree_control. nil stands for all that there are. It
// returns what stands in the way of those that cannot be had. The error is for
// reading only.
func (c *Cgroup) enable(names []string) (missing map[string]lack, err error) {
	missing = map[string]lack{}
	if c.root == "" {
		for _, name := range names {
			missing[name] = lack{controller: name, group: "/"}
		}
		return missing, nil
	}
	wanted := slices.Clone(names)
	for i, group := range ancestors(c.path) {
		dir := filepath.Join(c.root, group)
		data, err := kernfs.Read(filepath.Join(dir, "cgroup.controllers"))
		if err != nil {
			return nil, err
		}
		offered := strings.Fields(data)
		if names == nil && i == 0 {
			wanted = offered
		}
		wanted = slices.DeleteFunc(wanted, func(name string) bool {
			if slices.Contains(offered, name) {
				return false
			}
			missing[name] = lack{controller: name, group: group}
			return true
		})
		wanted = handDown(dir, group, wanted, missing)
		if len(wanted) == 0 {
			break
		}
	}
	return missing, nil
}

// ancestors lists the groups above a path, the root first.
func ancestors(p string) []string {
	var list []string
	for p != "/" {
		p = path.Dir(p)
		list = append(list, p)
	}
	slices.Reverse(list)
	return list
}

// handDown switches controllers on in one group, whose directory is dir. It
// returns those that are on, and notes what stands in the way of the others.
func handDown(dir, group string, wanted []string, missing map[string]lack) []string {
	if len(wanted) == 0 {
		return nil
	}
	data, _ := kernfs.Read(filepath.Join(dir, "cgroup.subtree_control")) // unreadable as empty: the write says why
	on := strings.Fields(data)
	var have []string
	for _, w := range wanted {
		// One by one: of several in one write none is switched on if one cannot.
		if !slices.Contains(on, w) {
			if err := switchOn(dir, group, w); err != nil {
				missing[w] = lack{controller: w, group: group, cause: err}
				continue
			}
		}
		have = append(have, w)
	}
	return have
}

// switchOn switches one controller on. A group that has processes hands down
// none, except for the root: the kernel refuses most with EBUSY, but cpu, cpuset
// and pids would make it a threaded group, and those below it unusable.
func switchOn(dir, group, controller string) error {
	if group != "/" {
		procs, err := kernfs.Read(filepath.Join(dir, "cgroup.procs"))
		if err != nil {
			return err
		}
		if procs != "" {
			return errors.New("it has processes of its own")
		}
	}
	return kernfs.Write(filepath.Join(dir, "cgroup.subtree_control"), "+"+controller)
}

// rootCause is the innermost text of an error, without path and value.
func rootCause(err error) string {
	for {
		inner := errors.Unwrap(err)
		if inner == nil {
			return err.Error()
		}
		err = inner
	}
}
