package cgroups

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"box/internal/errdefs"
)

// Cgroup is a group of the unified hierarchy, whether it exists or not.
type Cgroup struct {
	root string // mount point of the hierarchy
	path string // below it, absolute and clean, never "/"
}

// Resolve returns the group for a container: the one that linux.cgroupsPath
// names, or one named after its id.
func Resolve(cgroupsPath, id string) (*Cgroup, error) {
	root, err := Root()
	if err != nil {
		return nil, err
	}
	own := "/"
	if !path.IsAbs(cgroupsPath) {
		if own, err = ownGroup(); err != nil {
			return nil, err
		}
	}
	p, err := resolve(cgroupsPath, id, own)
	if err != nil {
		return nil, err
	}
	return &Cgroup{root, p}, nil
}

// Open returns the group with the given Path.
func Open(p string) (*Cgroup, error) {
	if !path.IsAbs(p) {
		return nil, errdefs.New(errdefs.ErrInvalid, "open cgroup %q: not an absolute path", p)
	}
	return Resolve(p, "")
}

// Path is the path of the group below the root of the hierarchy, as in
// /proc/PID/cgroup. It is what to remember of a group.
func (c *Cgroup) Path() string { return c.path }

// Dir is the directory of the group on the host.
func (c *Cgroup) Dir() string { return filepath.Join(c.root, c.path) }

// baseline are the controllers that are switched on for every group where they
// can be, because engines read their figures whatever the limits.
var baseline = []string{"cpu", "io", "memory", "pids"}

// Create makes the group. One that exists already may be used if it is empty and
// not frozen: two containers in one group could not be told apart when they are
// killed, and a process cloned into a frozen group never runs.
func (c *Cgroup) Create() error {
	err := os.Mkdir(c.Dir(), 0o755)
	if errors.Is(err, fs.ErrNotExist) {
		err = os.MkdirAll(c.Dir(), 0o755)
	}
	if errors.Is(err, fs.ErrExist) {
		err = c.checkUnused()
	}
	if err != nil {
		return fmt.Errorf("create cgroup %s: %w", c.path, err)
	}
	// No limit asked for them yet: what cannot be had is missed in Apply.
	_, _ = c.enable(baseline)
	return nil
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

// Exists tells whether the group is there.
func (c *Cgroup) Exists() bool {
	return unix.Access(c.Dir(), unix.F_OK) == nil
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
	var pids []int
	err := filepath.WalkDir(c.Dir(), func(dir string, e fs.DirEntry, err error) error {
		switch {
		case errors.Is(err, fs.ErrNotExist): // removed while we walk
			return nil
		case err != nil:
			return err
		case !e.IsDir():
			return nil
		}
		pids, err = appendProcs(pids, filepath.Join(dir, "cgroup.procs"))
		return err
	})
	slices.Sort(pids)
	return slices.Compact(pids), err
}

// appendProcs reads one cgroup.procs.
func appendProcs(pids []int, file string) ([]int, error) {
	data, err := readFile(file)
	if gone(err) || errors.Is(err, unix.EOPNOTSUPP) {
		// Threaded groups do not list processes; those of their threads are
		// listed above them.
		return pids, nil
	}
	for line := range strings.FieldsSeq(data) {
		pid, err := strconv.Atoi(line)
		if err != nil {
			return nil, errdefs.New(errdefs.ErrCorrupt, "read %s: %w", file, err)
		}
		if pid != 0 { // 0 is a process of another pid namespace
			pids = append(pids, pid)
		}
	}
	return pids, err
}

// gone tells whether an error says that a group was removed: its files answer
// with ENODEV when they were open at that time.
func gone(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENODEV)
}

// OOMKills returns how many processes of the group and those below it were killed
// for want of memory. Without the memory controller it is ErrUnavailable.
func (c *Cgroup) OOMKills() (uint64, error) {
	data, err := c.read("memory.events")
	if errors.Is(err, fs.ErrNotExist) {
		return 0, errdefs.New(errdefs.ErrUnavailable, "read memory.events of cgroup %s: the group has no memory controller", c.path)
	}
	if err != nil {
		return 0, err
	}
	return flatKeyed(data)["oom_kill"], nil
}

// read returns the content of an interface file.
func (c *Cgroup) read(file string) (string, error) {
	return readFile(filepath.Join(c.Dir(), file))
}

// write writes a value to an interface file in one write(2), as the kernel wants.
func (c *Cgroup) write(file, value string) error {
	return writeFile(filepath.Join(c.Dir(), file), value)
}

// readFile reads an interface file. It does so without os.ReadFile, which would
// start Go's poller and register every file with it, for files that are always
// ready: half of the system calls of setting up a group.
func readFile(name string) (string, error) {
	fd, err := unix.Open(name, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return "", &os.PathError{Op: "open", Path: name, Err: err}
	}
	defer unix.Close(fd)
	data := make([]byte, 0, 1024)
	for {
		n, err := unix.Read(fd, data[len(data):cap(data)])
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return "", &os.PathError{Op: "read", Path: name, Err: err}
		}
		if n == 0 {
			return string(data), nil
		}
		if data = data[:len(data)+n]; len(data) == cap(data) {
			data = append(data, 0)[:len(data)]
		}
	}
}

// writeFile writes to a file that must exist: cgroup directories hold no others,
// and O_CREAT in them is an error that hides the real one.
func writeFile(name, value string) error {
	fd, err := unix.Open(name, unix.O_WRONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return &os.PathError{Op: "open", Path: name, Err: err}
	}
	defer unix.Close(fd)
	if _, err := unix.Write(fd, []byte(value)); err != nil {
		return fmt.Errorf("write %q to %s: %w", value, name, err)
	}
	return nil
}

// flatKeyed parses a file of lines with a key and a number.
func flatKeyed(data string) map[string]uint64 {
	values := map[string]uint64{}
	for line := range strings.Lines(data) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), " ")
		if n, err := strconv.ParseUint(value, 10, 64); err == nil {
			values[key] = n
		}
	}
	return values
}
