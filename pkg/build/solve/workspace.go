package solve

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"box/pkg/overlay"
	"box/pkg/record"

	"github.com/opencontainers/go-digest"
)

// idPrefix begins the ids of everything that a build makes for a step: the
// snapshot, the run directory, the container, the network lease.
const idPrefix = "build-"

// goneSuffix is what package record appends to a run directory that is being removed.
const goneSuffix = ".gone"

// workspace is a writable snapshot and a run directory for one step. The lock
// on the run directory is held as long as this process lives; without it all
// that bears the id is garbage, see Sweep.
type workspace struct {
	id     string
	lock   *record.Lock
	active *overlay.Active
	store  *overlay.Store
}

// newWorkspace makes a workspace on top of a chain.
func (s *solver) newWorkspace(parent digest.Digest) (*workspace, error) {
	id, err := newID(s.env.Records.RunRoot())
	if err != nil {
		return nil, err
	}
	lock, err := s.env.Records.TryLock(id)
	if err != nil {
		return nil, fmt.Errorf("make build directory: %w", err)
	}
	w := &workspace{id: id, lock: lock, store: s.env.Store.Overlay()}
	w.active, err = w.store.Prepare(id, parent)
	if err != nil {
		return nil, errors.Join(err, w.remove())
	}
	return w, nil
}

// newID makes an id. Its first four digits stand for the run root, so that what
// is left of a build anywhere on the host tells whose it is.
func newID(runRoot string) (string, error) {
	var b [6]byte
	if _, err := rand.Read(b[:]); err != nil {
		return "", err
	}
	return IDPrefix(runRoot) + hex.EncodeToString(b[:]), nil
}

// IDPrefix begins the ids of all steps that work under a run root.
func IDPrefix(runRoot string) string {
	return idPrefix + digest.FromString(runRoot).Encoded()[:4]
}

// dir is the run directory.
func (w *workspace) dir() string { return w.lock.Dir() }

// remove removes what is left of the workspace; a committed snapshot is gone already.
func (w *workspace) remove() error {
	err := w.store.RemoveActive(w.id)
	return errors.Join(err, w.lock.Unlock())
}

// Sweep removes what killed builds have left: containers, network leases,
// snapshots, run directories. It is cheap when there is nothing.
func Sweep(ctx context.Context, env Env) error {
	left, err := leftovers(env)
	if err != nil {
		return fmt.Errorf("sweep builds: %w", err)
	}
	var errs []error
	for _, id := range left {
		if err := sweepOne(ctx, env, id); err != nil {
			errs = append(errs, fmt.Errorf("sweep %s: %w", id, err))
		}
	}
	return errors.Join(errs...)
}

// leftovers lists the ids that nobody holds. Snapshots are looked at too: after
// a reboot the run directories are gone and they are not.
func leftovers(env Env) ([]string, error) {
	ids := map[string]bool{}
	dir := filepath.Join(env.Records.RunRoot(), "containers")
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	for _, e := range entries {
		name := e.Name()
		// Who was killed while it removed its directory had renamed that first.
		if gone, ok := strings.CutSuffix(name, goneSuffix); ok && isStepID(gone) {
			if err := os.RemoveAll(filepath.Join(dir, name)); err != nil {
				return nil, err
			}
		}
		ids[name] = true
	}
	actives, err := env.Store.Overlay().Actives()
	if err != nil {
		return nil, err
	}
	for _, key := range actives {
		ids[key] = true
	}
	var left []string
	for id := range ids {
		if isStepID(id) && !env.Records.Locked(id) {
			left = append(left, id)
		}
	}
	return left, nil
}

func isStepID(s string) bool {
	rest, ok := strings.CutPrefix(s, idPrefix)
	return ok && len(rest) == 16 && strings.Trim(rest, "0123456789abcdef") == ""
}

// sweepOne takes over the lock of an abandoned step and removes its traces, the
// container first: it may still write to the snapshot.
func sweepOne(ctx context.Context, env Env, id string) error {
	lock, err := env.Records.TryLock(id)
	if errors.Is(err, record.ErrLocked) {
		return nil // somebody else sweeps, or it is alive after all
	}
	if err != nil {
		return err
	}
	if hadContainer(lock.Dir()) {
		err = env.Runtime.Clear(ctx, id, cgroupPath(id), lock.AwaitRuntime)
		if env.Network != nil {
			err = errors.Join(err, env.Network.Detach(ctx, id))
		}
		if err != nil {
			// The run directory stays, so that the next sweep tries again.
			return errors.Join(err, lock.Abandon())
		}
	}
	return errors.Join(env.Store.Overlay().RemoveActive(id), lock.Unlock())
}

// hadContainer tells whether the step came as far as making a bundle.
func hadContainer(dir string) bool {
	_, err := os.Lstat(filepath.Join(dir, bundleFile))
	return err == nil
}
