package overlay

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"box/internal/errdefs"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"
)

// Staged is one layer being unpacked. It is private to its owner and knows no
// parent, so that the layers of an image can be unpacked all at once.
type Staged struct {
	// Dir is the empty directory to unpack into.
	Dir string
	// Implied lists the directories (slash-separated, relative to Dir, parents
	// before children) that the layer needs but does not describe. At Commit
	// they take owner, mode, xattrs and times from the chain below. "." is the
	// root of the layer.
	Implied []string
	// Links lists hard links whose target is not in this layer but below it.
	// At Commit the target is copied up, as overlay itself would have done.
	Links []Link

	store *Store
	home  *workDir
}

// Link is a hard link that could not be made while unpacking.
type Link struct{ Name, Target string } // slash-separated, relative to the root

// Stage makes a fresh directory for one layer.
func (s *Store) Stage(ctx context.Context) (*Staged, error) {
	if err := context.Cause(ctx); err != nil {
		return nil, err
	}
	home, err := s.newWorkDir()
	if err != nil {
		return nil, err
	}
	dir := filepath.Join(home.path, "diff")
	if err := mkdirExactly(dir, 0o755); err != nil {
		return nil, fmt.Errorf("stage layer: %w", errors.Join(err, home.remove()))
	}
	return &Staged{Dir: dir, store: s, home: home}, nil
}

// Commit gives the layer its parent and its name. If another process has
// committed the same chain meanwhile, that one stays and ours is discarded:
// the same chainID means the same content. The parent must be committed.
func (st *Staged) Commit(chain, parent digest.Digest) error {
	if st.home == nil {
		return errdefs.New(errdefs.ErrInvalid, "commit layer %s: already committed or discarded", chain)
	}
	if st.store.Has(chain) {
		return st.Discard()
	}
	if err := st.adopt(parent); err != nil {
		return fmt.Errorf("commit layer %s: %w", chain, err)
	}
	if err := st.store.publish(st.home, chain, parent); err != nil {
		return err
	}
	st.home = nil
	return nil
}

// Discard removes the layer. After Commit or a first Discard it does nothing.
func (st *Staged) Discard() error {
	if st.home == nil {
		return nil
	}
	home := st.home
	st.home = nil
	return home.remove()
}

// publish turns a work directory that holds diff/ into the committed layer.
func (s *Store) publish(home *workDir, chain, parent digest.Digest) error {
	dir, err := s.layerDir(chain)
	if err != nil {
		return err
	}
	if !s.Has(parent) {
		return errdefs.New(errdefs.ErrNotFound, "commit layer %s: parent %s is not in the snapshot store", chain, parent)
	}
	note, err := s.note(filepath.Join(home.path, "diff"))
	if err != nil {
		return fmt.Errorf("commit layer %s: %w", chain, err)
	}
	for name, text := range map[string]string{"parent": parent.String(), noteName: note} {
		if err := os.WriteFile(filepath.Join(home.path, name), []byte(text), 0o600); err != nil {
			return fmt.Errorf("commit layer %s: %w", chain, err)
		}
	}
	if s.torn(dir) {
		if err := s.discard(dir); err != nil {
			return fmt.Errorf("commit layer %s: %w", chain, err)
		}
	}
	err = os.Rename(home.path, dir)
	if errors.Is(err, fs.ErrExist) || errors.Is(err, unix.ENOTEMPTY) {
		return home.remove()
	}
	if err != nil {
		return fmt.Errorf("commit layer %s: %w", chain, err)
	}
	home.release()
	return nil
}

// workDir is a directory under stage/ with the flock that says it has an owner.
type workDir struct {
	path string
	lock *os.File
}

// newWorkDir makes and locks a directory under stage/. Between making and
// locking, a sweep may take it for a leftover; then the name is gone or another
// inode by the time we hold the lock, and we try again with a new name.
func (s *Store) newWorkDir() (*workDir, error) {
	for {
		path := filepath.Join(s.dir, "stage", randomName())
		if err := os.Mkdir(path, 0o700); err != nil {
			return nil, fmt.Errorf("make work directory: %w", err)
		}
		lock, err := tryLockDir(path)
		if err != nil {
			return nil, fmt.Errorf("make work directory: %w", err)
		}
		if lock != nil {
			return &workDir{path: path, lock: lock}, nil
		}
	}
}

// tryLockDir takes the flock on a directory; nil when somebody else has it or
// when the path is no longer the directory that was locked.
func tryLockDir(path string) (*os.File, error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if err == nil && sameFile(f, path) {
		return f, nil
	}
	f.Close()
	if err != nil && err != unix.EWOULDBLOCK {
		return nil, fmt.Errorf("lock %s: %w", path, err)
	}
	return nil, nil
}

// sameFile reports whether path still names the open file.
func sameFile(f *os.File, path string) bool {
	open, err := f.Stat()
	if err != nil {
		return false
	}
	named, err := os.Lstat(path)
	return err == nil && os.SameFile(open, named)
}

// remove deletes the directory while its lock is still held.
func (w *workDir) remove() error {
	err := removeTree(w.path)
	w.release()
	return err
}

// release gives up the lock and leaves the directory where it is.
func (w *workDir) release() { w.lock.Close() }

// discard removes a tree that may be in use by name: it is moved out of sight
// first, so that nobody ever sees half of it.
func (s *Store) discard(path string) error {
	home, err := s.newWorkDir()
	if err != nil {
		return err
	}
	err = os.Rename(path, filepath.Join(home.path, "gone"))
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	return errors.Join(err, home.remove())
}

// Sweep removes what dead owners have left under stage/, and layers that a
// power failure may have cut short.
func (s *Store) Sweep() error {
	entries, err := os.ReadDir(filepath.Join(s.dir, "stage"))
	if err != nil {
		return fmt.Errorf("sweep snapshot store: %w", err)
	}
	var errs []error
	for _, e := range entries {
		path := filepath.Join(s.dir, "stage", e.Name())
		lock, err := tryLockDir(path)
		if lock != nil {
			err = (&workDir{path: path, lock: lock}).remove()
		}
		errs = append(errs, err)
	}
	return errors.Join(append(errs, s.sweepTorn())...)
}

// sweepTorn removes the layers that count as absent.
func (s *Store) sweepTorn() error {
	chains, err := s.List()
	if err != nil {
		return err
	}
	var errs []error
	for _, chain := range chains {
		if dir, err := s.layerDir(chain); err == nil && s.torn(dir) {
			errs = append(errs, s.discard(dir))
		}
	}
	return errors.Join(errs...)
}

// mkdirExactly makes a directory with this mode, whatever the umask.
func mkdirExactly(path string, mode os.FileMode) error {
	if err := os.Mkdir(path, mode); err != nil {
		return err
	}
	return os.Chmod(path, mode)
}

// removeTree is os.RemoveAll for trees in overlay form: a work directory holds
// a directory of mode 0 and files may be immutable to others, but root may all.
func removeTree(path string) error {
	if err := os.RemoveAll(path); err != nil {
		return fmt.Errorf("remove %s: %w", path, err)
	}
	return nil
}

// randomName is a name nobody else uses.
func randomName() string {
	var b [8]byte
	_, _ = rand.Read(b[:]) // never fails (crypto/rand documentation, Go 1.24)
	return hex.EncodeToString(b[:])
}
