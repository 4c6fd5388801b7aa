package solve

import (
	"archive/tar"
	"errors"
	"math"
	"strings"
	"testing"
	"time"

	"box/internal/errdefs"
	"box/pkg/build/plan"
)

func TestHeadersThatAreRefused(t *testing.T) {
	for want, h := range map[string]*tar.Header{
		"owner 4294967296:0":   {Name: "f", Typeflag: tar.TypeReg, Uid: math.MaxUint32 + 1},
		"owner 0:-1":           {Name: "f", Typeflag: tar.TypeReg, Gid: -1},
		"owner 0:4294967295":   {Name: "f", Typeflag: tar.TypeDir, Gid: math.MaxUint32},
		"device 4294967296:0":  {Name: "f", Typeflag: tar.TypeChar, Devmajor: 1 << 32},
		"device 8:1048576":     {Name: "f", Typeflag: tar.TypeBlock, Devmajor: 8, Devminor: 1 << 20},
		"character device 0:0": {Name: "f", Typeflag: tar.TypeChar},
	} {
		err := checkHeader(h)
		if err == nil || !strings.HasPrefix(err.Error(), "f: "+want) || !errors.Is(err, errdefs.ErrInvalid) && !errors.Is(err, errdefs.ErrUnsupported) {
			t.Errorf("want %s: %v", want, err)
		}
	}
	for _, h := range []*tar.Header{
		{Name: "f", Typeflag: tar.TypeReg, Uid: math.MaxUint32 - 1},
		{Name: "null", Typeflag: tar.TypeChar, Devmajor: 1, Devminor: 3},
		{Name: "loop", Typeflag: tar.TypeBlock},
		{Name: "f", Typeflag: tar.TypeReg, Devmajor: 1 << 12, Devminor: 1 << 20},
	} {
		if err := checkHeader(h); err != nil {
			t.Error(err)
		}
	}
}

func TestTimesOutsideNanoseconds(t *testing.T) {
	for _, year := range []int{1, 1600, 2300, 9999} {
		want := time.Date(year, 1, 2, 3, 4, 5, 6, time.UTC)
		it := itemOf(&tar.Header{Name: "f", Typeflag: tar.TypeReg, ModTime: want})
		if got := time.Unix(it.st.Mtim.Unix()).UTC(); !got.Equal(want) {
			t.Errorf("%s became %s", want, got)
		}
	}
}

func TestArchivesThatGrow(t *testing.T) {
	u := &untar{copier: &copier{op: &plan.Copy{}, sink: &sink{}}, dest: "/", left: 1000}
	for i, kind := range []byte{tar.TypeReg, tar.TypeLink, tar.TypeDir, tar.TypeReg} {
		err := u.entry(&tar.Header{Name: "/", Typeflag: kind, Size: 600}, nil)
		if refused := errors.Is(err, errdefs.ErrInvalid); refused != (i == 3) {
			t.Errorf("entry %d: %v", i, err)
		}
	}
}
