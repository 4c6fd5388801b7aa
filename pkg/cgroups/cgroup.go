package cgroups

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"box/internal/errdefs"
	"box/pkg/cgroups/kernfs"
	"box/pkg/cgroups/legacy"
)

// Cgroup is the group of a container, whether it exists or not: a directory of the
// unified hierarchy, and one in each v1 hierarchy where the host has such.
type Cgroup struct {
	root   string // mount point of the unified hierarchy, "" if the host has none
	path   string // below it, absolute and clean, never "/"
	legacy *legacy.Group
	unit   *unit // nil unless systemd makes the group
	// rootless: what cannot be had is done without, if nobody asked for it.
	rootless bool
	// unasked: no linux.cgroupsPath names the group.
	unasked bool
	// none: there is no group, and the process stays in its parent's.
	none bool
}

// Options choose the driver of a group.
type Options struct {
	Systemd  bool // systemd makes the group: --systemd-cgroup
	Rootless bool // what cannot be had is done without, if nobody asked for it
	// Annotations of the container, of which some set properties of the unit.
	Annotations map[string]string
	// Resources are linux.resources, of which systemd is told when it makes the unit what
	// it does not take later, or would take as a reason to write all limits again. Nil is
	// as if it were empty.
	Resources *specs.LinuxResources
}

// Resolve returns the group for a container: the one that linux.cgroupsPath
// names, or one named after its id.
func Resolve(cgroupsPath, id string, o Options) (*Cgroup, error) {
	if o.Systemd {
		return resolveUnit(cgroupsPath, id, o)
	}
	root, own := unifiedRoot(), "/"
	if !path.IsAbs(cgroupsPath) && root != "" {
		data, err := kernfs.Read("/proc/self/cgroup")
		if err != nil {
			return nil, err
		}
		own, _ = unifiedPath(data)
	}
	c := &Cgroup{root: root, rootless: o.Rootless, unasked: cgroupsPath == ""}
	var err error
	if c.path, err = resolve(cgroupsPath, id, own); err != nil {
		return nil, err
	}
	return c, c.findLegacy(cmp.Or(cgroupsPath, id))
}

// findLegacy looks for v1 hierarchies, where the unified one leaves room for them.
func (c *Cgroup) findLegacy(p string) error {
	if c.root == pure {
		return nil
	}
	var err error
	if c.legacy, err = legacy.Find(p); err == nil && c.root == "" && c.legacy == nil {
		err = noHierarchy("neither cgroup v2 nor v1 is mounted")
	}
	return err
}

// Location is what to remember of a group to find it again, in JSON. The zero
// Location is that of no group.
type Location struct {
	// Path is the path of the group below the root of the unified hierarchy, as
	// in /proc/PID/cgroup, and of those v1 hierarchies that Legacy does not name.
	Path string `json:"path,omitempty"`
	// Legacy has the paths in other v1 hierarchies, by their names.
	Legacy map[string]string `json:"legacy,omitempty"`
	// Unit is the name of systemd's unit, "" if systemd has not made the group;
	// User tells that it is one of the user's manager.
	Unit string `json:"unit,omitempty"`
	User bool   `json:"user,omitempty"`
}

// Location returns what Open takes.
func (c *Cgroup) Location() Location {
	if c.none {
		return Location{}
	}
	l := Location{Path: c.path, Legacy: c.legacy.Differing(c.path)}
	if c.unit != nil {
		l.Unit, l.User = c.unit.name, c.unit.user
	}
	return l
}

// At returns the group with one absolute path in all hierarchies.
func At(p string) (*Cgroup, error) { return Open(Location{Path: p}) }

// Open returns the group at a location. In that of no group there is nobody.
func Open(l Location) (*Cgroup, error) {
	if l.Path == "" {
		return &Cgroup{none: true}, nil
	}
	if !path.IsAbs(l.Path) {
		return nil, errdefs.New(errdefs.ErrInvalid, "open cgroup %q: not an absolute path", l.Path)
	}
	c, err := Resolve(l.Path, "", Options{})
	if err != nil {
		return nil, err
	}
	if l.Unit != "" {
		c.unit = &unit{name: l.Unit, user: l.User}
	}
	return c, c.legacy.Move(l.Legacy)
}

// Path is the path of the group below the root of the hierarchy, as in
// /proc/PID/cgroup. It is what to remember of a group.
func (c *Cgroup) Path() string { return c.path }

// Dir is the directory of the group on the host.
func (c *Cgroup) Dir() string { return filepath.Join(c.root, c.path) }

// Legacy are the places of the container's processes in the v1 hierarchies of the host:
// the group, or the caller's own where there is none. A host with v2 alone has none.
func (c *Cgroup) Legacy() []legacy.Place {
	if c.none {
		return c.legacy.Own()
	}
	return c.legacy.Places()
}

// Unified tells whether the unified hierarchy has all controllers, and v1 none.
func (c *Cgroup) Unified() bool { return c.root != "" && c.legacy == nil }

