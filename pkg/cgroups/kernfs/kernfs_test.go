package kernfs

import (
	"errors"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestFlatKeyed(t *testing.T) {
	have := FlatKeyed("anon 12\nbad\nfile x\nlow\t3\n  kernel   9 \n-1 -1\n")
	if diff := cmp.Diff(map[string]uint64{"anon": 12, "kernel": 9}, have); diff != "" {
		t.Error(diff)
	}
}

func TestValue(t *testing.T) {
	for data, want := range map[string]uint64{"max\n": math.MaxUint64, "17\n": 17, "0": 0} {
		if have, ok := Value(data); !ok || have != want {
			t.Errorf("%q: %d, %v", data, have, ok)
		}
	}
	for _, data := range []string{"", "-1", "1 2", "x"} {
		if have, ok := Value(data); ok {
			t.Errorf("%q: %d", data, have)
		}
	}
}

func TestNestedKeyed(t *testing.T) {
	have := NestedKeyed("8:0 rbytes=5 wbytes=6\n\nsome avg10=0.00 odd total=7\n8:16\n")
	want := []Entry{
		{"8:0", map[string]string{"rbytes": "5", "wbytes": "6"}},
		{"some", map[string]string{"avg10": "0.00", "total": "7"}},
		{"8:16", map[string]string{}},
	}
	if diff := cmp.Diff(want, have); diff != "" {
		t.Error(diff)
	}
}

func TestList(t *testing.T) {
	for data, want := range map[string][]uint16{"0-3,7\n": {0, 1, 2, 3, 7}, "5": {5}, "\n": nil} {
		if have, ok := List(data); !ok || !slices.Equal(have, want) {
			t.Errorf("%q: %v, %v", data, have, ok)
		}
	}
	for _, data := range []string{"3-1", "a", "1,", "0-65535,0-65535", "70000"} {
		if have, ok := List(data); ok {
			t.Errorf("%q: %d numbers", data, len(have))
		}
	}
}

// FuzzParsers: whatever a file says, no parser fails, loops or returns nonsense.
func FuzzParsers(f *testing.F) {
	for _, seed := range []string{"anon 1\nfile 2\n", "8:0 rbytes=1 wbytes=2\n", "0-3,7", "max", "some avg10=0.00 total=0\n"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, data string) {
		FlatKeyed(data)
		Value(data)
		for _, e := range NestedKeyed(data) {
			if e.Key == "" {
				t.Error("an entry without a key")
			}
		}
		if numbers, ok := List(data); ok && len(numbers) > math.MaxUint16+1 {
			t.Errorf("%d numbers", len(numbers))
		}
	})
}

func TestWriteMakesNoFiles(t *testing.T) {
	name := filepath.Join(t.TempDir(), "cpu.max")
	if err := Write(name, "1"); !errors.Is(err, fs.ErrNotExist) || !Gone(err) {
		t.Errorf("have %v", err)
	}
	if err := os.WriteFile(name, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := Write(name, "1"); err != nil {
		t.Fatal(err)
	}
	if have, err := Read(name); err != nil || have != "1" {
		t.Errorf("%q, %v", have, err)
	}
}

func TestReadLongFiles(t *testing.T) {
	name := filepath.Join(t.TempDir(), "long")
	want := string(slices.Repeat([]byte("0123456789abcdef"), 1000))
	if err := os.WriteFile(name, []byte(want), 0o600); err != nil {
		t.Fatal(err)
	}
	if have, err := Read(name); err != nil || have != want {
		t.Errorf("%d bytes, %v", len(have), err)
	}
}

func TestMakeAndProcs(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a", "b")
	if err := Make(dir); err != nil {
		t.Fatal(err)
	}
	if err := Make(dir); !errors.Is(err, fs.ErrExist) {
		t.Errorf("made twice: %v", err)
	}
	for name, data := range map[string]string{"a/b/cgroup.procs": "7\n3\n0\n", "a/cgroup.procs": "3\n"} {
		if err := os.WriteFile(filepath.Join(dir, "../..", name), []byte(data), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if have, err := Procs(filepath.Dir(dir), dir, dir+"/none"); err != nil || !slices.Equal(have, []int{3, 7}) {
		t.Errorf("%v, %v", have, err)
	}
	if err := RemoveTree(dir + "/none"); err != nil {
		t.Error(err)
	}
}
