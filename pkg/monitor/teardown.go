package monitor

import (
	"context"
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"box/pkg/ocirt"
	"box/pkg/overlay"
	"box/pkg/record"
)

// teardown takes everything down that setup and run have made, as far as they
// came. The container's first process is dead, and all others with it, so the
// runtime's state, the network and the root file system are three matters of
// their own, each of which mostly waits for the kernel. Only after a failed
// start something may be alive, and the runtime comes first.
func (m *monitor) teardown(ctx context.Context) error {
	chains := []func(context.Context) error{m.deleteContainer, m.dropNetwork}
	if m.record == nil || m.record.Host.AutoRemove {
		chains = append(chains, m.dropRoot)
	}
	var errs []error
	if m.failed {
		errs = append(errs, m.deleteContainer(ctx))
		chains = chains[1:]
	}
	results := make(chan error)
	for _, chain := range chains {
		go func() { results <- chain(ctx) }()
	}
	for range chains {
		errs = append(errs, <-results)
	}
	return errors.Join(errs...)
}

// deleteContainer removes whatever the runtime has begun, and then waits for
// the last output. After a failed start the runtime may have been killed before
// it knew of its own control groups.
func (m *monitor) deleteContainer(ctx context.Context) error {
	if !m.begun {
		return nil
	}
	err := m.runtime().Delete(ctx, m.id, true)
	if m.failed {
		err = errors.Join(err, ocirt.KillCgroups(ctx, m.record.Host.CgroupsPath))
	}
	m.streams.drain()
	return err
}

// dropNetwork gives back addresses, rules, namespace and ports, in this order:
// nobody else may take a port while a rule still sends it to us.
func (m *monitor) dropNetwork(ctx context.Context) error {
	var errs []error
	if m.attached {
		errs = append(errs, m.network.Detach(ctx, m.id))
	}
	if m.netns != nil {
		errs = append(errs, unmount(record.NetnsPath(m.lock.Dir())), m.netns.Close())
	}
	if m.ports != nil {
		errs = append(errs, m.ports.Close())
	}
	return errors.Join(errs...)
}

// dropRoot unmounts the root, and removes what an auto-removed container wrote.
// It may be called twice.
func (m *monitor) dropRoot(context.Context) error {
	if err := unmount(m.rootfs()); err != nil {
		return err
	}
	if m.record == nil || !m.record.Host.AutoRemove {
		return nil
	}
	return m.removeLayer(m.id)
}

func (m *monitor) removeLayer(id string) error {
	ov, err := overlay.Open(m.snapshots())
	if err != nil {
		return err
	}
	return ov.RemoveActive(id)
}

// unmount is content with a path on which nothing is mounted.
func unmount(path string) error {
	err := unix.Unmount(path, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW)
	if err != nil && !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("unmount %s: %w", path, err)
	}
	return nil
}
