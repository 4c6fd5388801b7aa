package plan

import (
	"strings"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

func TestEnvironment(t *testing.T) {
	for _, c := range []struct{ env, want string }{
		{"A=1 B=2 HOME=/x", "A=1 B=2 HOME=/x"},
		{"A=1 HOME=/x A=2 PATH=/bin HOME= A=3", "PATH=/bin A=3 HOME=/"},
		{"HOME= PATH=/bin", "PATH=/bin HOME=/"},
		{"ONE=two ONE= A", "ONE= A HOME=/"},
		{"", "HOME=/"},
	} {
		p := &specs.Process{Env: strings.Fields(c.env)}
		if got := strings.Join(Environment(p, func(uint32) string { return "/" }), " "); got != c.want {
			t.Errorf("%q becomes %q, want %q", c.env, got, c.want)
		}
	}
}
