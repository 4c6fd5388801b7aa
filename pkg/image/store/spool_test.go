package store

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"testing"

	"box/internal/errdefs"
)

// A sparse file of an archive is refused before its holes are written out: one of a
// terabyte takes three kilobytes of archive, and would fill any disk.
func TestLoadRefusesHoles(t *testing.T) {
	const large = 1 << 40
	for name, data := range map[string][]byte{"GNU": gnuSparse("manifest.json", large), "PAX": paxSparse("manifest.json", large)} {
		_, err := open(t).Load(t.Context(), bytes.NewReader(data))
		if !errors.Is(err, errdefs.ErrInvalid) || !strings.Contains(err.Error(), "manifest.json: sparse") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// gnuSparse is an archive with a file of nothing but a hole, in GNU's old format.
func gnuSparse(name string, size int64) []byte {
	h := make([]byte, 512)
	copy(h, name)
	copy(h[100:], "0000644\x000000000\x000000000\x0000000000000\x0000000000000\x00        S")
	copy(h[257:], "ustar  \x00")
	for _, at := range []int{386, 398, 483} { // offset and length of the one piece, size
		h[at] = 0x80
		if at != 386 {
			binary.BigEndian.PutUint64(h[at+4:], uint64(size))
		}
	}
	binary.BigEndian.PutUint64(h[390:], uint64(size))
	binary.BigEndian.PutUint64(h[402:], 0)
	return append(withSum(h), make([]byte, 1024)...)
}

// paxSparse is the same in the PAX format 1.0.
func paxSparse(name string, size int64) []byte {
	var records strings.Builder
	for _, r := range []string{"GNU.sparse.major=1", "GNU.sparse.minor=0", "GNU.sparse.name=" + name, fmt.Sprintf("GNU.sparse.realsize=%d", size)} {
		fmt.Fprintf(&records, "%d %s\n", len(r)+4, r) // all of two digits
	}
	data := append(ustar("x", 'x', records.Len()), padded(records.String())...)
	data = append(data, ustar(name, '0', 512)...)
	return append(data, padded("1\n0\n0\n"+strings.Repeat("\x00", 1530))...)
}

func ustar(name string, kind byte, size int) []byte {
	h := make([]byte, 512)
	copy(h, name)
	copy(h[100:], fmt.Sprintf("0000644\x000000000\x000000000\x00%011o\x0000000000000\x00        %c", size, kind))
	copy(h[257:], "ustar\x0000")
	return withSum(h)
}

// withSum fills in the header's checksum, for which blanks stand yet.
func withSum(h []byte) []byte {
	sum := 0
	for _, b := range h {
		sum += int(b)
	}
	copy(h[148:], fmt.Sprintf("%06o\x00 ", sum))
	return h
}

func padded(s string) string { return s + strings.Repeat("\x00", (512-len(s)%512)%512) }
