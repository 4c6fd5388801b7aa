package volume

import (
	"errors"
	"fmt"
	"os"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"box/internal/errdefs"
)

func TestParse(t *testing.T) {
	for arg, want := range map[string]Spec{
		"/data":                {Destination: "/data"},
		"/src:/dst":            {Source: "/src", Destination: "/dst"},
		"./src:/dst/":          {Source: "./src", Destination: "/dst"},
		"name:/dst:ro":         {Source: "name", Destination: "/dst", ReadOnly: true},
		"/s:/d:ro,rslave":      {Source: "/s", Destination: "/d", ReadOnly: true, Propagation: "rslave"},
		"n1:/a/../b:nocopy,rw": {Source: "n1", Destination: "/b", NoCopy: true},
	} {
		got, err := Parse(arg)
		if err != nil || got != want {
			t.Errorf("%s: %+v %v", arg, got, err)
		}
	}
	for arg, class := range map[string]error{
		"": errdefs.ErrInvalid, "data": errdefs.ErrInvalid, ":/d": errdefs.ErrInvalid, "/s:": errdefs.ErrInvalid,
		"/s:/": errdefs.ErrInvalid, "/s:/d/..": errdefs.ErrInvalid, "a:b:c:d": errdefs.ErrInvalid, "x/y:/d": errdefs.ErrInvalid,
		"/s:/d:U": errdefs.ErrUnsupported, "/s:/d:ro,what": errdefs.ErrUnsupported,
	} {
		if got, err := Parse(arg); !errors.Is(err, class) {
			t.Errorf("%q: %+v %v", arg, got, err)
		}
	}
}

// CVE-2022-23648: whatever an image says, its volumes lie inside its root.
func TestVolumesOfImageStayInside(t *testing.T) {
	got, err := Wanted([]string{"/host:/mine"}, map[string]struct{}{"../../etc": {}, "rel": {}, "/x/../y": {}, "/mine": {}})
	if err != nil {
		t.Fatal(err)
	}
	var dst []string
	for _, v := range got {
		dst = append(dst, v.Source+":"+v.Destination)
	}
	if d := cmp.Diff([]string{"/host:/mine", ":/etc", ":/y", ":/rel"}, dst); d != "" {
		t.Error(d)
	}
	if _, err := Wanted(nil, map[string]struct{}{"/..": {}}); !errors.Is(err, errdefs.ErrInvalid) {
		t.Errorf("volume over the root: %v", err)
	}
	many := map[string]struct{}{}
	for i := range maxOfImage + 1 {
		many[fmt.Sprintf("/v/%d", i)] = struct{}{}
	}
	if _, err := Wanted(nil, many); !errors.Is(err, errdefs.ErrInvalid) {
		t.Errorf("%d volumes: %v", len(many), err)
	}
	delete(many, "/v/0")
	if got, err := Wanted(nil, many); err != nil || len(got) != maxOfImage {
		t.Errorf("%d volumes: %d, %v", len(many), len(got), err)
	}
}

// A new volume takes what the image has there; a hole takes an image nothing, and
// must take the host nothing.
func TestHolesOfTheImage(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	from, to := t.TempDir(), t.TempDir()
	if err := errors.Join(os.WriteFile(from+"/f", []byte("start"), 0o600), os.Truncate(from+"/f", 1<<30)); err != nil {
		t.Fatal(err)
	}
	src, err := os.Open(from)
	if err != nil {
		t.Fatal(err)
	}
	defer src.Close()
	dst, err := os.Open(to)
	if err != nil {
		t.Fatal(err)
	}
	defer dst.Close()
	if err := copyTree(src, dst); err != nil {
		t.Fatal(err)
	}
	var st unix.Stat_t
	if err := unix.Stat(to+"/f", &st); err != nil || st.Size != 1<<30 || st.Blocks*512 > 1<<20 {
		t.Errorf("%d bytes, %d of them on the disk: %v", st.Size, st.Blocks*512, err)
	}
}
