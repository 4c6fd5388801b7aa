package layer

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"box/internal/errdefs"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"
)

// What Pack writes, Unpack reads back to the same tree, and Pack writes again to
// the same bytes.
func TestPackRoundTrip(t *testing.T) {
	needRoot(t)
	dir, _, err := unpack(t, archive(t,
		item{name: "b/", kind: tar.TypeDir, mode: 0o750, uid: 5, gid: 6},
		item{name: "b/file", text: "hello", mode: 0o4711, xattrs: map[string]string{"user.note": "kept"}},
		item{name: "a", kind: tar.TypeLink, text: "b/file"},
		item{name: "b/" + strings.Repeat("long", 60), text: "x"},
		item{name: "soft", kind: tar.TypeSymlink, text: strings.Repeat("t/", 100)},
		item{name: "null", kind: tar.TypeChar, mode: 0o666, major: 1, minor: 3},
		item{name: "fifo", kind: tar.TypeFifo, mode: 0o600},
		item{name: ".wh.gone"},
		item{name: "o/", kind: tar.TypeDir, mode: 0o755},
		item{name: "o/.wh..wh..opq"},
		item{name: "zeros", text: strings.Repeat("\x00", 3*chunk+5)},
		item{name: "zeros-at-end", text: "x" + strings.Repeat("\x00", 2*chunk-1)},
		item{name: "naïve ☃", text: "utf-8"},
	))
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.Setxattr(dir+"/b", "trusted.overlay.origin", []byte("x"), 0); err != nil {
		t.Fatal(err)
	}
	first := pack(t, dir)
	again, got, err := unpack(t, first)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(tree(t, dir), tree(t, again)); diff != "" {
		t.Error(diff)
	}
	if second := pack(t, again); !bytes.Equal(first, second) {
		t.Error("packing the unpacked archive gives other bytes")
	}
	if got.DiffID != digest.FromBytes(first) {
		t.Error("diffID is not the digest of the archive")
	}
	var st unix.Stat_t
	if err := unix.Stat(filepath.Join(again, "zeros"), &st); err != nil || st.Blocks*512 >= 3*chunk {
		t.Errorf("zeros takes %d blocks, %v; want holes", st.Blocks, err)
	}
}

// pack packs a directory.
func pack(t *testing.T, dir string) []byte {
	t.Helper()
	var buf bytes.Buffer
	if _, err := Pack(t.Context(), dir, &buf); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

func TestPackOrderAndNames(t *testing.T) {
	needRoot(t)
	dir, _, err := unpack(t, archive(t, item{name: "b/x"}, item{name: "b-"}, item{name: "a/" + "y"}, item{name: "a/.wh.w"}, item{name: "o/", kind: tar.TypeDir}, item{name: "o/.wh..wh..opq"}, item{name: "o/n"}))
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	tr := tar.NewReader(bytes.NewReader(pack(t, dir)))
	for {
		hdr, err := tr.Next()
		if err != nil {
			break
		}
		names = append(names, hdr.Name)
	}
	want := []string{"a/", "a/.wh.w", "a/y", "b/", "b/x", "b-", "o/", "o/.wh..wh..opq", "o/n"}
	if diff := cmp.Diff(want, names); diff != "" {
		t.Error(diff)
	}
}

func TestPackNothing(t *testing.T) {
	needRoot(t)
	var buf bytes.Buffer
	n, err := Pack(t.Context(), t.TempDir(), &buf)
	if err != nil || n != 0 {
		t.Fatalf("Pack = %d, %v", n, err)
	}
	// The empty layer has the same digest everywhere.
	if got := fmt.Sprintf("%x", sha256.Sum256(buf.Bytes())); got != "5f70bf18a086007016e948b04aed3b82103a36bea41755b6cddfaf10ace3c6ef" {
		t.Errorf("empty layer has digest %s", got)
	}
}

func TestPackRefusesWhiteoutNames(t *testing.T) {
	needRoot(t)
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, ".wh.x"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := Pack(t.Context(), dir, io.Discard); !errors.Is(err, errdefs.ErrUnsupported) {
		t.Errorf("Pack: %v, want ErrUnsupported", err)
	}
}

func TestCompressIsDeterministic(t *testing.T) {
	text := []byte(strings.Repeat("the same bytes again and again 0123456789 ", 200000))
	var sums []digest.Digest
	for range 3 {
		var buf bytes.Buffer
		w, err := Compress(&buf)
		if err != nil {
			t.Fatal(err)
		}
		for rest := text; len(rest) > 0; { // in pieces of changing size
			n := min(len(rest), 1000+len(sums)*777)
			if _, err := w.Write(rest[:n]); err != nil {
				t.Fatal(err)
			}
			rest = rest[n:]
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		sums = append(sums, digest.FromBytes(buf.Bytes()))
		r, err := Decompress(&buf)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := io.ReadAll(r); err != nil || !bytes.Equal(got, text) {
			t.Fatalf("round trip: %d bytes, %v", len(got), err)
		}
		r.Close()
	}
	if sums[0] != sums[1] || sums[1] != sums[2] {
		t.Errorf("digests differ: %v", sums)
	}
}
