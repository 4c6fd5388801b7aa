package overlay

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"

	"box/internal/errdefs"
	"box/internal/sys"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"
)

// adopt fits an unpacked layer to the chain below it. A layer need not describe
// every directory on the way to its files; extracted on top of its parents such
// a directory would be the parent's, so the parent's metadata is copied. If the
// parent has a symlink there, the files belong behind that link.
func (st *Staged) adopt(parent digest.Digest) error {
	if parent == "" || len(st.Implied)+len(st.Links) == 0 {
		return st.refuseLinks(parent)
	}
	below, err := st.store.View(parent)
	if err != nil {
		return err
	}
	defer below.Close()
	top, err := os.OpenFile(st.Dir, unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer top.Close()
	a := &adopter{top: top, below: below, copies: map[inode]string{}}
	for _, l := range st.Links {
		if err := a.link(l); err != nil {
			return fmt.Errorf("link %s to %s: %w", l.Name, l.Target, err)
		}
	}
	// Children first: writing into a directory changes its times.
	implied := slices.Clone(st.Implied)
	slices.SortFunc(implied, func(x, y string) int { return strings.Compare(y, x) })
	for _, dir := range implied {
		if err := a.directory(dir); err != nil {
			return fmt.Errorf("complete directory %s: %w", dir, err)
		}
	}
	return a.settleMade()
}

// refuseLinks reports links that nothing below can satisfy.
func (st *Staged) refuseLinks(parent digest.Digest) error {
	if parent != "" || len(st.Links) == 0 {
		return nil
	}
	l := st.Links[0]
	return errdefs.New(errdefs.ErrInvalid, "link %s to %s: no such file in the layer", l.Name, l.Target)
}

// adopter holds the two trees of one adopt call.
type adopter struct {
	top    *os.File         // the staged layer
	below  *os.File         // the merged tree of everything below it
	made   []string         // directories made by makeDirs, parents first
	copies map[inode]string // files of below that were copied up, by their first name in top
}

// directory completes one implied directory.
func (a *adopter) directory(dir string) error {
	src, err := sys.OpenInRoot(a.below, dir, unix.O_PATH|unix.O_DIRECTORY, 0)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.ELOOP) {
		return nil // nothing below, or no directory: ours stands as it is
	}
	if err != nil {
		return err
	}
	defer src.Close()
	real, err := a.realPath(src, dir)
	if err != nil {
		return err
	}
	if real != dir {
		return a.move(dir, real)
	}
	dst, err := sys.OpenBeneath(a.top, dir, unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // moved behind a link together with its parent
	}
	if err != nil {
		return err
	}
	defer dst.Close()
	return copyMetadata(src, dst)
}

// realPath tells what dir is below when links are followed: the kernel knows it
// by the path of the open directory relative to the root of the tree.
func (a *adopter) realPath(src *os.File, dir string) (string, error) {
	f, err := sys.OpenBeneath(a.below, dir, unix.O_PATH|unix.O_DIRECTORY, 0)
	if err == nil {
		f.Close()
		return dir, nil
	}
	if !errors.Is(err, unix.ELOOP) {
		return "", err
	}
	return resolveLinks(a.below, dir)
}

// resolveLinks expands the symlinks in a path that is known to exist.
func resolveLinks(root *os.File, name string) (string, error) {
	done, rest := ".", strings.Split(name, "/")
	for steps := 0; len(rest) > 0; steps++ {
		if steps > 4096 {
			return "", &fs.PathError{Op: "resolve", Path: name, Err: unix.ELOOP}
		}
		word := rest[0]
		rest = rest[1:]
		switch word {
		case "", ".":
			continue
		case "..":
			done = path.Dir(done) // Dir(".") is ".": the root is its own parent
			continue
		}
		target, err := readLink(root, path.Join(done, word))
		if err != nil {
			return "", err
		}
		if target == "" {
			done = path.Join(done, word)
			continue
		}
		if strings.HasPrefix(target, "/") {
			done = "."
		}
		rest = append(strings.Split(target, "/"), rest...)
	}
	return done, nil
}

