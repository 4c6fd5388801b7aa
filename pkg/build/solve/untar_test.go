package solve

import (
	"archive/tar"
	"errors"
	"math"
	"strings"
	"testing"

	"box/internal/errdefs"
)

func TestHeadersThatAreRefused(t *testing.T) {
	for want, h := range map[string]*tar.Header{
		"owner 4294967296:0":   {Name: "f", Typeflag: tar.TypeReg, Uid: math.MaxUint32 + 1},
		"owner 0:-1":           {Name: "f", Typeflag: tar.TypeReg, Gid: -1},
		"owner 0:4294967295":   {Name: "f", Typeflag: tar.TypeDir, Gid: math.MaxUint32},
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
	} {
		if err := checkHeader(h); err != nil {
			t.Error(err)
		}
	}
}
