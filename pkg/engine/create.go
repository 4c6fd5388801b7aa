package engine

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"

	"box/pkg/engine/volume"
	"box/pkg/image"
	"box/pkg/network"
	"box/pkg/overlay"
	"box/pkg/record"
	"box/pkg/spec/gen"
)

// Create makes a container without starting it. A failed Create leaves nothing
// behind. Errors: ErrConflict (name in use), ErrInvalid, ErrUnsupported.
func (e *Engine) Create(ctx context.Context, o CreateOptions) (*record.Record, error) {
	if err := e.sweepContainers(ctx); err != nil {
		return nil, err
	}
	lock, id, err := e.newLock(ctx)
	if err != nil {
		return nil, err
	}
	r, err := e.prepare(ctx, id, o)
	return r, errors.Join(err, lock.Unlock())
}

// newLock draws an id and takes its lock. It waits, because a sweep of another
// process may look at the new run directory in the moment before it is locked.
func (e *Engine) newLock(ctx context.Context) (*record.Lock, string, error) {
	id := record.NewID()
	lock, err := e.records.LockContext(ctx, id)
	return lock, id, err
}

// prepare makes everything that a container needs before its first start, the
// record last. The caller holds the lock of id.
func (e *Engine) prepare(ctx context.Context, id string, o CreateOptions) (r *record.Record, err error) {
	r, err = newRecord(id, o)
	if err != nil {
		return nil, err
	}
	r.Created = time.Now().UTC()
	rt, err := e.runtime()
	if err != nil {
		return nil, err
	}
	r.Runtime = record.Runtime{Path: rt.Path, Root: rt.Root}
	if err := os.MkdirAll(filepath.Join(e.records.Dir(id), record.RootfsDir), 0o700); err != nil {
		return nil, fmt.Errorf("make container directory: %w", err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, e.scrap(id, r))
		}
	}()
	if r.Name, err = e.reserveName(o.Name, id); err != nil {
		return nil, err
	}
	if err := e.prepareTree(ctx, r, o); err != nil {
		return nil, err
	}
	return r, e.records.Save(r, durability(r))
}

// durability spares a container that is removed when it ends the wait for the
// disk: a crash of the machine ends it too.
func durability(r *record.Record) record.Durability {
	return record.Durability(!r.Host.AutoRemove)
}

// prepareTree makes the root file system, the volumes and config.json.
func (e *Engine) prepareTree(ctx context.Context, r *record.Record, o CreateOptions) error {
	ov, err := e.prepareRoot(ctx, r.ID, o.Image)
	if err != nil {
		return err
	}
	root, err := ov.View(r.Image.ChainID)
	if err != nil {
		return fmt.Errorf("look into image %s: %w", r.Image.Name, err)
	}
	defer root.Close()
	user, home, err := gen.ResolveUser(root, r.Config.User)
	if err != nil {
		return err
	}
	if r.Config.Env, err = withHome(r.Config.Env, home); err != nil {
		return err
	}
	if r.Host.Mounts, err = e.prepareVolumes(r.ID, root, o); err != nil {
		return err
	}
	if r.Host.NetworkMode == NetworkHost && o.Hostname == "" {
		if r.Config.Hostname, err = os.Hostname(); err != nil {
			return fmt.Errorf("read the host's name: %w", err)
		}
	}
	if err := e.writeFiles(r); err != nil {
		return err
	}
	return e.writeConfig(r, user, o.Image.Config.Architecture)
}

// prepareVolumes makes the directories behind the container's volumes. root is
// the image's tree.
func (e *Engine) prepareVolumes(id string, root *os.File, o CreateOptions) ([]record.Mount, error) {
	wanted, err := volume.Wanted(o.Volumes, o.Image.Config.Config.Volumes)
	if err != nil {
		return nil, err
	}
	mounts := make([]record.Mount, len(wanted))
	for i, v := range wanted {
		if mounts[i], err = v.Mount(e.records.VolumeDir); err != nil {
			return nil, err
		}
	}
	if err := e.records.NoteVolumes(id, mounts); err != nil {
		return nil, fmt.Errorf("note volumes: %w", err)
	}
	for i, v := range wanted {
		if err := v.Make(mounts[i], root); err != nil {
			return mounts, err
		}
	}
	return mounts, nil
}

