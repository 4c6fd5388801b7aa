package solve

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path"
	"sort"
	"strings"
	"sync"

	"box/internal/errdefs"
	"box/internal/sys"
	"box/pkg/build/cache"

	"github.com/moby/patternmatcher"
	"golang.org/x/sys/unix"
)

// tree is a file tree that is read: the build context or a snapshot. Paths in
// it are relative and clean; "" is its root. It is safe for concurrent use.
type tree struct {
	name string // for errors: "the build context"
	root *os.File
	// owners says that the owners of files count: they do in a snapshot, while
	// everything from a context belongs to root.
	owners bool
	memo   *cache.Memo // nil for a snapshot

	mu     sync.Mutex
	ignore *ignorer // nil if nothing is left out
	dirs   map[string][]node
}

// node is one file of a tree.
type node struct {
	path string
	st   unix.Stat_t
	link string // target of a symbolic link
	// hollow marks an ignored directory that may hold files which are not
	// ignored: it counts only if it does.
	hollow bool
}

func (n *node) isDir() bool     { return n.st.Mode&unix.S_IFMT == unix.S_IFDIR }
func (n *node) isRegular() bool { return n.st.Mode&unix.S_IFMT == unix.S_IFREG }
func (n *node) isLink() bool    { return n.st.Mode&unix.S_IFMT == unix.S_IFLNK }

// perm gives the permission bits with set-id and sticky bits.
func (n *node) perm() uint32 { return n.st.Mode & 0o7777 }

// newTree opens a tree; root stays the caller's.
func newTree(name string, root *os.File) *tree {
	return &tree{name: name, root: root, dirs: map[string][]node{}}
}

// lstat looks at one path without following a link at its end. What is ignored
// does not exist.
func (t *tree) lstat(p string) (node, error) {
	f, err := sys.OpenBeneath(t.root, dot(p), unix.O_PATH|unix.O_NOFOLLOW, 0)
	if err != nil {
		return node{}, err
	}
	defer f.Close()
	n := node{path: p}
	if err := unix.Fstat(int(f.Fd()), &n.st); err != nil {
		return n, &fs.PathError{Op: "stat", Path: "/" + p, Err: err}
	}
	if n.isLink() {
		if n.link, err = readlinkat(int(f.Fd()), ""); err != nil {
			return n, &fs.PathError{Op: "readlink", Path: "/" + p, Err: err}
		}
	}
	if !t.keep(&n) {
		return n, &fs.PathError{Op: "stat", Path: "/" + p, Err: errIgnored}
	}
	return n, nil
}

// errIgnored is how a file that .dockerignore leaves out does not exist.
var errIgnored = errdefs.New(fs.ErrNotExist, "excluded by .dockerignore")

