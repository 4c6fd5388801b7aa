package overlay

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"box/internal/errdefs"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"
)

// fixedOptions do not depend on the module's parameters: an upper directory
// that becomes a layer must not hold redirects, metadata-only copies or an
// index, and none may be followed if a layer brings one along.
var fixedOptions = []option{{"index", "off"}, {"redirect_dir", "nofollow"}, {"metacopy", "off"}}

// option is one parameter of the overlay filesystem.
type option struct{ key, value string }

// layout is what one overlay mount is made of.
type layout struct {
	lowers      []string // top first
	upper, work string   // empty for a read-only mount
	volatile    bool
}

// Mount mounts the snapshot on target, in the mount namespace of the calling
// thread; see PrivateMounts. The mount lives as long as that namespace.
func (a *Active) Mount(target string) error { return a.MountOver(target) }

// MountOver is Mount with extra directories below everything else. What they
// hold is seen where the image has nothing of that name, and is never part of
// the snapshot: mount points for a container's own files can come from there
// and leave no trace in a committed layer.
func (a *Active) MountOver(target string, bottom ...string) error {
	l, err := a.layout(bottom)
	if err != nil {
		return fmt.Errorf("mount snapshot %s: %w", a.Key, err)
	}
	if err := a.store.mount(l, target); err != nil {
		return fmt.Errorf("mount snapshot %s on %s: %w", a.Key, target, err)
	}
	return nil
}

// Volatile returns the same snapshot with mounts that are never synced. Without
// it the kernel writes everything on the upper directory's filesystem to the disk
// whenever such a mount goes (ovl_sync_fs in fs/overlayfs/super.c), which on a
// busy machine takes longer than most containers live. Use it where nobody wants
// the files after a power failure: containers that are removed when they end, and
// build steps, whose layers are checked anyway (torn.go). Mounts with and without
// it do not mix on one snapshot.
func (a *Active) Volatile() *Active {
	v := *a
	v.volatile = true
	return &v
}

// Detached mounts the snapshot nowhere: the result is an O_PATH directory that
// *at calls can start from, and the mount goes when it is closed.
func (a *Active) Detached() (*os.File, error) {
	l, err := a.layout(nil)
	if err != nil {
		return nil, fmt.Errorf("mount snapshot %s: %w", a.Key, err)
	}
	f, err := a.store.detached(l, 0)
	if err != nil {
		return nil, fmt.Errorf("mount snapshot %s: %w", a.Key, err)
	}
	return f, nil
}

// layout collects the directories of the snapshot. Overlay needs at least one
// lower directory, so a snapshot from nothing stands on the empty one.
func (a *Active) layout(bottom []string) (layout, error) {
	lowers, err := a.store.Lowers(a.Parent)
	if err != nil {
		return layout{}, err
	}
	lowers = append(lowers, bottom...)
	if len(lowers) == 0 {
		lowers = []string{a.store.emptyDir()}
	}
	work := filepath.Join(a.dir, "work")
	if a.volatile {
		// The kernel leaves this mark so that a volatile mount is not taken up
		// after a crash (overlayfs.rst, "Volatile mount"). Snapshots of this kind
		// do not outlive one: their owner is gone.
		if err := os.RemoveAll(filepath.Join(work, "work", "incompat")); err != nil {
			return layout{}, err
		}
	}
	return layout{lowers: lowers, upper: a.Upper(), work: work, volatile: a.volatile}, nil
}

func (s *Store) emptyDir() string { return filepath.Join(s.dir, "empty") }

// View mounts the chain read-only and nowhere, as Active.Detached does. The
// empty chain gives an empty directory.
func (s *Store) View(chain digest.Digest) (*os.File, error) {
	lowers, err := s.Lowers(chain)
	if err != nil {
		return nil, fmt.Errorf("view layer: %w", err)
	}
	if chain == "" {
		return cloneTree(s.emptyDir())
	}
	// Without an upper directory overlay wants two lower ones.
	l := layout{lowers: append(lowers, s.emptyDir())}
	f, err := s.detached(l, unix.MOUNT_ATTR_RDONLY)
	if err != nil {
		return nil, fmt.Errorf("view layer %s: %w", chain, err)
	}
	return f, nil
}

// cloneTree is a detached, read-only bind mount of dir.
func cloneTree(dir string) (*os.File, error) {
	fd, err := unix.OpenTree(unix.AT_FDCWD, dir, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("open tree %s: %w", dir, err)
	}
	f := os.NewFile(uintptr(fd), dir)
	attr := &unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY}
	if err := unix.MountSetattr(fd, "", unix.AT_EMPTY_PATH, attr); err != nil {
		f.Close()
		return nil, fmt.Errorf("make %s read-only: %w", dir, err)
	}
	return f, nil
}

