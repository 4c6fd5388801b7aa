package runtime

import (
	"errors"
	"fmt"
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

func ExampleValidateID() {
	fmt.Println(ValidateID("web-1"))
	fmt.Println(ValidateID("../web"))
	// Output:
	// <nil>
	// invalid container ID format: "../web"
}