// keep decides whether a node is part of the tree, and marks it hollow.
func (t *tree) keep(n *node) bool {
	if t.ignore == nil || n.path == "" {
		return true
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.ignore.matches(n.path) {
		return true
	}
	n.hollow = n.isDir() && t.ignore.mayHold(n.path)
	return n.hollow
}

// list gives the entries of a directory in order of their names. Sockets are
// left out: they mean nothing without the process behind them.
func (t *tree) list(ctx context.Context, dir string) ([]node, error) {
	t.mu.Lock()
	nodes, ok := t.dirs[dir]
	t.mu.Unlock()
	if ok {
		return nodes, nil
	}
	nodes, err := t.read(ctx, dir)
	if err != nil {
		return nil, err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.dirs[dir] = nodes
	return nodes, nil
}

func (t *tree) read(ctx context.Context, dir string) ([]node, error) {
	f, err := sys.OpenBeneath(t.root, dot(dir), unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	names, err := f.Readdirnames(-1)
	if err != nil {
		return nil, err
	}
	sort.Strings(names)
	nodes := make([]node, 0, len(names))
	for _, name := range names {
		// With many patterns a directory can take a while.
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		n, err := statIn(f, dir, name)
		if err != nil {
			return nil, err
		}
		if n.st.Mode&unix.S_IFMT != unix.S_IFSOCK && t.keep(&n) {
			nodes = append(nodes, n)
		}
	}
	return nodes, nil
}

// statIn looks at one entry of an open directory.
func statIn(dir *os.File, dirPath, name string) (node, error) {
	n := node{path: path.Join(dirPath, name)}
	err := unix.Fstatat(int(dir.Fd()), name, &n.st, unix.AT_SYMLINK_NOFOLLOW)
	if err != nil {
		return n, &fs.PathError{Op: "stat", Path: "/" + n.path, Err: err}
	}
	if n.isLink() {
		if n.link, err = readlinkat(int(dir.Fd()), name); err != nil {
			return n, &fs.PathError{Op: "readlink", Path: "/" + n.path, Err: err}
		}
	}
	return n, nil
}

// maxLinks bounds the symbolic links followed for one path, as the kernel does.
const maxLinks = 40

// resolve follows the links of a path inside the tree and gives the file that
// it names; ".." stops at the root.
func (t *tree) resolve(p string) (node, error) {
	done, rest := "", strings.Split(p, "/")
	at, err := t.lstat("")
	if err != nil {
		return at, err
	}
	for links := 0; len(rest) > 0; {
		word := rest[0]
		rest = rest[1:]
		if word == "" || word == "." {
			continue
		}
		if word == ".." {
			done = parentOf(done)
			at, err = t.lstat(done)
		} else {
			at, err = t.lstat(path.Join(done, word))
		}
		switch {
		case err != nil:
			return at, err
		case !at.isLink():
			done = at.path
			continue
		}
		if links++; links > maxLinks {
			return at, &fs.PathError{Op: "resolve", Path: "/" + p, Err: unix.ELOOP}
		}
		if strings.HasPrefix(at.link, "/") {
			done = ""
		}
		rest = append(strings.Split(at.link, "/"), rest...)
	}
	if at.path != done {
		return t.lstat(done)
	}
	return at, nil
}

// open opens a regular file for reading and checks that it is the one that was
// looked at: a fifo put in its place must not hang the build.
func (t *tree) open(n *node) (*os.File, error) {
	f, err := sys.OpenBeneath(t.root, dot(n.path), unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	var st unix.Stat_t
	err = unix.Fstat(int(f.Fd()), &st)
	if err == nil && (st.Ino != n.st.Ino || st.Mode&unix.S_IFMT != unix.S_IFREG) {
		err = errdefs.New(errdefs.ErrConflict, "the file was replaced while it was read")
	}
	if err != nil {
		f.Close()
		return nil, &fs.PathError{Op: "open", Path: "/" + n.path, Err: err}
	}
	return f, nil
}

// isMissing tells whether err says that there is no such file; a component that
// is no directory means the same.
func isMissing(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENOTDIR)
}

// dot gives a path that openat2 takes for the root itself.
func dot(p string) string {
	if p == "" {
		return "."
	}
	return p
}

// parentOf is path.Dir for paths whose root is "".
func parentOf(p string) string {
	i := strings.LastIndexByte(p, '/')
	if i < 0 {
		return ""
	}
	return p[:i]
}

func readlinkat(dir int, name string) (string, error) {
	buf := make([]byte, unix.PathMax)
	n, err := unix.Readlinkat(dir, name, buf)
	if err != nil {
		return "", err
	}
	return string(buf[:n]), nil
}

// ignorer decides by patterns what is left out. It is not safe for concurrent
// use: the matcher compiles its patterns when they are first needed.
type ignorer struct {
	matcher *patternmatcher.PatternMatcher
	infos   map[string]patternmatcher.MatchInfo // of directories
}

// newIgnorer compiles patterns; nil if there are none.
func newIgnorer(patterns []string) (*ignorer, error) {
	if len(patterns) == 0 {
		return nil, nil
	}
	m, err := patternmatcher.New(patterns)
	if err != nil {
		return nil, errdefs.Wrap(errdefs.ErrInvalid, err)
	}
	return &ignorer{matcher: m, infos: map[string]patternmatcher.MatchInfo{}}, nil
}

// matches says whether the path is left out, by itself or with a parent.
func (g *ignorer) matches(p string) bool {
	parent := parentOf(p)
	info, ok := g.infos[parent]
	if !ok && parent != "" {
		g.matches(parent)
		info = g.infos[parent]
	}
	left, mine, err := g.matcher.MatchesUsingParentResults(p, info)
	if err != nil {
		return false // patterns were checked by New
	}
	g.infos[p] = mine
	return left
}

// mayHold says whether a directory that is left out could hold something that
// a "!" pattern takes back. The part of the pattern before its first wildcard
// decides: ignored directories are often huge.
func (g *ignorer) mayHold(dir string) bool {
	if !g.matcher.Exclusions() {
		return false
	}
	dir += "/"
	for _, p := range g.matcher.Patterns() {
		if !p.Exclusion() {
			continue
		}
		text := p.String()
		literal := text
		if i := strings.IndexAny(text, `*?[\`); i >= 0 {
			literal = text[:i]
			if strings.HasPrefix(dir, literal) {
				return true
			}
		}
		if strings.HasPrefix(literal+"/", dir) {
			return true
		}
	}
	return false
}
