package solve

import (
	"context"
	"fmt"
	"os"
	"path"
	"strings"

	"box/pkg/build/plan"
	"box/pkg/spec/gen"

	"golang.org/x/sys/unix"
)

// copier carries out one COPY or ADD into a root file system.
type copier struct {
	op   *plan.Copy
	sink *sink
	from *tree // nil if there are only inline files
}

// newCopier prepares a copy into root, whose accounts --chown refers to.
func newCopier(op *plan.Copy, root *os.File, from *tree, stamp unix.Timespec) (*copier, error) {
	s := newSink(root, stamp)
	var err error
	if op.Chown != "" {
		s.owner, err = resolveOwner(root, op.Chown)
	} else if from == nil || !from.owners {
		s.owner = &owner{0, 0}
	}
	if err == nil && op.Chmod != "" {
		s.mode, err = plan.ParseMode(op.Chmod)
	}
	if err != nil {
		return nil, err
	}
	return &copier{op: op, sink: s, from: from}, nil
}

// resolveOwner finds the numbers for user[:group]. A user alone stands for the
// group of the same number, as BuildKit documents it for --chown.
func resolveOwner(root *os.File, chown string) (*owner, error) {
	u, _, err := gen.ResolveUser(root, chown)
	if err != nil {
		return nil, fmt.Errorf("--chown=%s: %w", chown, err)
	}
	o := &owner{int(u.UID), int(u.GID)}
	if _, group, ok := strings.Cut(chown, ":"); !ok || group == "" {
		o.gid = o.uid
	}
	return o, nil
}

// run copies everything and sets the times of directories.
func (c *copier) run(ctx context.Context, picks []pick) error {
	defer c.sink.close()
	dest, err := c.sink.follow(c.op.Dest)
	if err != nil {
		return err
	}
	for i := range picks {
		if err := c.pick(ctx, dest, &picks[i]); err != nil {
			return err
		}
	}
	for _, f := range c.op.Inline {
		if err := c.inline(dest, f); err != nil {
			return err
		}
	}
	return c.sink.finish()
}

// pick copies one source.
func (c *copier) pick(ctx context.Context, dest string, p *pick) error {
	root := p.root()
	if root.isDir() {
		return c.directory(ctx, dest, p)
	}
	if c.op.Unpack && root.isRegular() {
		done, err := c.unpack(ctx, dest, root)
		if done || err != nil {
			return err
		}
	}
	target, err := c.fileTarget(dest, p.base)
	if err != nil {
		return err
	}
	return c.item(target, root)
}

// fileTarget decides where a single file goes: into dest if that is, or was
// written as, a directory, else under that name.
func (c *copier) fileTarget(dest, base string) (string, error) {
	_, isDir, err := c.sink.isDir(dest)
	if err != nil {
		return "", err
	}
	if isDir || c.op.DestDir {
		_, err := c.sink.mkdirAll(dest)
		return path.Join(dest, base), err
	}
	_, err = c.sink.mkdirAll(path.Dir(dest))
	return dest, err
}

// directory copies the contents of a directory. If dest has to be made it is
// made like the source; one that was there keeps its own mode and owner.
func (c *copier) directory(ctx context.Context, dest string, p *pick) error {
	made, err := c.sink.mkdirAll(dest)
	if err != nil {
		return err
	}
	if made {
		if err := c.dressLike(dest, p.root()); err != nil {
			return err
		}
	}
	for i := 1; i < len(p.items); i++ {
		if err := ctx.Err(); err != nil {
			return context.Cause(ctx)
		}
		if err := c.item(path.Join(dest, p.items[i].rel), &p.items[i]); err != nil {
			return err
		}
	}
	return nil
}

// item copies one file to exactly target.
func (c *copier) item(target string, it *item) error {
	switch it.st.Mode & unix.S_IFMT {
	case unix.S_IFDIR:
		return c.subdirectory(target, it)
	case unix.S_IFREG:
		return c.regular(target, it)
	case unix.S_IFLNK:
		return c.sink.symlink(target, it)
	}
	return c.sink.special(target, it)
}

// subdirectory makes a directory below the copied one, or takes over the one
// that is there, possibly behind a link: then it gets the source's metadata.
func (c *copier) subdirectory(target string, it *item) error {
	exists, err := c.sink.hasDir(target)
	if err == nil && !exists {
		err = c.sink.mkdir(target, it)
	}
	if err != nil {
		return err
	}
	return c.dressLike(target, it)
}

// dressLike gives a directory the metadata of its source.
func (c *copier) dressLike(target string, it *item) error {
	src, err := c.from.openAny(&it.node)
	if err != nil {
		return err
	}
	defer src.Close()
	attrs, err := readXattrs(src)
	if err != nil {
		return err
	}
	return c.sink.dressDir(target, it, attrs)
}

// regular copies a file, or links it if another name of it was copied before.
func (c *copier) regular(target string, it *item) error {
	if it.st.Nlink > 1 {
		id := [2]uint64{it.st.Dev, it.st.Ino}
		if old, ok := c.sink.links[id]; ok && old != target {
			return c.sink.link(target, old)
		}
		c.sink.links[id] = target
	}
	src, err := c.from.open(&it.node)
	if err != nil {
		return err
	}
	defer src.Close()
	attrs, err := readXattrs(src)
	if err != nil {
		return err
	}
	return c.sink.file(target, it, attrs, src)
}

// inline writes a file whose text stands in the Dockerfile.
func (c *copier) inline(dest string, f plan.File) error {
	target, err := c.fileTarget(dest, f.Name)
	if err != nil {
		return err
	}
	it := &item{}
	it.st.Mode = unix.S_IFREG | 0o644
	it.st.Mtim = c.sink.stamp
	return c.sink.file(target, it, nil, strings.NewReader(f.Data))
}
