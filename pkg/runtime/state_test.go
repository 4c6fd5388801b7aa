package runtime

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
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
		return "7 (" + comm + ") " + state + " 1 7 7 0 -1 " + flags + " 1 2 3 4 5 6 7 8 20 0 1 0 4242 100 0"
	}
	for text, want := range map[string]stat{
		line("sh", "S", "4194560"):      {start: 4242},
		line("a) Z (b", "R", "4194560"): {start: 4242},
		line("sh", "R", "4194564"):      {start: 4242, exiting: true},
		line("sh", "Z", "4194564"):      {start: 4242, exiting: true, zombie: true},
		line("sh) Z 1", "X", "4194564"): {start: 4242, exiting: true, zombie: true},
	} {
		if got, err := parseStat([]byte(text)); err != nil || got != want {
			t.Errorf("%q: %+v, %v", text, got, err)
		}
	}
	for _, text := range []string{"", "7 (sh) S 1", "7 (sh) S 1 7 7 0 -1 x 1 2 3 4 5 6 7 8 20 0 1 0 y 100 0", "no parenthesis"} {
		if got, err := parseStat([]byte(text)); err == nil {
			t.Errorf("%q: %+v, want an error", text, got)
		}
	}
}

func ExampleValidateID() {
	fmt.Println(ValidateID("web-1"))
	fmt.Println(ValidateID("../web"))
	// Output:
	// <nil>
	// invalid container ID format: "../web"
}

// FuzzRecord reads state files as a crash, or somebody else, may have left them:
// they are refused or understood, and what is understood is written back the same.
func FuzzRecord(f *testing.F) {
	for _, s := range []string{
		"", "{}", `{"id":"c","pid":-1,"status":"running","startTime":18446744073709551615}`,
		`{"ociVersion":"1.3.0","id":"c","pid":7,"created":"2026-01-02T03:04:05Z","annotations":{"a":"b"},"cgroup":{}}`,
	} {
		f.Add([]byte(s))
	}
	dir := f.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "c"), 0o700); err != nil {
		f.Fatal(err)
	}
	r := &Runtime{Root: dir}
	f.Fuzz(func(t *testing.T, data []byte) {
		if err := os.WriteFile(filepath.Join(dir, "c", recordFile), data, 0o600); err != nil {
			t.Fatal(err)
		}
		c, err := r.load("c")
		if err != nil {
			return
		}
		once, err := json.Marshal(c.record)
		if err != nil {
			return // a year that JSON's times do not know
		}
		var again record
		if err := json.Unmarshal(once, &again); err != nil {
			t.Fatalf("what was written cannot be read: %v\n%s", err, once)
		}
		if twice, err := json.Marshal(again); err != nil || !bytes.Equal(once, twice) {
			t.Errorf("a record changes when it is read: %v\n%s\n%s", err, once, twice)
		}
		_, _ = r.State("c")
	})
}
