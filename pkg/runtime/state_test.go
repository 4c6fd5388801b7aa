package runtime

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"box/internal/errdefs"
)

func TestValidateID(t *testing.T) {
	for _, id := range []string{"a", "A9", "_x", "+x", "-x", "a.b", "a..b", "0", strings.Repeat("x", 255)} {
		if err := ValidateID(id); err != nil {
			t.Errorf("ValidateID(%q) = %v, want nil", id, err)
		}
	}
	for _, id := range []string{"", ".", "..", ".a", "../x", "a/b", "/", "a b", "ä", "a\x00", "a\n", strings.Repeat("x", 256)} {
		if err := ValidateID(id); !errors.Is(err, errdefs.ErrInvalid) {
			t.Errorf("ValidateID(%q) = %v, want ErrInvalid", id, err)
		}
	}
}

// FuzzValidateID holds the promise that matters: an accepted id is one path
// component below the root.
func FuzzValidateID(f *testing.F) {
	for _, s := range []string{"a", "..", "a/../b", "x.", "\x00"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, id string) {
		if ValidateID(id) != nil {
			return
		}
		if strings.ContainsAny(id, "/\x00 \n") || id == "." || id == ".." || id == "" {
			t.Errorf("ValidateID accepted %q", id)
		}
	})
}

func TestParseStat(t *testing.T) {
	line := func(comm, state, flags string) string {
		return "7 (" + comm + ") " + state + " 1 7 7 0 -1 " + flags + " 1 2 3 4 5 6 7 8 20 0 1 0 4242 100 0 9 4194304 4194839"
	}
	for text, want := range map[string]stat{
		line("sh", "S", "4194560"):      {start: 4242, image: 4194304},
		line("a) Z (b", "R", "4194560"): {start: 4242, image: 4194304},
		line("sh", "R", "4194564"):      {start: 4242, image: 4194304, exiting: true},
		line("sh", "Z", "4194564"):      {start: 4242, image: 4194304, exiting: true, zombie: true},
		line("sh) Z 1", "X", "4194564"): {start: 4242, image: 4194304, exiting: true, zombie: true},
	} {
		if got, err := parseStat([]byte(text)); err != nil || got != want {
			t.Errorf("%q: %+v, %v", text, got, err)
		}
	}
	for _, text := range []string{"", "7 (sh) S 1", "7 (sh) S 1 7 7 0 -1 x 1 2 3 4 5 6 7 8 20 0 1 0 y 100 0 9 1 1", "7 (sh) S 1 7 7 0 -1 0 1 2 3 4 5 6 7 8 20 0 1 0 1 100 0 9 z 1", "no parenthesis"} {
		if got, err := parseStat([]byte(text)); err == nil {
			t.Errorf("%q: %+v, want an error", text, got)
		}
	}
}

// TestWithoutRecord: a state directory without a record is one that is being made or
// deleted, and then it does not exist yet, or any more; or it is what a killed process has
// left, and then it is to be found and deleted.
func TestWithoutRecord(t *testing.T) {
	r := &Runtime{Root: t.TempDir()}
	if err := errors.Join(os.Mkdir(r.dir("c"), 0o700), os.WriteFile(r.dir("file"), nil, 0o600)); err != nil {
		t.Fatal(err)
	}
	lock, err := r.lock("c")
	if err != nil {
		t.Fatal(err)
	}
	expect := func(when string, want ...State) {
		t.Helper()
		if _, err := r.State("c"); !errors.Is(err, errdefs.ErrNotFound) || err.Error() != "container does not exist: c" {
			t.Errorf("%s: state says %v", when, err)
		}
		if all, err := r.List(); err != nil || !reflect.DeepEqual(all, want) {
			t.Errorf("%s: list shows %+v, %v; want %+v", when, all, err, want)
		}
	}
	expect("locked")
	lock.Close()
	expect("left behind", State{ID: "c", Status: Stopped})
	if err := r.Delete(t.Context(), "c", false); err != nil {
		t.Error(err)
	}
	expect("deleted")
}

func ExampleValidateID() {
	fmt.Println(ValidateID("web-1"))
	fmt.Println(ValidateID("../web"))
	// Output:
	// <nil>
	// invalid container ID format: "../web"
}

// TestDeletedMeanwhile: who has read the record and then misses a file of a container that
// is deleted must not take it for one that was never there, as a seccomp filter need not be.
func TestDeletedMeanwhile(t *testing.T) {
	c := &container{dir: filepath.Join(t.TempDir(), "c"), record: record{State: State{ID: "c"}}}
	if err := os.Mkdir(c.dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := c.save(); err != nil {
		t.Fatal(err)
	}
	if filter, err := c.filter(); filter != nil || err != nil {
		t.Errorf("without a filter: %v, %v", filter, err)
	}
	if _, err := c.config(); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("without a configuration: %v", err)
	}
	if err := removeState(c.dir); err != nil {
		t.Fatal(err)
	}
	if _, err := c.filter(); !errors.Is(err, errdefs.ErrNotFound) {
		t.Errorf("filter: %v", err)
	}
	if _, err := c.config(); !errors.Is(err, errdefs.ErrNotFound) {
		t.Errorf("configuration: %v", err)
	}
}
