// Package e2e runs scenarios on the built programs, as a user would: each
// states one thing that must hold, from the command line to the kernel. They
// need root and what scripts/test-deps.sh installs.
//
// BOX_BIN names the directory of the programs (they are built if it is not
// set); BOX_RUNTIME swaps the OCI runtime under box, so that every scenario is
// also one about runc or crun.
package e2e

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"box/internal/testkit"
	"box/test/baseimage"
)

// programs is the directory with box, box-runtime and box-monitor.
var programs string

func TestMain(m *testing.M) {
	if err := plainCgroups(); err != nil {
		fmt.Fprintln(os.Stderr, "e2e:", err)
		os.Exit(1)
	}
	code, err := runAll(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, "e2e:", err)
		code = 1
	}
	os.Exit(code)
}

func runAll(m *testing.M) (code int, err error) {
	dir, remove, err := testkit.Scratch()
	if err != nil {
		return 1, err
	}
	defer func() { err = errors.Join(err, remove()) }()
	if programs = os.Getenv("BOX_BIN"); programs == "" {
		programs = filepath.Join(dir, "bin")
		if err := testkit.Compile(programs+"/", "./cmd/..."); err != nil {
			return 1, err
		}
	}
	mirror.dir = filepath.Join(dir, "mirror")
	defer mirror.stop()
	return m.Run(), nil
}

// plainCgroups gives crun, which refuses to work where cgroup v1 and v2 are
// mixed, a view with nothing but v2: this program starts anew in a mount
// namespace of its own.
func plainCgroups() error {
	if filepath.Base(os.Getenv("BOX_RUNTIME")) != "crun" || os.Geteuid() != 0 || onlyCgroup2() {
		return nil
	}
	// The namespace is this thread's until the exec, which ends all others.
	runtime.LockOSThread()
	if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
		return fmt.Errorf("unshare: %w", err)
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_SLAVE, ""); err != nil {
		return fmt.Errorf("make mounts private: %w", err)
	}
	if err := unix.Mount("none", groups, "cgroup2", 0, ""); err != nil {
		return fmt.Errorf("mount cgroup2: %w", err)
	}
	return unix.Exec("/proc/self/exe", os.Args, os.Environ())
}

const groups = "/sys/fs/cgroup"

// onlyCgroup2 tells hosts with nothing but cgroup v2 from the mixed ones.
func onlyCgroup2() bool {
	var st unix.Statfs_t
	return unix.Statfs(groups, &st) == nil && st.Type == unix.CGROUP2_SUPER_MAGIC
}

// mirror is the registry that stands in for docker.io. It is started by the
// first test that wants it, and an image is put into it by the first test that
// wants that one.
var mirror mirrorRegistry

type mirrorRegistry struct {
	mu       sync.Mutex
	dir      string
	registry *baseimage.Registry
	has      map[string]bool
}

// serve makes sure that the mirror has the images and returns its address.
func (m *mirrorRegistry) serve(images ...string) (string, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.registry == nil {
		if err := os.MkdirAll(m.dir, 0o700); err != nil {
			return "", err
		}
		r, err := baseimage.StartRegistry(context.Background(), m.dir, "127.0.0.1:0", "")
		if err != nil {
			return "", err
		}
		m.registry, m.has = r, map[string]bool{}
	}
	for _, image := range images {
		if m.has[image] {
			continue
		}
		if err := baseimage.Push(context.Background(), m.registry.Addr, image); err != nil {
			return "", err
		}
		m.has[image] = true
	}
	return m.registry.Addr, nil
}

func (m *mirrorRegistry) stop() {
	if m.registry != nil {
		_ = m.registry.Stop() // it dies with this process at the latest
	}
}