// readLink returns the target of a symlink, empty if it is something else.
func readLink(root *os.File, name string) (string, error) {
	f, err := sys.OpenInRoot(root, name, unix.O_PATH|unix.O_NOFOLLOW, 0)
	if err != nil {
		return "", err
	}
	defer f.Close()
	buf := make([]byte, unix.PathMax)
	n, err := unix.Readlinkat(int(f.Fd()), "", buf)
	if err == unix.EINVAL || err == unix.ENOENT { // ENOENT: not a link, by empty path
		return "", nil
	}
	return string(buf[:max(n, 0)]), err
}

// move carries what was unpacked into dir to the directory that dir is a link
// to in the tree below, and removes dir so that the link shows again.
func (a *adopter) move(dir, real string) error {
	src, err := sys.OpenBeneath(a.top, dir, unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer src.Close()
	dst, err := a.makeDirs(real)
	if err != nil {
		return err
	}
	defer dst.Close()
	if err := merge(src, dst); err != nil {
		return err
	}
	return a.removeDir(dir)
}

// makeDirs makes the directories of name in the layer, each with the metadata
// that it has below, and opens the last one.
func (a *adopter) makeDirs(name string) (*os.File, error) {
	at := "."
	dir, err := sys.OpenInRoot(a.top, at, unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		return nil, err
	}
	for word := range strings.SplitSeq(name, "/") {
		at = path.Join(at, word)
		made := unix.Mkdirat(int(dir.Fd()), word, 0o755)
		if made != nil && made != unix.EEXIST {
			dir.Close()
			return nil, &fs.PathError{Op: "mkdir", Path: at, Err: made}
		}
		dir.Close()
		if dir, err = sys.OpenBeneath(a.top, at, unix.O_RDONLY|unix.O_DIRECTORY, 0); err != nil {
			return nil, err
		}
		if made == nil {
			a.made = append(a.made, at)
		}
	}
	return dir, nil
}

// settleMade gives the directories that makeDirs made the metadata they have
// below, after everything has been moved into them.
func (a *adopter) settleMade() error {
	for _, name := range slices.Backward(a.made) {
		if err := a.copyBelow(name); err != nil {
			return fmt.Errorf("complete directory %s: %w", name, err)
		}
	}
	return nil
}

// copyBelow gives a directory of the layer the metadata it has below.
func (a *adopter) copyBelow(name string) error {
	src, err := sys.OpenInRoot(a.below, name, unix.O_PATH|unix.O_DIRECTORY, 0)
	if err != nil {
		return err
	}
	defer src.Close()
	dst, err := sys.OpenBeneath(a.top, name, unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		return err
	}
	defer dst.Close()
	return copyMetadata(src, dst)
}

// merge moves the entries of src into dst. A directory that both have is merged
// in turn; anything else of src wins, as it is the layer's own word.
func merge(src, dst *os.File) error {
	names, err := src.Readdirnames(-1)
	if err != nil {
		return err
	}
	for _, name := range names {
		err := unix.Renameat(int(src.Fd()), name, int(dst.Fd()), name)
		if err == unix.ENOTEMPTY || err == unix.EEXIST {
			err = mergeChild(src, dst, name)
		}
		if err != nil {
			return &fs.PathError{Op: "move", Path: name, Err: err}
		}
	}
	return nil
}

// mergeChild merges one directory that both sides have.
func mergeChild(src, dst *os.File, name string) error {
	from, err := sys.OpenInRoot(src, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW, 0)
	if err != nil {
		return err
	}
	defer from.Close()
	to, err := sys.OpenInRoot(dst, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW, 0)
	if err != nil {
		return err
	}
	defer to.Close()
	if err := merge(from, to); err != nil {
		return err
	}
	return unix.Unlinkat(int(src.Fd()), name, unix.AT_REMOVEDIR)
}

// removeDir removes an empty directory of the layer.
func (a *adopter) removeDir(dir string) error {
	parent, err := sys.OpenBeneath(a.top, path.Dir(dir), unix.O_PATH|unix.O_DIRECTORY, 0)
	if err != nil {
		return err
	}
	defer parent.Close()
	return unix.Unlinkat(int(parent.Fd()), path.Base(dir), unix.AT_REMOVEDIR)
}