// prepareRoot makes sure that the image is unpacked, and puts the container's
// own writable layer on it.
func (e *Engine) prepareRoot(ctx context.Context, id string, img *image.Image) (*overlay.Store, error) {
	images, err := e.images()
	if err != nil {
		return nil, err
	}
	release, err := images.Hold(ctx) // until Prepare has made the layers needed
	if err != nil {
		return nil, err
	}
	defer release()
	chain, err := images.Unpack(ctx, img)
	if err != nil {
		return nil, err
	}
	ov := images.Overlay()
	_, err = ov.Prepare(id, chain)
	return ov, err
}

// writeFiles writes what is mounted over files in the container's /etc; hosts
// is the monitor's, which knows the address. Nothing is replaced here and the
// directory counts only when the record is in it, so plain writes do.
func (e *Engine) writeFiles(r *record.Record) error {
	resolv, err := resolvConf(r.Host.NetworkMode)
	if err != nil {
		return err
	}
	dir := e.records.Dir(r.ID)
	return errors.Join(
		os.WriteFile(filepath.Join(dir, record.ResolvFile), resolv, 0o644),
		os.WriteFile(filepath.Join(dir, record.HostnameFile), []byte(r.Config.Hostname+"\n"), 0o644))
}

// resolvConf is the host's, made fit for a container on the bridge; on the
// host's network it is taken as it is.
func resolvConf(mode string) ([]byte, error) {
	if mode != NetworkHost {
		return network.HostResolvConf()
	}
	data, err := os.ReadFile("/etc/resolv.conf")
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	return data, err
}

// writeConfig writes config.json, which is constant from now on.
func (e *Engine) writeConfig(r *record.Record, user specs.User, arch string) error {
	o := gen.Options{
		Rootfs:      record.RootfsDir,
		Readonly:    r.Host.ReadonlyRootfs,
		Args:        r.Config.Args(),
		Env:         r.Config.Env,
		Cwd:         r.Config.WorkingDir,
		User:        user,
		Terminal:    r.Config.Tty,
		Hostname:    r.Config.Hostname,
		Mounts:      e.specMounts(r),
		HostNetwork: r.Host.NetworkMode == NetworkHost,
		CgroupsPath: r.Host.CgroupsPath,
		Socketcall:  arch == "386", // has no other way to make a socket
	}
	if r.Host.NetworkMode == NetworkBridge {
		o.NetworkPath = record.NetnsPath(e.records.RunDir(r.ID))
	}
	s, err := gen.Spec(o)
	if err != nil {
		return err
	}
	data, err := json.Marshal(s)
	if err != nil {
		return fmt.Errorf("encode config.json: %w", err)
	}
	return os.WriteFile(filepath.Join(e.records.Dir(r.ID), record.ConfigFile), data, 0o600)
}

// specMounts lists the mounts beside the default ones.
func (e *Engine) specMounts(r *record.Record) []specs.Mount {
	dir := e.records.Dir(r.ID)
	var mounts []specs.Mount
	for _, name := range []string{record.ResolvFile, record.HostnameFile, record.HostsFile} {
		mounts = append(mounts, specs.Mount{
			Type: "bind", Source: filepath.Join(dir, name), Destination: "/etc/" + name,
			Options: []string{"rbind", "rprivate"},
		})
	}
	for _, m := range r.Host.Mounts {
		options := []string{"rbind", or(m.Propagation, "rprivate")}
		if m.ReadOnly {
			options = append(options, "ro")
		}
		mounts = append(mounts, specs.Mount{Type: "bind", Source: m.Source, Destination: m.Destination, Options: options})
	}
	return overridden(mounts)
}

// overridden drops a mount of ours that the user has one for: the last one for
// a destination counts.
func overridden(mounts []specs.Mount) []specs.Mount {
	last := make(map[string]int, len(mounts))
	for i, m := range mounts {
		last[m.Destination] = i
	}
	kept := mounts[:0]
	for i, m := range mounts {
		if last[m.Destination] == i {
			kept = append(kept, m)
		}
	}
	return kept
}
