package cache

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"os"
	"sort"
	"sync"
	"time"

	"box/internal/atomicfile"

	"github.com/opencontainers/go-digest"
)

// Stat is what tells that a file has not changed since it was last read. The
// change time cannot be set by a user, so it catches what keeps size and
// modification time.
type Stat struct {
	Dev, Ino, Mode, Size uint64
	MtimeNS, CtimeNS     int64
}

// Sum is the digest of a file's data and extended attributes.
type Sum [sha256.Size]byte

// racyWindow is how old a change must be before a file's stat data is
// trusted. The kernel stamps times at the granularity of its clock tick, so a
// file that is changed again within the tick looks unchanged; a second also
// covers network file systems whose clock runs ahead a little.
const racyWindow = time.Second

// Memo remembers sums of the files of one context across builds, as git's
// index does. It is safe for concurrent use.
type Memo struct {
	path string

	mu    sync.Mutex
	known map[string]remembered // as loaded
	fresh map[string]remembered // looked up or added in this build
	dirty bool
}

type remembered struct {
	stat Stat
	sum  Sum
}

// Memo opens the memo of the context that key names.
func (c *Cache) Memo(key digest.Digest) *Memo {
	m := &Memo{path: c.path(contextsDir, key), fresh: map[string]remembered{}}
	if data, err := os.ReadFile(m.path); err == nil {
		m.known = decodeMemo(data)
	}
	return m
}

// Lookup gives the sum of a file that has not changed since it was added.
func (m *Memo) Lookup(path string, st Stat) (Sum, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	r, ok := m.known[path]
	if !ok || r.stat != st {
		return Sum{}, false
	}
	m.fresh[path] = r
	return r.sum, true
}

// Add remembers the sum of a file. read is when the reading began; a file
// changed shortly before that is not remembered.
func (m *Memo) Add(path string, st Stat, sum Sum, read time.Time) {
	newest := time.Unix(0, max(st.MtimeNS, st.CtimeNS))
	if read.Sub(newest) < racyWindow {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.fresh[path] = remembered{st, sum}
	m.dirty = true
}

// Save writes the memo if something was added. Files that this build did not
// look at are kept: another Dockerfile may use them.
func (m *Memo) Save() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.dirty {
		return nil
	}
	for path, r := range m.known {
		if _, ok := m.fresh[path]; !ok {
			m.fresh[path] = r
		}
	}
	return atomicfile.WriteVolatile(m.path, encodeMemo(m.fresh), 0o600)
}

// memoMagic begins the file; it changes with the format.
const memoMagic = "box context memo 1\n"

// encodeMemo writes the entries and a checksum over all of it: the file is not
// synced, and half of it after a crash must not pass for the whole.
func encodeMemo(entries map[string]remembered) []byte {
	paths := make([]string, 0, len(entries))
	for p := range entries {
		paths = append(paths, p)
	}
	sort.Strings(paths)
	b := []byte(memoMagic)
	for _, p := range paths {
		r := entries[p]
		b = binary.AppendUvarint(b, uint64(len(p)))
		b = append(b, p...)
		for _, n := range []uint64{r.stat.Dev, r.stat.Ino, r.stat.Mode, r.stat.Size} {
			b = binary.AppendUvarint(b, n)
		}
		b = binary.AppendVarint(b, r.stat.MtimeNS)
		b = binary.AppendVarint(b, r.stat.CtimeNS)
		b = append(b, r.sum[:]...)
	}
	sum := sha256.Sum256(b)
	return append(b, sum[:]...)
}

// decodeMemo reads what encodeMemo wrote; nil if it is not intact.
func decodeMemo(b []byte) map[string]remembered {
	body := len(b) - sha256.Size
	if body < 0 || !bytes.HasPrefix(b, []byte(memoMagic)) {
		return nil
	}
	if sum := sha256.Sum256(b[:body]); !bytes.Equal(sum[:], b[body:]) {
		return nil
	}
	d := memoReader{rest: b[len(memoMagic):body]}
	out := map[string]remembered{}
	for len(d.rest) > 0 && !d.bad {
		path := string(d.take(d.uvarint()))
		st := Stat{Dev: d.uvarint(), Ino: d.uvarint(), Mode: d.uvarint(), Size: d.uvarint()}
		st.MtimeNS, st.CtimeNS = d.varint(), d.varint()
		r := remembered{stat: st}
		copy(r.sum[:], d.take(sha256.Size))
		out[path] = r
	}
	if d.bad {
		return nil
	}
	return out
}

// memoReader takes values off a byte slice and notes when there are too few.
type memoReader struct {
	rest []byte
	bad  bool
}

func (d *memoReader) skip(n int) {
	if n <= 0 {
		d.bad, d.rest = true, nil
		return
	}
	d.rest = d.rest[n:]
}

func (d *memoReader) uvarint() uint64 {
	v, n := binary.Uvarint(d.rest)
	d.skip(n)
	return v
}

func (d *memoReader) varint() int64 {
	v, n := binary.Varint(d.rest)
	d.skip(n)
	return v
}

func (d *memoReader) take(n uint64) []byte {
	if n > uint64(len(d.rest)) {
		d.bad, d.rest = true, nil
		return nil
	}
	out := d.rest[:n]
	d.rest = d.rest[n:]
	return out
}
