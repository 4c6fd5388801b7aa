package plan

import (
	"slices"
	"testing"
)

func TestStreamsFor(t *testing.T) {
	f := Facts{Streams: []Stream{{0, 0, false}, {1, 1000, false}, {2, 0, true}}}
	for _, c := range []struct {
		uid          uint32
		userns, stay bool
		want         []int
	}{
		{0, false, false, []int{1}},
		{1000, false, false, []int{0, 2}},
		{7, false, false, []int{0, 1, 2}},
		{0, true, false, []int{0, 1, 2}},
		{7, false, true, []int{0, 1}},
		{0, true, true, []int{0, 1}},
	} {
		f.Stay = c.stay
		if got := streamsFor(&f, c.uid, c.userns); !slices.Equal(got, c.want) {
			t.Errorf("user %d, mapped %v, in the foreground %v: %v, want %v", c.uid, c.userns, c.stay, got, c.want)
		}
	}
}
