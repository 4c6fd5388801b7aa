package runtime

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"box/internal/atomicfile"
	"box/internal/errdefs"
	"box/internal/strictjson"
)

// Status is where a container stands, in the words of the OCI runtime spec
// ("paused" is runc's addition).
type Status string

// The states of a container.
const (
	Creating Status = "creating" // create is under way in a living process
	Created  Status = "created"  // the launch program waits for start
	Running  Status = "running"  // the command has been executed
	Paused   Status = "paused"   // running or created, with a frozen cgroup
	Stopped  Status = "stopped"  // the process is gone, the record is not
)

// State is what the OCI runtime spec calls the state of a container, with the
// members that runc adds, in runc's order: engines read it as text.
type State struct {
	OCIVersion  string            `json:"ociVersion"`
	ID          string            `json:"id"`
	Pid         int               `json:"pid"` // 0 when stopped
	Status      Status            `json:"status"`
	Bundle      string            `json:"bundle"`
	Rootfs      string            `json:"rootfs"`
	Created     time.Time         `json:"created"`
	Annotations map[string]string `json:"annotations,omitempty"`
	Owner       string            `json:"owner"`
}

// Names of the files in a container's state directory.
const (
	recordFile = "state.json"
	configFile = "config.json"
	filterFile = "seccomp.bpf"
	startFifo  = "exec.fifo"
)

// Runtime is a state root: a directory with one directory for each container.
type Runtime struct {
	Root string // made on first use, mode 0700
	// Inherited is how many descriptors from 3 on are the caller's, and thus may be
	// passed on (CountInherited). Ours must never be.
	Inherited int
	// Systemd has systemd make the cgroups of new containers.
	Systemd bool
	// Rootless says whether a container is made without a cgroup where that is denied,
	// as long as it asks for no limits. Nil finds out: yes for everybody but the host's
	// root.
	Rootless *bool
	// Warn takes what is worth a line in the log but stops nothing; nil drops it.
	Warn func(text string)
	// Debug takes what --debug shows; nil drops it.
	Debug func(format string, args ...any)
}

func (r *Runtime) warn(text string) {
	if r.Warn != nil {
		r.Warn(text)
	}
}

func (r *Runtime) debugf(format string, args ...any) {
	if r.Debug != nil {
		r.Debug(format, args...)
	}
}

// container is one state directory, opened. Its methods need no lock; those that
// change the container hold the lock on the directory (see lock).
type container struct {
	dir string
	record
	image uint64 // where the code of its process begins, when status looked last
}

func (r *Runtime) dir(id string) string { return filepath.Join(r.Root, id) }

// load reads a container's record. As with runc, one without a record does not exist: its
// create has not come so far, its delete has passed it, or one of the two was killed, which
// can only be told with the container's lock.
func (r *Runtime) load(id string) (*container, error) {
	if err := ValidateID(id); err != nil {
		return nil, err
	}
	c := &container{dir: r.dir(id)}
	data, err := readFile(filepath.Join(c.dir, recordFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, notExisting(id)
	}
	if err != nil {
		return nil, err
	}
	if err := strictjson.Read(c.path(recordFile), data, &c.record, recordMembers); err != nil {
		// Not wrapped: the class of the mistake is ErrInvalid, which is what a wrong id is.
		return nil, errdefs.New(errdefs.ErrCorrupt, "decode %v", err)
	}
	return c, nil
}

// notExisting are runc's words for an id that no container has.
func notExisting(id string) error {
	return errdefs.New(errdefs.ErrNotFound, "container does not exist: %s", id)
}

// missing is asked when one of the container's files is not there: has somebody deleted
// it since its record was read?
func (c *container) missing() error {
	if _, err := os.Stat(c.path(recordFile)); errors.Is(err, fs.ErrNotExist) {
		return notExisting(c.ID)
	}
	return nil
}

// save replaces the record. The root lies on a tmpfs, so nothing is synced.
func (c *container) save() error {
	data, err := strictjson.Append(make([]byte, 0, usualRecord), &c.record, recordMembers)
	if err != nil {
		return err
	}
	return atomicfile.WriteVolatile(c.path(recordFile), data, 0o600)
}

func (c *container) path(name string) string { return filepath.Join(c.dir, name) }

// lock takes the container's lock: an flock on its directory, which the kernel
// drops when the holder dies. It fails with ErrNotFound when the directory was
// removed while we waited for it.
func (r *Runtime) lock(id string) (*os.File, error) { return r.flock(id, unix.LOCK_EX) }

func (r *Runtime) flock(id string, how int) (*os.File, error) {
	if err := ValidateID(id); err != nil {
		return nil, err
	}
	fd, err := unix.Open(r.dir(id), unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err == unix.ENOENT {
		return nil, notExisting(id)
	}
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: r.dir(id), Err: err}
	}
	dir := os.NewFile(uintptr(fd), r.dir(id))
	if err := flockRetry(int(dir.Fd()), how); err != nil {
		dir.Close()
		return nil, &os.PathError{Op: "flock", Path: dir.Name(), Err: err}
	}
	var st unix.Stat_t
	if err := unix.Fstat(int(dir.Fd()), &st); err != nil || st.Nlink == 0 {
		dir.Close()
		return nil, notExisting(id)
	}
	return dir, nil
}