// Create makes the group. One that exists already may be used if it is empty and
// not frozen: two containers in one group could not be told apart when they are
// killed, and a process cloned into a frozen group never runs. The words of its
// errors are runc's.
//
// A rootless caller that may not make a group, and has not asked for a certain
// one, goes without: Location is then zero.
func (c *Cgroup) Create() error {
	err := c.create()
	if c.rootless && c.unasked && denied(err) {
		c.none = true
		return nil
	}
	if err != nil {
		return fmt.Errorf("unable to apply cgroup configuration: create cgroup %s: %w", c.path, err)
	}
	return nil
}

// create makes all parts of the group, or leaves none that it has made.
func (c *Cgroup) create() error {
	if c.legacy == nil {
		return c.createOne()
	}
	undo, err := c.legacy.Create()
	if err != nil {
		return err
	}
	if err := c.createOne(); err != nil {
		undo()
		return err
	}
	return nil
}

// createOne makes the group in the unified hierarchy, or has systemd make it.
func (c *Cgroup) createOne() error {
	if c.unit != nil {
		return c.createUnit()
	}
	if c.root == "" {
		return nil
	}
	return c.createUnified()
}

// createUnit has systemd make the group. systemd takes one that is there as it is: in a
// frozen one not even the process that holds the scope would run, or end.
func (c *Cgroup) createUnit() error {
	if c.root != "" {
		if err := c.checkUnused(); err != nil && !kernfs.Gone(err) {
			return err
		}
	}
	if err := c.unit.start(c.legacy != nil); err != nil {
		return err
	}
	_, err := c.enable(nil) // what systemd has no word for
	return err
}

// denied tells whether an error says that cgroups are none of our business: they
// belong to somebody else, or are mounted read-only.
func denied(err error) bool {
	return errors.Is(err, fs.ErrPermission) || errors.Is(err, unix.EROFS)
}

// createUnified makes the group in the unified hierarchy, with all controllers
// that are to be had: engines read their figures whatever the limits.
func (c *Cgroup) createUnified() error {
	err := kernfs.Make(c.Dir())
	if errors.Is(err, fs.ErrExist) {
		err = c.checkUnused()
	}
	if err != nil {
		return err
	}
	missing, err := c.enable(nil)
	if err == nil && len(missing) > 0 {
		// No limit asked for them yet: what cannot be had is missed in Apply. But
		// it may be because we are among threaded groups.
		err = c.joinThreaded()
	}
	if err != nil {
		_ = unix.Rmdir(c.Dir()) // empty either way
	}
	return err
}

// joinThreaded makes the group threaded if it lies below a group that is: it takes
// no process otherwise (cgroup-v2.rst, "Threads").
func (c *Cgroup) joinThreaded() error {
	data, err := c.read("cgroup.type")
	if err == nil && strings.TrimSpace(data) == "domain invalid" {
		err = c.write("cgroup.type", "threaded")
	}
	return err
}

// checkUnused looks at a group that was there before. The texts are runc's,
// which callers look for.
func (c *Cgroup) checkUnused() error {
	events, err := c.events()
	if err != nil {
		return err
	}
	if events["populated"] != 0 {
		pids, _ := c.Procs()
		return errdefs.New(errdefs.ErrConflict, "container's cgroup is not empty: %d process(es) found", len(pids))
	}
	frozen, err := c.Frozen()
	if err == nil && frozen {
		return errdefs.New(errdefs.ErrConflict, "container's cgroup unexpectedly frozen")
	}
	return err
}

// Guard names a directory for a lock among the processes that change limits or fork into
// the group: one that nobody else can open, and that is there for as long as the group.
func (c *Cgroup) Guard(dir string) { c.legacy.Guard(dir) }

// Exists tells whether the group is there.
func (c *Cgroup) Exists() bool {
	return !c.none && (c.root != "" && unix.Access(c.Dir(), unix.F_OK) == nil || c.legacy.Exists())
}

// File opens the directory of the group, for clone3(CLONE_INTO_CGROUP).
func (c *Cgroup) File() (*os.File, error) {
	fd, err := unix.Open(c.Dir(), unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: c.Dir(), Err: err}
	}
	return os.NewFile(uintptr(fd), c.Dir()), nil
}

// Procs returns the processes in the group and in the groups below it, in
// ascending order. A group that does not exist has none.
func (c *Cgroup) Procs() ([]int, error) {
	if c.none {
		return nil, nil
	}
	if c.legacy == nil {
		return kernfs.Procs(c.Dir())
	}
	dirs := c.legacy.Dirs()
	if c.root != "" {
		dirs = append(dirs, c.Dir())
	}
	return legacy.Members(dirs...)
}

// read returns the content of an interface file.
func (c *Cgroup) read(file string) (string, error) {
	return kernfs.Read(filepath.Join(c.Dir(), file))
}

// write writes a value to an interface file in one write(2), as the kernel wants.
func (c *Cgroup) write(file, value string) error {
	return kernfs.Write(filepath.Join(c.Dir(), file), value)
}
