package cgroups

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"box/internal/errdefs"
	"box/pkg/cgroups/kernfs"
)

// limit is one value to be written, with where it came from.
type limit struct {
	field      string // below linux.resources
	controller string
	file       string
	value      string
	// silent marks a value that asks for nothing: it is written where it can be,
	// and not missed where it cannot.
	silent bool
	// optional marks a file that not every kernel has even with the controller.
	optional bool
}

// Apply writes the limits. Notes are sentences about values that ask for nothing
// and could not be written, for a debug log. On an error some limits may have
// been written; the caller removes the group, or keeps the old container.
//
// It does not touch device rules; see SetDevices.
func (c *Cgroup) Apply(r *specs.LinuxResources) (notes []string, err error) {
	limits, err := plan(r, c.traits(r))
	if err != nil || len(limits) == 0 {
		return nil, err
	}
	if err := c.checkUsage(r); err != nil {
		return nil, err
	}
	missing, err := c.enable(controllers(limits))
	if err != nil {
		return nil, err
	}
	for _, l := range limits {
		lack, lacking := missing[l.controller]
		if !lacking {
			lack, lacking, err = c.set(l)
		}
		switch {
		case err != nil:
			return notes, err
		case !lacking:
		case l.silent:
			notes = append(notes, fmt.Sprintf("linux.resources.%s: %s not set to %s, which asks for nothing", l.field, l.file, l.value))
		default:
			return notes, c.refuse(l, lack.explain())
		}
	}
	return notes, nil
}

// lack is the reason why a limit cannot be set. It is put into words only if that
// turns out to matter: most limits that cannot be set ask for nothing.
type lack struct {
	controller string
	group      string // that does not hand the controller down, or does not have it
	file       string // that the kernel does not have
	cause      error  // why the group does not hand it down
}

func (l lack) explain() string {
	switch {
	case l.file != "":
		return "this kernel has no " + l.file
	case l.cause != nil:
		return "the cgroup " + l.group + " cannot hand down the controller " + l.controller + ": " + rootCause(l.cause)
	case l.group != "/":
		return "the cgroup " + l.group + " does not have the controller " + l.controller
	}
	// If it cannot be read, the answer is the general one.
	data, _ := kernfs.Read("/proc/self/cgroup")
	return whyMissing(l.controller, data)
}

// refuse is the error for a limit that cannot be had here.
func (c *Cgroup) refuse(l limit, why string) error {
	err := errdefs.New(errdefs.ErrUnsupported, "linux.resources.%s: cannot set %s of cgroup %s: %s", l.field, l.file, c.path, why)
	return errdefs.WithHint(err, "Limits need cgroup v2 with the %s controller; on a systemd host boot with systemd.unified_cgroup_hierarchy=1, or leave this limit out.", l.controller)
}

// set writes one limit. A file that the kernel does not have is a lack, not an
// error, so that silent limits may pass.
func (c *Cgroup) set(l limit) (why lack, lacking bool, err error) {
	err = c.write(l.file, l.value)
	if errors.Is(err, fs.ErrNotExist) {
		return lack{file: l.file}, !l.optional, nil
	}
	if err != nil {
		err = fmt.Errorf("linux.resources.%s: %w", l.field, err)
	}
	return lack{}, false, err
}

// checkUsage carries out checkBeforeUpdate: lowering the limit below what is in
// use would kill processes. The text is runc's.
func (c *Cgroup) checkUsage(r *specs.LinuxResources) error {
	m := r.Memory
	if m == nil || m.CheckBeforeUpdate == nil || !*m.CheckBeforeUpdate || m.Limit == nil || *m.Limit <= 0 {
		return nil
	}
	data, err := c.read("memory.current")
	if err != nil {
		return nil //nolint:nilerr // no memory controller: Apply says so for the limit itself
	}
	usage := kernfs.FlatKeyed("usage " + data)["usage"]
	if uint64(*m.Limit) < usage {
		return errdefs.New(errdefs.ErrConflict, "rejecting memory limit %d < usage %d", *m.Limit, usage)
	}
	return nil
}

// controllers lists the controllers of limits, each once.
func controllers(limits []limit) []string {
	var names []string
	for _, l := range limits {
		if !slices.Contains(names, l.controller) {
			names = append(names, l.controller)
		}
	}
	return names
}

// traits are the facts of this kernel that decide which file takes a value.
type traits struct {
	bfq bool // io.bfq.weight exists: the BFQ scheduler is there
}

func (c *Cgroup) traits(r *specs.LinuxResources) traits {
	if r.BlockIO == nil {
		return traits{}
	}
	return traits{bfq: unix.Access(filepath.Join(c.Dir(), "io.bfq.weight"), unix.F_OK) == nil}
}

// enable switches controllers on for the group: each group above it has to hand
// them down in its cgroup.subtree_control. It returns what stands in the way of
// those that cannot be had. The error is for reading only.
func (c *Cgroup) enable(names []string) (missing map[string]lack, err error) {
	missing = map[string]lack{}
	wanted := slices.Clone(names)
	for _, group := range ancestors(c.path) {
		dir := filepath.Join(c.root, group)
		data, err := kernfs.Read(filepath.Join(dir, "cgroup.controllers"))
		if err != nil {
			return nil, err
		}
		offered := strings.Fields(data)
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
