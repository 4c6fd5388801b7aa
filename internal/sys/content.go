package sys

import (
	"errors"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// CopyContent copies the first size bytes of a regular file into an empty one, and its
// holes as holes (SEEK_DATA of lseek(2)): a file of terabytes takes a hostile image one
// inode, and would take us as much disk or memory as there is. If the file has become
// shorter meanwhile, the rest is a hole.
func CopyContent(dst, src *os.File, size int64) error {
	for from := int64(0); from < size; {
		var hole int64
		data, err := src.Seek(from, unix.SEEK_DATA)
		if err == nil {
			hole, err = src.Seek(data, unix.SEEK_HOLE)
		}
		if errors.Is(err, unix.ENXIO) {
			break // a hole up to the end, which may have come nearer in between
		}
		if err != nil {
			return err
		}
		if err := copyExtent(dst, src, data, min(hole, size)-data); err != nil {
			return err
		}
		from = hole
	}
	return dst.Truncate(size)
}

// copyExtent copies n bytes to the place that they come from.
func copyExtent(dst, src *os.File, at, n int64) error {
	if n <= 0 { // a file that grows: its next data lie behind the size
		return nil
	}
	for _, f := range []*os.File{src, dst} {
		if _, err := f.Seek(at, io.SeekStart); err != nil {
			return err
		}
	}
	_, err := io.CopyN(dst, src, n)
	if errors.Is(err, io.EOF) { // it may have become shorter
		return nil
	}
	return err
}
