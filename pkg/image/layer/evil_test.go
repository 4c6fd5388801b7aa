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
	"strings"
	"testing"

	"box/internal/errdefs"
	"box/pkg/overlay"

	"github.com/google/go-cmp/cmp"
	"github.com/klauspost/compress/zstd"
	"golang.org/x/sys/unix"
)

// Archives that have broken other engines. Each must fail with its class, or do
// what want says, and in no case touch anything beside the directory.
func TestEvilArchives(t *testing.T) {
	needRoot(t)
	canary := t.TempDir() // what the archives try to reach
	cases := map[string]struct {
		items []item
		class error // nil: it unpacks
	}{
		"parent":                           {[]item{{name: "../x", text: "x"}}, errdefs.ErrInvalid},
		"parent inside":                    {[]item{{name: "a/../../x", text: "x"}}, errdefs.ErrInvalid},
		"parent as hard link":              {[]item{{name: "x", kind: tar.TypeLink, text: "../../../etc/passwd"}}, errdefs.ErrInvalid},
		"whiteout of ..":                   {[]item{{name: ".wh..."}, {name: ".wh..", text: ""}}, errdefs.ErrInvalid},
		"whiteout of the directory":        {[]item{{name: ".wh.."}}, errdefs.ErrInvalid},
		"whiteout of nothing":              {[]item{{name: "a/.wh."}}, errdefs.ErrInvalid},
		"root as symlink (CVE-2021-29136)": {[]item{{name: ".", kind: tar.TypeSymlink, text: canary}, {name: "x", text: "x"}}, errdefs.ErrInvalid},
		"root as file":                     {[]item{{name: "./.", text: "x"}}, errdefs.ErrInvalid},
		"file through absolute symlink":    {[]item{{name: "out", kind: tar.TypeSymlink, text: canary}, {name: "out/x", text: "x"}}, nil},
		"file through relative symlink":    {[]item{{name: "out", kind: tar.TypeSymlink, text: strings.Repeat("../", 30) + canary}, {name: "out/x", text: "x"}}, nil},
		"hard link to symlink, then write (CVE-2026-17106)": {[]item{
			{name: "s", kind: tar.TypeSymlink, text: canary + "/x"}, {name: "h", kind: tar.TypeLink, text: "s"}, {name: "h", text: "x"},
		}, nil},
		"hard link through symlink": {[]item{
			{name: "s", kind: tar.TypeSymlink, text: "/etc"}, {name: "h", kind: tar.TypeLink, text: "s/passwd"},
		}, nil},
		"chmod through symlink (CVE-2021-32760)": {[]item{
			{name: "s", kind: tar.TypeSymlink, text: canary}, {name: "s", kind: tar.TypeSymlink, text: canary, mode: 0o777},
		}, nil},
		"directory over symlink": {[]item{
			{name: "s", kind: tar.TypeSymlink, text: canary}, {name: "s/", kind: tar.TypeDir, mode: 0o777}, {name: "s/x", text: "x"},
		}, nil},
		"opaque mark through symlink": {[]item{{name: "s", kind: tar.TypeSymlink, text: canary}, {name: "s/.wh..wh..opq"}}, nil},
		"whiteout through symlink":    {[]item{{name: "s", kind: tar.TypeSymlink, text: canary}, {name: "s/.wh.keep"}}, nil},
		"symlink loop": {[]item{
			{name: "a", kind: tar.TypeSymlink, text: "b"}, {name: "b", kind: tar.TypeSymlink, text: "a"}, {name: "a/x", text: "x"},
		}, errdefs.ErrInvalid},
		"symlink bomb":             {append(bomb(), item{name: "l9/x", text: "x"}), errdefs.ErrInvalid},
		"device 0:0":               {[]item{{name: "x", kind: tar.TypeChar}}, errdefs.ErrInvalid},
		"hard link to a whiteout":  {[]item{{name: ".wh.x"}, {name: "y", kind: tar.TypeLink, text: "x"}}, errdefs.ErrInvalid},
		"hard link to a directory": {[]item{{name: "d/", kind: tar.TypeDir}, {name: "y", kind: tar.TypeLink, text: "d"}}, errdefs.ErrInvalid},
		"hard link to itself":      {[]item{{name: "y", text: "1"}, {name: "y", kind: tar.TypeLink, text: "y"}}, nil},
		"file below a file":        {[]item{{name: "f", text: "x"}, {name: "f/g", text: "x"}}, errdefs.ErrInvalid},
		"owner beyond 32 bits":     {[]item{{name: "x", text: "x", uid: 1 << 33}}, errdefs.ErrInvalid},
		"group -1":                 {[]item{{name: "x", text: "x", gid: -1}}, errdefs.ErrInvalid},
		"empty name":               {[]item{{name: "", text: "x"}}, errdefs.ErrInvalid},
	}
	write := func(name string) {
		if err := os.WriteFile(filepath.Join(canary, name), []byte("keep"), 0o640); err != nil {
			t.Fatal(err)
		}
	}
	write("keep")
	before := tree(t, canary)
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			dir, _, err := unpack(t, archive(t, c.items...))
			if c.class != nil && !errors.Is(err, c.class) || c.class == nil && err != nil {
				t.Errorf("Unpack: %v, want %v", err, c.class)
			}
			if diff := cmp.Diff(before, tree(t, canary)); diff != "" {
				t.Errorf("it has reached outside: %s", diff)
			}
			if name == "hard link to symlink, then write (CVE-2026-17106)" {
				if data, err := os.ReadFile(filepath.Join(dir, "h")); string(data) != "x" {
					t.Errorf("h = %q, %v", data, err)
				}
			}
		})
	}
}

