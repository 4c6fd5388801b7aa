package solve

import (
	"context"
	"errors"
	"fmt"
	"path"
	"strings"

	"box/internal/errdefs"
	"box/pkg/build/plan"

	"golang.org/x/sys/unix"
)

// pick is one source of a copy as it was found: a file, or a directory whose
// contents are copied.
type pick struct {
	// base is the name a file gets in a destination directory.
	base string
	// items are the file itself, or the directory and all below it, parents first.
	items []item
}

// item is one file to copy.
type item struct {
	node
	// rel is the path below the copied directory; "" for the source itself.
	rel string
	sum [32]byte
}

// root is the source itself.
func (p *pick) root() *item { return &p.items[0] }

// selectFiles finds the files that a copy reads, in the order of its sources.
func (t *tree) selectFiles(ctx context.Context, c *plan.Copy) ([]pick, error) {
	exclude, err := newIgnorer(c.Exclude)
	if err != nil {
		return nil, fmt.Errorf("--exclude: %w", err)
	}
	var picks []pick
	for _, src := range c.Sources {
		found, err := t.find(ctx, src)
		if err != nil {
			return nil, err
		}
		for _, name := range found {
			p, err := t.pick(ctx, name, exclude)
			if err != nil {
				return nil, err
			}
			if len(p.items) > 0 {
				picks = append(picks, p)
			}
		}
	}
	return picks, nil
}

// find gives the paths that a source names: itself, or what its wildcards
// match. Wildcards that match nothing are no error, as with BuildKit; a plain
// name that is missing is.
func (t *tree) find(ctx context.Context, src string) ([]string, error) {
	if !strings.ContainsAny(src, `*?[\`) {
		if _, err := t.resolve(src); err != nil {
			return nil, t.missing(src, err)
		}
		return []string{src}, nil
	}
	found, err := t.glob(ctx, "", strings.Split(src, "/"))
	if errors.Is(err, path.ErrBadPattern) {
		return nil, errdefs.New(errdefs.ErrInvalid, "%s: the pattern is malformed", src)
	}
	return found, err
}

// missing explains that a source does not exist.
func (t *tree) missing(src string, err error) error {
	switch {
	case errors.Is(err, errIgnored):
		return errdefs.WithHint(errdefs.New(errdefs.ErrNotFound, "%s: not found in %s: it is excluded by .dockerignore", src, t.name),
			"remove the pattern, or add !%s after it", src)
	case isMissing(err):
		return errdefs.New(errdefs.ErrNotFound, "%s: not found in %s", src, t.name)
	}
	return fmt.Errorf("%s: %w", src, err)
}

// glob matches the words of a pattern below dir, directory by directory.
func (t *tree) glob(ctx context.Context, dir string, words []string) ([]string, error) {
	if len(words) == 0 {
		return []string{dir}, nil
	}
	at, err := t.resolve(dir)
	if isMissing(err) || errors.Is(err, unix.ELOOP) || err == nil && !at.isDir() {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	nodes, err := t.list(ctx, at.path)
	if err != nil {
		return nil, err
	}
	var out []string
	for _, n := range nodes {
		name := path.Base(n.path)
		ok, err := path.Match(words[0], name)
		if err != nil {
			return nil, err
		}
		if !ok {
			continue
		}
		// The name as the pattern walked it: links keep their own names.
		below, err := t.glob(ctx, path.Join(dir, name), words[1:])
		if err != nil {
			return nil, err
		}
		out = append(out, below...)
	}
	return out, nil
}

// pick collects a source: links at its own path are followed, links below it
// are copied as links.
func (t *tree) pick(ctx context.Context, name string, exclude *ignorer) (pick, error) {
	p := pick{base: path.Base(name)}
	n, err := t.resolve(name)
	if isMissing(err) {
		return p, t.missing(name, err)
	}
	if err != nil {
		return p, err
	}
	if n.st.Mode&unix.S_IFMT == unix.S_IFSOCK {
		return p, errdefs.New(errdefs.ErrInvalid, "%s: it is a socket, which means nothing without its process", name)
	}
	if !n.isDir() {
		if exclude == nil || !exclude.matches(p.base) {
			p.items = []item{{node: n}}
		}
		return p, nil
	}
	w := walk{tree: t, root: n.path, exclude: exclude}
	err = w.dir(ctx, item{node: n})
	// A directory that was named is there even if nothing of it is left.
	if err == nil && len(w.items) == 0 && !n.hollow {
		w.items = []item{{node: n}}
	}
	p.items = w.items
	return p, err
}

// walk collects a directory.
type walk struct {
	tree    *tree
	root    string
	exclude *ignorer
	items   []item
	pending []item // hollow directories not yet known to hold anything
}

// dir adds a directory and what is below it.
func (w *walk) dir(ctx context.Context, self item) error {
	nodes, err := w.tree.list(ctx, self.path)
	if err != nil {
		return err
	}
	depth := len(w.pending)
	w.pending = append(w.pending, self)
	if !self.hollow {
		w.flush()
	}
	for _, n := range nodes {
		if err := w.entry(ctx, n); err != nil {
			return err
		}
	}
	if len(w.pending) > depth {
		w.pending = w.pending[:depth]
	}
	return nil
}

func (w *walk) entry(ctx context.Context, n node) error {
	it := item{node: n, rel: strings.TrimPrefix(strings.TrimPrefix(n.path, w.root), "/")}
	if w.exclude != nil && w.exclude.matches(it.rel) {
		if !n.isDir() || !w.exclude.mayHold(it.rel) {
			return nil
		}
		it.hollow = true
	}
	if n.isDir() {
		return w.dir(ctx, it)
	}
	w.flush()
	w.items = append(w.items, it)
	return nil
}

// flush adds the directories that lead to what is added next.
func (w *walk) flush() {
	w.items = append(w.items, w.pending...)
	w.pending = w.pending[:0]
}
