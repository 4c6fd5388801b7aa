package ocirt

import (
	"context"
	"errors"
	"path/filepath"
	"time"

	"box/internal/errdefs"
	"box/pkg/cgroups"
)

// KillCgroups kills what is in the control groups at path (linux.cgroupsPath in
// its cgroupfs form), in whichever hierarchy a runtime has made them, and
// removes them. It is the last resort for a container that its runtime does not
// know of, because the runtime was killed before it had written that down.
// Groups that do not exist are no error.
func KillCgroups(ctx context.Context, path string) error {
	if err := checkGroupPath(path); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, killLimit, errKillLimit)
	defer cancel()
	group, err := cgroups.At(path)
	if errors.Is(err, errdefs.ErrUnsupported) {
		return nil // no hierarchy on this host
	}
	if err != nil {
		return err
	}
	if err := group.Kill(); err != nil {
		return err // who was not killed would be waited for
	}
	return group.Remove(ctx)
}

// checkGroupPath stands before everything else: the root of a hierarchy holds
// every process of the host.
func checkGroupPath(path string) error {
	if !filepath.IsAbs(path) || filepath.Clean(path) != path || path == "/" {
		return errdefs.New(errdefs.ErrInvalid, "kill control group %q: not the absolute path of a group below the root", path)
	}
	return nil
}

// killLimit bounds the wait for processes that the kernel does not let die, so
// that a command that clears up behind another ends with an error instead.
const killLimit = 10 * time.Second

var errKillLimit = errdefs.New(errdefs.ErrUnavailable, "its processes were killed and do not end")