// bomb makes symlinks that each name the one before twice.
func bomb() []item {
	items := []item{{name: "l0", kind: tar.TypeSymlink, text: "."}}
	for i := 1; i < 10; i++ {
		prev := fmt.Sprintf("l%d", i-1)
		items = append(items, item{name: fmt.Sprintf("l%d", i), kind: tar.TypeSymlink, text: prev + "/" + prev})
	}
	return items
}

func TestUnpackLimits(t *testing.T) {
	needRoot(t)
	many := make([]item, 50)
	for i := range many {
		many[i] = item{name: fmt.Sprint(i)}
	}
	links, dirs := make([]item, 50), make([]item, 50)
	for i := range many {
		links[i] = item{name: fmt.Sprint(i), kind: tar.TypeLink, text: "elsewhere"}
		dirs[i] = item{name: fmt.Sprintf("%d/f", i)}
	}
	deep := strings.Repeat("d/", 3000) + "f"
	for name, c := range map[string]struct {
		data []byte
		opt  Options
	}{
		"bytes":       {archive(t, item{name: "a", text: strings.Repeat("x", 5000)}), Options{MaxSize: 4096}},
		"entries":     {archive(t, many...), Options{MaxEntries: 49}},
		"links":       {archive(t, links...), Options{MaxNames: 4096}},
		"directories": {archive(t, dirs...), Options{MaxNames: 4096}},
		"sparse size": {sparseBomb(t), Options{MaxSize: 1 << 30}},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Unpack(t.Context(), bytes.NewReader(c.data), t.TempDir(), c.opt)
			if !errors.Is(err, errdefs.ErrInvalid) {
				t.Errorf("Unpack: %v, want ErrInvalid", err)
			}
		})
	}
	t.Run("depth", func(t *testing.T) {
		if _, _, err := unpack(t, archive(t, item{name: deep})); !errors.Is(err, unix.ENAMETOOLONG) {
			t.Errorf("Unpack: %v, want ENAMETOOLONG", err)
		}
	})
}

// withSlack lets little data unpack to no more than n bytes.
func withSlack(t *testing.T, n int64) {
	t.Helper()
	was := slack
	slack = n
	t.Cleanup(func() { slack = was })
}