// mount attaches the overlay to target in the calling thread's namespace.
func (s *Store) mount(l layout, target string) error {
	if s.oldAPI.Load() {
		return mountOld(l, target)
	}
	f, err := s.build(l, 0)
	if errors.Is(err, errOldKernel) {
		s.oldAPI.Store(true)
		return mountOld(l, target)
	}
	if err != nil {
		return err
	}
	defer f.Close()
	return unix.MoveMount(int(f.Fd()), "", unix.AT_FDCWD, target, unix.MOVE_MOUNT_F_EMPTY_PATH)
}

// detached makes the overlay mount without a place in any tree.
func (s *Store) detached(l layout, attrs int) (*os.File, error) {
	if !s.oldAPI.Load() {
		f, err := s.build(l, attrs)
		if !errors.Is(err, errOldKernel) {
			return f, err
		}
		s.oldAPI.Store(true)
	}
	return s.detachedOld(l)
}

// errOldKernel says that the kernel has no "lowerdir+" (it came with 6.7).
var errOldKernel = errdefs.New(errdefs.ErrUnsupported, "kernel has no lowerdir+")

// build makes a detached overlay mount with the new mount API, one lower
// directory at a time: neither their number nor the length of their names is
// bounded by the one page that mount(2) has for its options.
func (s *Store) build(l layout, attrs int) (*os.File, error) {
	f, err := create(l, attrs)
	if errors.Is(err, unix.EINVAL) && collectsOptions() {
		return nil, errOldKernel
	}
	return f, err
}

// create is build for kernels from 6.7 on; others answer EINVAL sooner or later.
func create(l layout, attrs int) (*os.File, error) {
	fs, err := unix.Fsopen("overlay", unix.FSOPEN_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("open filesystem overlay: %w", err)
	}
	defer unix.Close(fs)
	if err := configure(fs, l); err != nil {
		return nil, err
	}
	if err := unix.FsconfigCreate(fs); err != nil {
		return nil, fmt.Errorf("create overlay%s: %w", kernelWords(fs), err)
	}
	fd, err := unix.Fsmount(fs, unix.FSMOUNT_CLOEXEC, attrs)
	if err != nil {
		return nil, fmt.Errorf("mount overlay%s: %w", kernelWords(fs), err)
	}
	return os.NewFile(uintptr(fd), "overlay"), nil
}

// collectsOptions tells whether the kernel's overlay knows nothing of the new API
// (before 6.5): then fsconfig(2) takes any word, joins them to one string of mount(2) and
// lets the file system look at it only in the end (fs/fs_context.c, legacy_parse_param).
// Later kernels refuse a lower directory without a name at once.
func collectsOptions() bool {
	fs, err := unix.Fsopen("overlay", unix.FSOPEN_CLOEXEC)
	if err != nil {
		return false
	}
	defer unix.Close(fs)
	return unix.FsconfigSetFlag(fs, "lowerdir+") == nil
}

// configure sets all parameters of one overlay. The first lower directory
// tells whether the kernel knows "lowerdir+".
func configure(fs int, l layout) error {
	for i, dir := range l.lowers {
		err := setPath(fs, "lowerdir+", dir)
		if i == 0 && errors.Is(err, unix.EINVAL) {
			return errOldKernel
		}
		if err != nil {
			return fmt.Errorf("add lower directory %s%s: %w", dir, kernelWords(fs), err)
		}
	}
	opts := fixedOptions
	if l.volatile {
		if err := unix.FsconfigSetFlag(fs, "volatile"); err != nil {
			return fmt.Errorf("set overlay option volatile%s: %w", kernelWords(fs), err)
		}
	}
	if l.upper != "" {
		for _, o := range []option{{"upperdir", l.upper}, {"workdir", l.work}} {
			if err := setPath(fs, o.key, o.value); err != nil {
				return fmt.Errorf("set %s %s%s: %w", o.key, o.value, kernelWords(fs), err)
			}
		}
	} else {
		opts = opts[1:] // a read-only overlay has no index to switch off
	}
	for _, o := range opts {
		if err := unix.FsconfigSetString(fs, o.key, o.value); err != nil {
			return fmt.Errorf("set overlay option %s=%s%s: %w", o.key, o.value, kernelWords(fs), err)
		}
	}
	return nil
}

// setPath gives the kernel a directory. A string parameter may have 255 bytes
// (fsconfig(2)); a longer path goes by way of an open file.
func setPath(fs int, key, path string) error {
	if len(path) < 250 {
		return unix.FsconfigSetString(fs, key, path)
	}
	f, err := openPath(path)
	if err != nil {
		return err
	}
	defer f.Close()
	return unix.FsconfigSetString(fs, key, fdPath(f))
}

