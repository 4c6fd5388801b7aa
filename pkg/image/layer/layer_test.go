package layer

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"box/internal/errdefs"
	"box/pkg/overlay"

	"github.com/google/go-cmp/cmp"
	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"
)

// needRoot skips a test that makes devices, owners and trusted xattrs.
func needRoot(t testing.TB) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("needs root: owners, device nodes and trusted xattrs")
	}
}

// when is the time of all files in these archives.
var when = time.Unix(1700000000, 123456789)

// item is one entry of an archive in a test.
type item struct {
	name   string
	kind   byte
	text   string // content, or the target of a link
	mode   int64
	uid    int
	gid    int
	major  int64
	minor  int64
	xattrs map[string]string
}

// archive writes items as a tar stream.
func archive(t testing.TB, items ...item) []byte {
	t.Helper()
	var buf bytes.Buffer
	tw := tar.NewWriter(&buf)
	for _, it := range items {
		hdr := &tar.Header{
			Typeflag: it.kind, Name: it.name, Mode: it.mode, Uid: it.uid, Gid: it.gid,
			Devmajor: it.major, Devminor: it.minor, ModTime: when, Format: tar.FormatPAX, PAXRecords: map[string]string{},
		}
		if it.kind == 0 {
			hdr.Typeflag = tar.TypeReg
		}
		if hdr.Mode == 0 {
			hdr.Mode = 0o644
		}
		switch hdr.Typeflag {
		case tar.TypeReg:
			hdr.Size = int64(len(it.text))
		case tar.TypeSymlink, tar.TypeLink:
			hdr.Linkname = it.text
		}
		for k, v := range it.xattrs {
			hdr.PAXRecords["SCHILY.xattr."+k] = v
		}
		if err := tw.WriteHeader(hdr); err != nil {
			t.Fatal(err)
		}
		if hdr.Typeflag == tar.TypeReg {
			if _, err := io.WriteString(tw, it.text); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := tw.Close(); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

// tree describes a directory: one line per object, overlay's marks included.
func tree(t testing.TB, dir string) []string {
	t.Helper()
	var lines []string
	err := filepath.WalkDir(dir, func(path string, _ os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, _ := filepath.Rel(dir, path)
		var st unix.Stat_t
		if err := unix.Lstat(path, &st); err != nil {
			return err
		}
		line := fmt.Sprintf("%s %o %d:%d", rel, st.Mode, st.Uid, st.Gid)
		switch st.Mode & unix.S_IFMT {
		case unix.S_IFREG:
			data, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			line += fmt.Sprintf(" n%d %.20q", st.Nlink, data)
		case unix.S_IFLNK:
			target, _ := os.Readlink(path)
			line += " -> " + target
		case unix.S_IFCHR, unix.S_IFBLK:
			line += fmt.Sprintf(" dev%d:%d", unix.Major(st.Rdev), unix.Minor(st.Rdev))
		}
		value := make([]byte, 64)
		if n, err := unix.Lgetxattr(path, overlay.OpaqueXattr, value); err == nil {
			line += " opaque=" + string(value[:n])
		}
		lines = append(lines, line)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return lines
}

// unpack unpacks into a fresh directory.
func unpack(t testing.TB, data []byte) (string, Unpacked, error) {
	t.Helper()
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	got, err := Unpack(t.Context(), bytes.NewReader(data), dir, Options{})
	return dir, got, err
}

func TestUnpackAllKinds(t *testing.T) {
	needRoot(t)
	data := archive(t,
		item{name: "./", kind: tar.TypeDir, mode: 0o711},
		item{name: "dir/", kind: tar.TypeDir, mode: 0o1777, uid: 3, gid: 4},
		item{name: "dir/file", text: "hello", mode: 0o4755, uid: 1, gid: 2, xattrs: map[string]string{"user.note": "kept", "trusted.overlay.redirect": "/etc", "user.overlay.opaque": "y"}},
		item{name: "dir/hard", kind: tar.TypeLink, text: "./dir/file"},
		item{name: "dir/soft", kind: tar.TypeSymlink, text: "/etc/passwd"},
		item{name: "dir/hardsoft", kind: tar.TypeLink, text: "dir/soft"},
		item{name: "fifo", kind: tar.TypeFifo, mode: 0o600},
		item{name: "null", kind: tar.TypeChar, mode: 0o666, major: 1, minor: 3},
		item{name: "loop", kind: tar.TypeBlock, mode: 0o660, major: 7, minor: 300},
		item{name: "/abs", text: "abs"},
	)
	dir, got, err := unpack(t, data)
	if err != nil {
		t.Fatal(err)
	}
	want := []string{
		". 40711 0:0", "abs 100644 0:0 n1 \"abs\"", "dir 41777 3:4", "dir/file 104755 1:2 n2 \"hello\"",
		"dir/hard 104755 1:2 n2 \"hello\"", "dir/hardsoft 120777 0:0 -> /etc/passwd", "dir/soft 120777 0:0 -> /etc/passwd",
		"fifo 10600 0:0", "loop 60660 0:0 dev7:300", "null 20666 0:0 dev1:3",
	}
	if diff := cmp.Diff(want, tree(t, dir)); diff != "" {
		t.Error(diff)
	}
	if sum := digest.FromBytes(data); got.DiffID != sum || got.Size != int64(len(data)) || len(got.Implied) != 0 {
		t.Errorf("Unpack = %+v, want diffID %s", got, sum)
	}
	for _, name := range []string{".", "dir", "dir/file", "dir/soft", "null", "fifo"} {
		var st unix.Stat_t
		if err := unix.Lstat(filepath.Join(dir, name), &st); err != nil || st.Mtim.Nano() != when.UnixNano() {
			t.Errorf("%s: mtime %d, want %d", name, st.Mtim.Nano(), when.UnixNano())
		}
	}
	value := make([]byte, 10)
	if n, err := unix.Getxattr(dir+"/dir/file", "user.note", value); err != nil || string(value[:n]) != "kept" {
		t.Errorf("user.note: %q, %v", value, err)
	}
	for _, name := range []string{"trusted.overlay.redirect", "user.overlay.opaque"} {
		if _, err := unix.Getxattr(dir+"/dir/file", name, value); err != unix.ENODATA {
			t.Errorf("%s was taken from the archive: %v", name, err)
		}
	}
}

func TestUnpackWhiteouts(t *testing.T) {
	needRoot(t)
	cases := map[string]struct {
		items []item
		want  []string
	}{
		"file": {[]item{{name: "a/.wh.b"}}, []string{". 40755 0:0", "a 40755 0:0", "a/b 20000 0:0 dev0:0"}},
		"opaque": {
			[]item{{name: "a/", kind: tar.TypeDir, mode: 0o755}, {name: "a/.wh..wh..opq"}, {name: "a/b", text: "x"}},
			[]string{". 40755 0:0", "a 40755 0:0 opaque=y", "a/b 100644 0:0 n1 \"x\""},
		},
		"then the file again":     {[]item{{name: ".wh.b"}, {name: "b", text: "new"}}, []string{". 40755 0:0", "b 100644 0:0 n1 \"new\""}},
		"of a file of this layer": {[]item{{name: "b", text: "new"}, {name: ".wh.b"}}, []string{". 40755 0:0", "b 100644 0:0 n1 \"new\""}},
		"then a directory": {
			[]item{{name: ".wh.b"}, {name: "b/", kind: tar.TypeDir, mode: 0o700}},
			[]string{". 40755 0:0", "b 40700 0:0 opaque=y"},
		},
		"then an implied directory": {
			[]item{{name: ".wh.b"}, {name: "b/c", text: "x"}},
			[]string{". 40755 0:0", "b 40755 0:0 opaque=y", "b/c 100644 0:0 n1 \"x\""},
		},
		"of a directory of this layer": {
			[]item{{name: "b/c", text: "x"}, {name: ".wh.b"}},
			[]string{". 40755 0:0", "b 40755 0:0 opaque=y", "b/c 100644 0:0 n1 \"x\""},
		},
		"aufs bookkeeping": {[]item{{name: ".wh..wh.plnk/", kind: tar.TypeDir, mode: 0o755}, {name: ".wh..wh.aufs", text: "x"}}, []string{". 40755 0:0"}},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			dir, _, err := unpack(t, archive(t, c.items...))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(c.want, tree(t, dir)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestUnpackImpliedAndLinks(t *testing.T) {
	needRoot(t)
	dir, got, err := unpack(t, archive(t,
		item{name: "a/b/c", text: "1"},
		item{name: "a/b/", kind: tar.TypeDir, mode: 0o700},
		item{name: "real/x", text: "2"},
		item{name: "link", kind: tar.TypeSymlink, text: "/real"},
		item{name: "link/y", text: "3"},
		item{name: "up", kind: tar.TypeSymlink, text: "../../../missing/./dir"},
		item{name: "up/z", text: "4"},
		item{name: "replaced/f", text: "5"},
		item{name: "replaced", text: "6"},
		item{name: "hard", kind: tar.TypeLink, text: "below/file"},
	))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{".", "a", "missing", "missing/dir", "real"}, got.Implied); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]overlay.Link{{Name: "hard", Target: "below/file"}}, got.Links); diff != "" {
		t.Error(diff)
	}
	for name, want := range map[string]string{"real/y": "3", "missing/dir/z": "4", "replaced": "6"} {
		if data, err := os.ReadFile(filepath.Join(dir, name)); string(data) != want {
			t.Errorf("%s = %q, %v; want %q", name, data, err, want)
		}
	}
}

func TestDamagedArchives(t *testing.T) {
	needRoot(t)
	good := archive(t, item{name: "a", text: strings.Repeat("content ", 1000)})
	for name, data := range map[string][]byte{
		"cut in content":  good[:4000],
		"cut in header":   good[:1100],
		"garbage":         bytes.Repeat([]byte("garbage "), 200),
		"checksum broken": append([]byte("zz"), good[2:]...),
	} {
		t.Run(name, func(t *testing.T) {
			if _, _, err := unpack(t, data); !errors.Is(err, errdefs.ErrCorrupt) {
				t.Errorf("Unpack: %v, want ErrCorrupt", err)
			}
		})
	}
	t.Run("wrong diffID", func(t *testing.T) {
		_, err := Unpack(t.Context(), bytes.NewReader(good), t.TempDir(), Options{DiffID: digest.FromString("x")})
		if !errors.Is(err, errdefs.ErrCorrupt) {
			t.Errorf("Unpack: %v, want ErrCorrupt", err)
		}
	})
	t.Run("trailing bytes count", func(t *testing.T) {
		data := append(slices.Clone(good), "trailer"...)
		_, got, err := unpack(t, data)
		if err != nil || got.DiffID != digest.FromBytes(data) {
			t.Errorf("Unpack = %+v, %v", got, err)
		}
	})
	t.Run("source breaks", func(t *testing.T) {
		broken := errors.New("connection reset")
		r := io.MultiReader(bytes.NewReader(good[:4000]), failing{broken})
		if _, err := Unpack(t.Context(), r, t.TempDir(), Options{}); !errors.Is(err, broken) || errors.Is(err, errdefs.ErrCorrupt) {
			t.Errorf("Unpack: %v, want the source's own error", err)
		}
	})
	t.Run("cancelled", func(t *testing.T) {
		ctx, cancel := context.WithCancelCause(t.Context())
		cancel(errors.New("stop"))
		if _, err := Unpack(ctx, bytes.NewReader(good), t.TempDir(), Options{}); err == nil || err.Error() != "stop" {
			t.Errorf("Unpack: %v, want stop", err)
		}
	})
}

// failing is a reader that fails.
type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }

func TestDecompress(t *testing.T) {
	text := []byte(strings.Repeat("some text to compress, ", 100000))
	var gz, zs bytes.Buffer
	gw := gzip.NewWriter(&gz)
	_, _ = gw.Write(text)
	_ = gw.Close()
	zw, _ := zstd.NewWriter(&zs)
	_, _ = zw.Write(text)
	_ = zw.Close()
	skippable := append([]byte{0x53, 0x2a, 0x4d, 0x18, 3, 0, 0, 0, 1, 2, 3}, zs.Bytes()...)
	window := []byte{0x28, 0xb5, 0x2f, 0xfd, 0x00, 0xa8, 0x01, 0x00, 0x00} // a window of 2 GiB
	for name, c := range map[string]struct {
		in    []byte
		want  []byte
		class error
	}{
		"plain":              {text, text, nil},
		"empty":              {nil, nil, nil},
		"gzip":               {gz.Bytes(), text, nil},
		"gzip, two members":  {append(slices.Clone(gz.Bytes()), gz.Bytes()...), append(slices.Clone(text), text...), nil},
		"zstd":               {zs.Bytes(), text, nil},
		"zstd after skip":    {skippable, text, nil},
		"gzip cut":           {gz.Bytes()[:gz.Len()/2], nil, errdefs.ErrCorrupt},
		"gzip trailing data": {append(slices.Clone(gz.Bytes()), "trailing"...), nil, errdefs.ErrCorrupt},
		"gzip checksum":      {append(slices.Clone(gz.Bytes()[:gz.Len()-8]), "12345678"...), nil, errdefs.ErrCorrupt},
		"zstd cut":           {zs.Bytes()[:zs.Len()/2], nil, errdefs.ErrCorrupt},
		"zstd window":        {window, nil, errdefs.ErrCorrupt},
		"bzip2":              {[]byte("BZh91AY&SY"), nil, errdefs.ErrUnsupported},
		"xz":                 {[]byte("\xfd7zXZ\x00\x00"), nil, errdefs.ErrUnsupported},
	} {
		t.Run(name, func(t *testing.T) {
			r, err := Decompress(bytes.NewReader(c.in))
			var got []byte
			if err == nil {
				got, err = io.ReadAll(r)
				r.Close()
			}
			if !errors.Is(err, c.class) {
				t.Fatalf("error %v, want %v", err, c.class)
			}
			if c.class == nil && !bytes.Equal(got, c.want) {
				t.Errorf("got %d bytes, want %d", len(got), len(c.want))
			}
		})
	}
}

func TestCloseStopsDecoder(t *testing.T) {
	var gz bytes.Buffer
	gw := gzip.NewWriter(&gz)
	_, _ = gw.Write(make([]byte, 10<<20))
	_ = gw.Close()
	src := bytes.NewReader(gz.Bytes())
	r, err := Decompress(src)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.Read(make([]byte, 10)); err != nil {
		t.Fatal(err)
	}
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	left := src.Len() // nobody may read on after Close
	if _, err := r.Read(make([]byte, 1<<20)); err == nil && src.Len() != left {
		t.Error("the decoder went on after Close")
	}
}

// No archive may panic, hang or write beside its directory.
func FuzzUnpack(f *testing.F) {
	needRoot(f)
	f.Add(archive(f, item{name: "a/b", text: "x"}, item{name: "l", kind: tar.TypeSymlink, text: "/a"}, item{name: "l/c"}, item{name: ".wh.z"}))
	f.Add(archive(f, bomb()...))
	f.Add(archive(f, item{name: "d/", kind: tar.TypeDir}, item{name: "d/.wh..wh..opq"}, item{name: "h", kind: tar.TypeLink, text: "d/x"}))
	f.Fuzz(func(t *testing.T, data []byte) {
		outer := t.TempDir()
		dir := filepath.Join(outer, "layer")
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		_, _ = Unpack(t.Context(), bytes.NewReader(data), dir, Options{MaxSize: 1 << 20, MaxEntries: 1000})
		if left, err := os.ReadDir(outer); err != nil || len(left) != 1 {
			t.Errorf("beside the directory: %v, %v", left, err)
		}
	})
}