func flockRetry(fd, how int) error {
	for {
		if err := unix.Flock(fd, how); err != unix.EINTR {
			return err
		}
	}
}

// locked reports whether a living process holds the container's lock.
func (r *Runtime) locked(id string) bool {
	dir, err := r.flock(id, unix.LOCK_SH|unix.LOCK_NB)
	if err != nil {
		return errors.Is(err, unix.EWOULDBLOCK)
	}
	dir.Close()
	return false
}

// State returns a container's state as it is now.
func (r *Runtime) State(id string) (*State, error) {
	c, err := r.load(id)
	if err != nil {
		return nil, err
	}
	st := c.State
	st.Status = r.status(c)
	if st.Status == Stopped {
		st.Pid = 0
	}
	return &st, nil
}

// List returns the state of every container under the root, sorted by id. What a killed
// create or delete has left is shown as stopped, so that it can be found and deleted; what
// is being made or deleted is not shown without a record.
func (r *Runtime) List() ([]State, error) {
	entries, err := os.ReadDir(r.Root)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var all []State
	for _, e := range entries {
		if !e.IsDir() || ValidateID(e.Name()) != nil {
			continue // not ours
		}
		if st := r.listed(e.Name()); st != nil {
			all = append(all, *st)
		}
	}
	slices.SortFunc(all, func(a, b State) int { return strings.Compare(a.ID, b.ID) })
	return all, nil
}

// listed is what List says of a state directory; nil is nothing.
func (r *Runtime) listed(id string) *State {
	st, err := r.State(id)
	if errors.Is(err, errdefs.ErrNotFound) {
		dir, lockErr := r.flock(id, unix.LOCK_SH|unix.LOCK_NB)
		if lockErr != nil {
			return nil
		}
		defer dir.Close()
		st, err = r.State(id) // a create may have come to its end meanwhile
	}
	if err != nil {
		return &State{ID: id, Status: Stopped}
	}
	return st
}

// maxIDLength keeps the id usable as one path component (NAME_MAX).
const maxIDLength = 255

// ValidateID accepts the ids that runc accepts: [a-zA-Z0-9_+-][a-zA-Z0-9_+.-]*.
// The id becomes a directory name under the root and a cgroup name, so neither
// "/" nor a leading "." can be let through (crun 1.28: "../x" as an id).
func ValidateID(id string) error {
	if id == "" {
		return errdefs.New(errdefs.ErrInvalid, "container id cannot be empty")
	}
	if len(id) > maxIDLength {
		return errdefs.New(errdefs.ErrInvalid, "invalid container ID format: %d characters, at most %d", len(id), maxIDLength)
	}
	for i := range len(id) {
		if !idByte(id[i], i == 0) {
			return errdefs.New(errdefs.ErrInvalid, "invalid container ID format: %q", id)
		}
	}
	return nil
}

func idByte(c byte, first bool) bool {
	switch {
	case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9':
		return true
	case c == '_', c == '+', c == '-':
		return true
	}
	return c == '.' && !first
}