// openPath opens a directory of the store without following a link at its end.
func openPath(path string) (*os.File, error) {
	return os.OpenFile(path, unix.O_PATH|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
}

// kernelWords fetches what the kernel has to say about the last failure, in a
// form that fits between verb and errno: ` ("overlay: ...")`, or nothing.
func kernelWords(fs int) string {
	var words []string
	buf := make([]byte, 4096)
	for {
		n, err := unix.Read(fs, buf)
		if err != nil || n <= 2 {
			break
		}
		words = append(words, strings.TrimSpace(string(buf[2:n]))) // "e " comes first
	}
	if len(words) == 0 {
		return ""
	}
	return " (" + strings.Join(words, "; ") + ")"
}

// mountOld mounts with mount(2), for kernels before 6.7. Its options must fit
// into one page, so every directory is named by an open file: 500 layers, the
// kernel's own bound, do not fit, but some 200 do.
func mountOld(l layout, target string) error {
	var files []*os.File
	defer func() {
		for _, f := range files {
			f.Close()
		}
	}()
	short := func(path string) (string, error) {
		f, err := openPath(path)
		if err != nil {
			return "", err
		}
		files = append(files, f)
		return fdPath(f), nil
	}
	data, err := oldOptions(l, short)
	if err != nil {
		return err
	}
	if len(data) >= os.Getpagesize() {
		return errdefs.New(errdefs.ErrUnsupported, "mount overlay of %d layers: this kernel takes one page of options; 6.7 and later take more", len(l.lowers))
	}
	if err := unix.Mount("overlay", target, "overlay", 0, data); err != nil {
		return fmt.Errorf("mount overlay: %w", err)
	}
	return nil
}

// oldOptions writes the options of mount(2); short gives a path its short name.
func oldOptions(l layout, short func(string) (string, error)) (string, error) {
	lowers := make([]string, len(l.lowers))
	for i, dir := range l.lowers {
		name, err := short(dir)
		if err != nil {
			return "", err
		}
		lowers[i] = name
	}
	words := []string{"lowerdir=" + strings.Join(lowers, ":")}
	opts := fixedOptions[1:]
	if l.upper != "" {
		upper, err1 := short(l.upper)
		work, err2 := short(l.work)
		if err := errors.Join(err1, err2); err != nil {
			return "", err
		}
		words = append(words, "upperdir="+upper, "workdir="+work)
		opts = fixedOptions
	}
	for _, o := range opts {
		words = append(words, o.key+"="+o.value)
	}
	if l.volatile {
		words = append(words, "volatile")
	}
	return strings.Join(words, ","), nil
}

// detachedOld makes a detached mount on kernels before 6.7: mounted in a
// private namespace on a directory nobody else sees, cloned from there.
func (s *Store) detachedOld(l layout) (*os.File, error) {
	var tree *os.File
	err := PrivateMounts(context.Background(), func() error {
		target := s.emptyDir()
		if l.upper == "" {
			// The empty directory is one of the lowers, and overlay refuses
			// to be mounted on a part of itself; stage/ never is.
			target = filepath.Join(s.dir, "stage")
		}
		if err := mountOld(l, target); err != nil {
			return err
		}
		fd, err := unix.OpenTree(unix.AT_FDCWD, target, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
		if err != nil {
			return fmt.Errorf("clone overlay: %w", err)
		}
		tree = os.NewFile(uintptr(fd), "overlay")
		return nil
	})
	return tree, err
}

// PrivateMounts runs f on a thread of its own in a private mount namespace and
// returns what f returns. Mounts made in f are seen by f and by the processes
// it starts, and by nobody else; when f has returned and those processes are
// gone, so are the mounts, whatever kills us. Mounts that the host makes later
// still arrive (rslave). f must not start goroutines that need the namespace:
// they would run on other threads.
func PrivateMounts(ctx context.Context, f func() error) error {
	if err := context.Cause(ctx); err != nil {
		return err
	}
	done := make(chan error, 1)
	go func() {
		// Never unlocked: the thread ends with this goroutine instead of
		// going back, in its odd namespace, to the scheduler.
		runtime.LockOSThread()
		if err := unix.Unshare(unix.CLONE_FS | unix.CLONE_NEWNS); err != nil {
			done <- fmt.Errorf("make private mount namespace: %w", err)
			return
		}
		if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_SLAVE, ""); err != nil {
			done <- fmt.Errorf("make mounts private: %w", err)
			return
		}
		done <- f()
	}()
	return <-done
}
