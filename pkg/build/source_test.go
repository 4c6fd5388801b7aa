package build

import (
	"bytes"
	"errors"
	"slices"
	"strings"
	"testing"

	"box/internal/errdefs"
)

func TestParseIgnore(t *testing.T) {
	got, err := parseIgnore([]byte("# comment\n" + strings.Repeat("**/", 200) + "x\na/**/b\n!**/**/keep\n"))
	if err != nil || !slices.Equal(got, []string{"**/x", "a/**/b", "!**/keep"}) {
		t.Errorf("%q %v", got, err)
	}
	for want, text := range map[string][]byte{
		".dockerignore: it is longer":     bytes.Repeat([]byte("x\n"), maxIgnore/2+1),
		".dockerignore:2: line is longer": []byte("a\n" + strings.Repeat("x", maxIgnoreLine+1)),
		".dockerignore:3: line is longer": []byte("a\n\n" + strings.Repeat("x", 1<<17) + "\n"),
	} {
		if _, err := parseIgnore(text); !errors.Is(err, errdefs.ErrInvalid) || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("want %s: %v", want, err)
		}
	}
}
