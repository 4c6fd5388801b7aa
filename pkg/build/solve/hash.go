package solve

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"hash"
	"io"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"box/internal/sys"
	"box/pkg/build/cache"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
)

// sumFiles fills in the sums of all picked files, several at a time.
func (t *tree) sumFiles(ctx context.Context, picks []pick) error {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(runtime.NumCPU() + 1)
	for i := range picks {
		for j := range picks[i].items {
			it := &picks[i].items[j]
			if t.recall(it) || it.isLink() || !it.isDir() && !it.isRegular() {
				continue
			}
			group.Go(func() error {
				if err := ctx.Err(); err != nil {
					return err
				}
				return t.sumFile(it)
			})
		}
	}
	return group.Wait()
}

// recall takes the sum of a file from the memo.
func (t *tree) recall(it *item) bool {
	if t.memo == nil {
		return false
	}
	sum, ok := t.memo.Lookup(it.path, memoStat(&it.st))
	it.sum = sum
	return ok
}

func memoStat(st *unix.Stat_t) cache.Stat {
	return cache.Stat{
		Dev: st.Dev, Ino: st.Ino, Mode: uint64(st.Mode), Size: uint64(st.Size),
		MtimeNS: st.Mtim.Nano(), CtimeNS: st.Ctim.Nano(),
	}
}

// sumFile reads a file or the attributes of a directory.
func (t *tree) sumFile(it *item) error {
	began := time.Now()
	h := sha256.New()
	if err := t.digestInto(h, &it.node); err != nil {
		return err
	}
	h.Sum(it.sum[:0])
	if t.memo != nil {
		t.memo.Add(it.path, memoStat(&it.st), it.sum, began)
	}
	return nil
}

func (t *tree) digestInto(h hash.Hash, n *node) error {
	f, err := t.openAny(n)
	if err != nil {
		return err
	}
	defer f.Close()
	attrs, err := readXattrs(f)
	if err != nil {
		return err
	}
	for _, a := range attrs {
		writeField(h, a.name)
		writeField(h, a.value)
	}
	writeField(h, "data")
	if n.isDir() {
		return nil
	}
	// Read into a buffer of our own: with ReadFrom the hash would allocate one for each file.
	buf := bufferPool.Get().(*[]byte)
	defer bufferPool.Put(buf)
	_, err = io.CopyBuffer(h, struct{ io.Reader }{f}, *buf)
	return err
}

// openAny opens a directory or a regular file.
func (t *tree) openAny(n *node) (*os.File, error) {
	if n.isDir() {
		return sys.OpenBeneath(t.root, dot(n.path), unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW, 0)
	}
	return t.open(n)
}

// contentDigest is the digest of what a copy reads: everything that reaches
// the result except times.
func (t *tree) contentDigest(picks []pick) digest.Digest {
	h := sha256.New()
	links := map[[2]uint64]int{}
	count := 0
	for i := range picks {
		writeField(h, "source")
		if !picks[i].root().isDir() {
			writeField(h, picks[i].base)
		}
		for j := range picks[i].items {
			it := &picks[i].items[j]
			t.digestItem(h, it)
			// Files that are one file stay one file: which ones belongs to the contents.
			if it.isRegular() && it.st.Nlink > 1 {
				id := [2]uint64{it.st.Dev, it.st.Ino}
				if _, ok := links[id]; !ok {
					links[id] = count
				}
				writeNumbers(h, uint64(links[id]))
			}
			count++
		}
	}
	return digest.NewDigest(digest.SHA256, h)
}

func (t *tree) digestItem(h hash.Hash, it *item) {
	writeField(h, it.rel)
	writeNumbers(h, uint64(it.st.Mode))
	if t.owners {
		writeNumbers(h, uint64(it.st.Uid), uint64(it.st.Gid))
	}
	switch it.st.Mode & unix.S_IFMT {
	case unix.S_IFLNK:
		writeField(h, it.link)
	case unix.S_IFCHR, unix.S_IFBLK:
		writeNumbers(h, it.st.Rdev)
	default:
		h.Write(it.sum[:])
	}
}

// writeField writes a string so that no two lists of strings give the same bytes.
func writeField(w io.Writer, s string) {
	writeNumbers(w, uint64(len(s)))
	io.WriteString(w, s)
}

func writeNumbers(w io.Writer, list ...uint64) {
	var b []byte
	for _, n := range list {
		b = binary.LittleEndian.AppendUint64(b, n)
	}
	w.Write(b)
}

// xattr is one extended attribute.
type xattr struct{ name, value string }

// copiedXattr says which attributes belong to a file's contents: what a user
// or a package sets, not what this host's security modules or its overlay
// file systems keep there.
func copiedXattr(name string) bool {
	return strings.HasPrefix(name, "user.") || name == "security.capability" ||
		name == "system.posix_acl_access" || name == "system.posix_acl_default"
}

// maxXattr is the kernel's bound for the list of names and for one value.
const maxXattr = 64 << 10

// bufferPool holds buffers for reading files.
var bufferPool = sync.Pool{New: func() any {
	b := make([]byte, 256<<10)
	return &b
}}

// readXattrs reads the attributes of an open file that are copied, by name.
func readXattrs(f *os.File) ([]xattr, error) {
	size, err := unix.Flistxattr(int(f.Fd()), nil)
	if size == 0 || errors.Is(err, unix.ENOTSUP) || errors.Is(err, unix.EPERM) {
		return nil, nil
	}
	if err != nil {
		return nil, &os.PathError{Op: "list attributes", Path: f.Name(), Err: err}
	}
	buf := make([]byte, maxXattr)
	size, err = unix.Flistxattr(int(f.Fd()), buf)
	if err != nil {
		return nil, &os.PathError{Op: "list attributes", Path: f.Name(), Err: err}
	}
	var out []xattr
	for _, name := range strings.Split(strings.TrimRight(string(buf[:size]), "\x00"), "\x00") {
		if !copiedXattr(name) {
			continue
		}
		n, err := unix.Fgetxattr(int(f.Fd()), name, buf)
		if err != nil {
			return nil, &os.PathError{Op: "read attribute " + name, Path: f.Name(), Err: err}
		}
		out = append(out, xattr{name, string(buf[:n])})
	}
	slices.SortFunc(out, func(a, b xattr) int { return cmp.Compare(a.name, b.name) })
	return out, nil
}
