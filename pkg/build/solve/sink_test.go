package solve

import (
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// A file of nothing but a hole costs a stage nothing; a copy of it costs nothing, too.
func TestHolesStayHoles(t *testing.T) {
	dir := t.TempDir()
	src, err := os.Create(filepath.Join(t.TempDir(), "sparse"))
	if err != nil {
		t.Fatal(err)
	}
	defer src.Close()
	if err := src.Truncate(1 << 30); err != nil {
		t.Fatal(err)
	}
	root, err := os.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	s := newSink(root, unix.Timespec{})
	s.owner = &owner{os.Getuid(), os.Getgid()}
	it := &item{}
	if err := unix.Fstat(int(src.Fd()), &it.st); err != nil {
		t.Fatal(err)
	}
	if err := s.file("/copy", it, nil, src); err != nil {
		t.Fatal(err)
	}
	s.close()
	var st unix.Stat_t
	if err := unix.Stat(filepath.Join(dir, "copy"), &st); err != nil || st.Size != 1<<30 || st.Blocks != 0 {
		t.Errorf("%d bytes, %d of them on the disk: %v", st.Size, st.Blocks*512, err)
	}
}
