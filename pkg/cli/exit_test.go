package cli

import (
	"errors"
	"fmt"
	"strings"
	"testing"
)

// An image's configuration has room for megabytes that an error would print: of a
// long one both ends are shown, since the cause stands at the end.
func TestLongErrorsAreAbridged(t *testing.T) {
	for _, long := range []string{strings.Repeat("é", 1<<20), strings.Repeat("é\n", 1<<20) + "é"} {
		var out strings.Builder
		err := fmt.Errorf("entry %s: %w", long, errors.New("the cause"))
		printError(&out, "box pull", err, "")
		got := out.String()
		if len(got) > maxLine+100 || !strings.HasPrefix(got, "box pull: entry é") || !strings.HasSuffix(got, "é: the cause\n") {
			t.Errorf("%d bytes: %.100q", len(got), got)
		}
	}
}