// What is unpacked is bounded by what has come, whatever size was promised: two
// megabytes that were called a petabyte filled the disk.
func TestBombsAreBoundedByWhatCame(t *testing.T) {
	needRoot(t)
	withSlack(t, 1<<20)
	promised := Options{MaxSize: 1 << 50}
	if _, err := Unpack(t.Context(), bytes.NewReader(sparseBomb(t)), t.TempDir(), promised); !errors.Is(err, errdefs.ErrInvalid) {
		t.Errorf("holes: %v, want ErrInvalid", err)
	}
	var bomb bytes.Buffer
	zw, err := zstd.NewWriter(&bomb)
	if err != nil {
		t.Fatal(err)
	}
	for range 64 {
		_, _ = zw.Write(bytes.Repeat([]byte("AB"), 1<<19))
	}
	_ = zw.Close()
	r, err := Decompress(&bomb)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if n, err := io.Copy(io.Discard, r); !errors.Is(err, errdefs.ErrInvalid) || n >= 64<<20 {
		t.Errorf("%d bytes inflated, %v, want ErrInvalid", n, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Unpack(ctx, bytes.NewReader(sparseBomb(t)), t.TempDir(), promised); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

// Of several entries with one name the last counts, also if it is a link to a file
// below, or came after one.
func TestLinksBelowAreReplaced(t *testing.T) {
	needRoot(t)
	dir, got, err := unpack(t, archive(t,
		item{name: "a", kind: tar.TypeLink, text: "below"},
		item{name: "a", text: "own"},
		item{name: "b", kind: tar.TypeLink, text: "below"},
		item{name: "b", kind: tar.TypeLink, text: "below/other"},
		item{name: "c", kind: tar.TypeLink, text: "b"},
		item{name: ".wh.b"},
	))
	if err != nil {
		t.Fatal(err)
	}
	want := []overlay.Link{{Name: "b", Target: "below/other"}, {Name: "c", Target: "below/other"}}
	if diff := cmp.Diff(want, got.Links); diff != "" {
		t.Error(diff)
	}
	if data, err := os.ReadFile(filepath.Join(dir, "a")); string(data) != "own" {
		t.Errorf("a = %q, %v", data, err)
	}
	if _, err := os.Lstat(filepath.Join(dir, "b")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("b: %v, want nothing in its place", err)
	}
}

// sparseBomb is an archive of a few hundred bytes with a file of 4 TiB of holes,
// in GNU's PAX format 1.0.
func sparseBomb(t *testing.T) []byte {
	t.Helper()
	var buf bytes.Buffer
	tw := tar.NewWriter(&buf)
	text := "1\n0\n0\n" + strings.Repeat("\x00", 506)
	hdr := &tar.Header{
		Typeflag: tar.TypeReg, Name: "GNUSparseFile.0/x", Size: int64(len(text)), Mode: 0o644, Format: tar.FormatPAX,
		PAXRecords: map[string]string{"SCHILY.dev": "1"},
	}
	if err := tw.WriteHeader(hdr); err != nil {
		t.Fatal(err)
	}
	_, _ = io.WriteString(tw, text)
	_ = tw.Close()
	// The writer refuses to write GNU.sparse records itself: put them where the
	// harmless record stands.
	records := paxRecord("GNU.sparse.major", "1") + paxRecord("GNU.sparse.minor", "0") +
		paxRecord("GNU.sparse.name", "x") + paxRecord("GNU.sparse.realsize", fmt.Sprint(int64(4)<<40))
	data := buf.Bytes()
	old := paxRecord("SCHILY.dev", "1")
	copy(data[512:], records)
	copy(data[512+len(records):], make([]byte, len(old)))
	size := fmt.Sprintf("%011o", len(records))
	copy(data[124:], size)
	copy(data[148:], "        ")
	sum := 0
	for _, b := range data[:512] {
		sum += int(b)
	}
	copy(data[148:], fmt.Sprintf("%06o\x00 ", sum))
	return data
}

// paxRecord writes one record: its own length comes first (POSIX pax, "pax
// Extended Header").
func paxRecord(key, value string) string {
	rest := " " + key + "=" + value + "\n"
	n := len(rest)
	for len(fmt.Sprint(n))+len(rest) != n {
		n = len(fmt.Sprint(n)) + len(rest)
	}
	return fmt.Sprint(n) + rest
}
