package sys

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// sparse makes a file with data at some places and nothing between them.
func sparse(t *testing.T, size int64, pieces map[int64]string) *os.File {
	t.Helper()
	f, err := os.Create(filepath.Join(t.TempDir(), "file"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	for at, text := range pieces {
		if _, err := f.WriteAt([]byte(text), at); err != nil {
			t.Fatal(err)
		}
	}
	if err := f.Truncate(size); err != nil {
		t.Fatal(err)
	}
	return f
}

func TestCopyContent(t *testing.T) {
	for name, c := range map[string]struct {
		size   int64
		pieces map[int64]string
	}{
		"empty":       {0, nil},
		"data":        {4, map[int64]string{0: "text"}},
		"a hole":      {1 << 40, nil},
		"holes":       {1 << 40, map[int64]string{0: "first", 1 << 30: "middle", 1<<40 - 4: "last"}},
		"hole at end": {1 << 20, map[int64]string{5: "x"}},
	} {
		src, dst := sparse(t, c.size, c.pieces), sparse(t, 0, nil)
		if err := CopyContent(dst, src, c.size); err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		var st unix.Stat_t
		if err := unix.Fstat(int(dst.Fd()), &st); err != nil || st.Size != c.size || st.Blocks*512 > 1<<20 {
			t.Errorf("%s: %d bytes, %d on the disk, want %d: %v", name, st.Size, st.Blocks*512, c.size, err)
		}
		for at, text := range c.pieces {
			got := make([]byte, len(text))
			if _, err := dst.ReadAt(got, at); err != nil || string(got) != text {
				t.Errorf("%s: at %d: %q, %v", name, at, got, err)
			}
		}
	}
}

// Size is what counts, whether the file has more or less by now.
func TestCopyContentOfAnotherSize(t *testing.T) {
	for _, size := range []int64{3, 9} {
		dst := sparse(t, 0, nil)
		if err := CopyContent(dst, sparse(t, 6, map[int64]string{0: "abcdef"}), size); err != nil {
			t.Fatal(err)
		}
		got, err := os.ReadFile(dst.Name())
		want := append([]byte("abcdef"), 0, 0, 0)[:size]
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("%d bytes: %q, %v", size, got, err)
		}
	}
}
