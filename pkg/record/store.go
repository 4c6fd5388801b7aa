package record

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sort"
	"strings"

	"box/internal/atomicfile"
	"box/internal/errdefs"
)

// Store is the directory of all records below one data root, together with
// the run root that belongs to it. It holds no open files and caches nothing:
// any number of processes can use the same directories.
type Store struct {
	root    string
	runRoot string
}

// OpenStore makes the directories if needed. Both are closed to other users:
// a set-user-id program inside a container's tree must not be reachable from
// the host (CVE-2021-41091).
func OpenStore(root, runRoot string) (*Store, error) {
	for _, dir := range []string{root, filepath.Join(root, "containers"), filepath.Join(root, "containers", namesDir), runRoot, filepath.Join(runRoot, "containers")} {
		if err := os.Mkdir(dir, 0o700); err == nil || errors.Is(err, os.ErrExist) {
			continue
		}
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return nil, fmt.Errorf("make record store: %w", err)
		}
	}
	return &Store{root: root, runRoot: runRoot}, nil
}

// Dir is the directory of container id, which is also its OCI bundle.
func (s *Store) Dir(id string) string { return filepath.Join(s.root, "containers", id) }

// RunDir is the directory of container id in the run root; see Lock.
func (s *Store) RunDir(id string) string { return filepath.Join(s.runRoot, "containers", id) }

// Root is the data root.
func (s *Store) Root() string { return s.root }

// RunRoot is the run root.
func (s *Store) RunRoot() string { return s.runRoot }

// Load reads the record of exactly this id.
func (s *Store) Load(id string) (*Record, error) {
	if !IsID(id) {
		return nil, errdefs.New(errdefs.ErrNotFound, "no such container: %s", id)
	}
	data, err := os.ReadFile(filepath.Join(s.Dir(id), recordFile))
	if errors.Is(err, os.ErrNotExist) {
		return nil, errdefs.New(errdefs.ErrNotFound, "no such container: %s", id)
	}
	if err != nil {
		return nil, fmt.Errorf("load record: %w", err)
	}
	r := new(Record)
	if err := json.Unmarshal(data, r); err != nil {
		return nil, errdefs.New(errdefs.ErrCorrupt, "load record of container %s: %w", id, err)
	}
	if r.ID != id {
		return nil, errdefs.New(errdefs.ErrCorrupt, "load record of container %s: it names container %q", id, r.ID)
	}
	return r, nil
}

// Durability says what a crash of the whole machine may do to a write.
type Durability bool

// The two kinds of write.
const (
	Durable  Durability = true  // on disk when Save returns
	Volatile Durability = false // old or new after a crash, never half: for states, which a crash ends anyway
)

// Save replaces the record. The caller holds the lock.
func (s *Store) Save(r *Record, d Durability) error {
	data, err := json.Marshal(r)
	if err != nil {
		return fmt.Errorf("save record of container %s: %w", r.ID, err)
	}
	path := filepath.Join(s.Dir(r.ID), recordFile)
	if d == Durable {
		err = atomicfile.Write(path, data, 0o600)
	} else {
		err = atomicfile.WriteVolatile(path, data, 0o600)
	}
	if err != nil {
		return fmt.Errorf("save record: %w", err)
	}
	return nil
}

// IDs lists every container directory, sorted, incomplete ones included.
func (s *Store) IDs() ([]string, error) {
	entries, err := os.ReadDir(filepath.Join(s.root, "containers"))
	if err != nil {
		return nil, fmt.Errorf("list containers: %w", err)
	}
	ids := make([]string, 0, len(entries))
	for _, e := range entries {
		if IsID(e.Name()) {
			ids = append(ids, e.Name())
		}
	}
	return ids, nil
}

// List loads every record, newest first. Directories without a record are left
// out; a record that cannot be read is listed as Dead, with the reason.
func (s *Store) List() ([]*Record, error) {
	ids, err := s.IDs()
	if err != nil {
		return nil, err
	}
	list := make([]*Record, 0, len(ids))
	for _, id := range ids {
		r, err := s.Load(id)
		switch {
		case errors.Is(err, errdefs.ErrNotFound):
			continue // being made or removed at this moment
		case err != nil:
			r = &Record{ID: id, State: State{Status: Dead, Error: err.Error()}}
		}
		list = append(list, r)
	}
	sort.SliceStable(list, func(i, j int) bool { return list[i].Created.After(list[j].Created) })
	return list, nil
}

// Resolve finds the id that the user means: a full id, a name (with or without
// a leading slash), or a prefix of exactly one id; in this order, as Docker
// does, so that a name cannot be hidden by somebody's id.
func (s *Store) Resolve(nameOrID string) (string, error) {
	notFound := errdefs.New(errdefs.ErrNotFound, "no such container: %s", nameOrID)
	if IsID(nameOrID) {
		if _, err := os.Stat(s.Dir(nameOrID)); err == nil {
			return nameOrID, nil
		}
	}
	if id, err := s.nameTarget(strings.TrimPrefix(nameOrID, "/")); err == nil {
		return id, nil
	}
	if nameOrID == "" || !isHex(nameOrID) || len(nameOrID) > idLen {
		return "", notFound
	}
	ids, err := s.IDs()
	if err != nil {
		return "", err
	}
	i := sort.SearchStrings(ids, nameOrID)
	if i == len(ids) || !strings.HasPrefix(ids[i], nameOrID) {
		return "", notFound
	}
	if i+1 < len(ids) && strings.HasPrefix(ids[i+1], nameOrID) {
		return "", errdefs.New(errdefs.ErrInvalid, "container id prefix %s is ambiguous: it matches %s and %s", nameOrID, ids[i][:12], ids[i+1][:12])
	}
	return ids[i], nil
}

// Find is Resolve and Load.
func (s *Store) Find(nameOrID string) (*Record, error) {
	id, err := s.Resolve(nameOrID)
	if err != nil {
		return nil, err
	}
	r, err := s.Load(id)
	if errors.Is(err, errdefs.ErrNotFound) {
		return nil, errdefs.New(errdefs.ErrNotFound, "no such container: %s", nameOrID)
	}
	return r, err
}

// RemoveDir deletes the container's directory, the record first: from then on
// the container is not known any more. The caller holds the lock.
func (s *Store) RemoveDir(id string) error {
	dir := s.Dir(id)
	if err := os.Remove(filepath.Join(dir, recordFile)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("remove record: %w", err)
	}
	if err := os.RemoveAll(dir); err != nil {
		return fmt.Errorf("remove container %s: %w", id, err)
	}
	return nil
}
