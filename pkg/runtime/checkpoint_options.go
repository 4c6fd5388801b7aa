package runtime

import (
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"box/internal/errdefs"
	"box/pkg/criu"
)

// CheckpointOptions are those of checkpoint and restore. Paths are relative to the
// working directory, but for ParentPath.
type CheckpointOptions struct {
	Criu       string // the program; empty is the one in PATH
	ImagePath  string // directory of the images; empty is "checkpoint"
	WorkPath   string // directory of the log; empty is that of the images
	ParentPath string // of earlier images, relative to ImagePath

	PreDump, LeaveRunning                                bool
	TCPEstablished, TCPSkipInFlight, ExtUnixSk, ShellJob bool
	FileLocks, LinkRemap, AutoDedup, LazyPages           bool
	ManageCgroups, LSMProfile, LSMContext                string
	PageServer                                           string // address of who takes the memory instead of files
	PagePort                                             int    // of PageServer, 1 to 65535
	StatusFD                                             int    // told when lazy pages can be fetched; -1 is nobody
}

// images are the directories of one dump or restore, opened.
type images struct {
	dir, work *os.File // work is nil if it is dir
	mode      int      // of restoring cgroups
}

func (o *CheckpointOptions) open(create bool) (*images, error) {
	mode, err := criu.Mode(o.ManageCgroups)
	if err != nil {
		return nil, err
	}
	dir := o.ImagePath
	if dir == "" {
		dir = "checkpoint"
	}
	if create {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return nil, err
		}
	}
	if err := checkParent(dir, o.ParentPath); err != nil {
		return nil, err
	}
	i := &images{mode: mode}
	if i.dir, err = os.Open(dir); err != nil || o.WorkPath == "" {
		return i, err
	}
	if err := os.MkdirAll(o.WorkPath, 0o700); err != nil {
		return i, err
	}
	i.work, err = os.Open(o.WorkPath)
	return i, err
}

// checkParent checks --parent-path in runc's words.
func checkParent(dir, parent string) error {
	if parent == "" {
		return nil
	}
	if filepath.IsAbs(parent) {
		return errdefs.New(errdefs.ErrInvalid, "--parent-path must be relative: %s", parent)
	}
	st, err := os.Stat(filepath.Join(dir, parent))
	if err == nil && !st.IsDir() {
		err = &os.PathError{Op: "stat", Path: filepath.Join(dir, parent), Err: unix.ENOTDIR}
	}
	if err != nil {
		return errdefs.New(errdefs.ErrInvalid, "invalid --parent-path: %w", err)
	}
	return nil
}

func (i *images) close() {
	if i == nil {
		return
	}
	for _, f := range []*os.File{i.dir, i.work} {
		if f != nil {
			f.Close()
		}
	}
}

// options are those that dump and restore share.
func (o *CheckpointOptions) options(i *images, log string, annotations map[string]string) *criu.Options {
	return &criu.Options{
		Images: i.dir, Work: i.work, Log: log, Cgroups: i.mode, ConfigFile: criuConfig(annotations),
		TCPEstablished: o.TCPEstablished, ExtUnixSk: o.ExtUnixSk, ShellJob: o.ShellJob, FileLocks: o.FileLocks,
		AutoDedup: o.AutoDedup, LazyPages: o.LazyPages,
		// Engines make the network before and after, and know best what was in it.
		EmptyNamespace: unix.CLONE_NEWNET,
	}
}

// criuConfig is a file whose settings criu prefers to ours: the one that an annotation
// names, none if that is empty, else the one that runc uses.
func criuConfig(annotations map[string]string) string {
	if file, ok := annotations["org.criu.config"]; ok {
		return file
	}
	return "/etc/criu/runc.conf"
}

// checkStatusFD checks --status-fd, in runc's words, before anything is done: it is
// written to when the container stands still.
func (o *CheckpointOptions) checkStatusFD() error {
	switch {
	case o.StatusFD < 0:
		return nil
	case !o.LazyPages:
		return errdefs.New(errdefs.ErrInvalid, "--status-fd: needs --lazy-pages, whose state it tells")
	}
	var st unix.Stat_t
	flags, err := unix.FcntlInt(uintptr(o.StatusFD), unix.F_GETFL, 0)
	if err == nil {
		err = unix.Fstat(o.StatusFD, &st)
	}
	if err == nil && st.Mode&unix.S_IFMT == 0 {
		err = unix.EBADF // no file of the caller's, but of the Go runtime's to wait with
	}
	if err != nil {
		return errdefs.New(errdefs.ErrInvalid, "invalid --status-fd argument %d: %w", o.StatusFD, err)
	}
	if flags&unix.O_ACCMODE == unix.O_RDONLY {
		return errdefs.New(errdefs.ErrInvalid, "invalid --status-fd argument %d: not writable", o.StatusFD)
	}
	return nil
}

// checkFeatures asks for what only some kernels can do.
func (o *CheckpointOptions) checkFeatures() error {
	if !o.PreDump && !o.LazyPages {
		return nil
	}
	memTrack, lazyPages, err := criu.Check(criu.Command{Path: o.Criu})
	switch {
	case err != nil:
		return fmt.Errorf("CRIU feature check failed: %w", err)
	case o.PreDump && !memTrack:
		return errdefs.New(errdefs.ErrUnsupported, "criu is missing features: [MemTrack]")
	case o.LazyPages && !lazyPages:
		return errdefs.New(errdefs.ErrUnsupported, "criu is missing features: [LazyPages]")
	}
	return nil
}
