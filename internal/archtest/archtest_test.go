package archtest

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// TestImportsFollowTheTable is the reason for this package.
func TestImportsFollowTheTable(t *testing.T) {
	plan, err := ReadPlan("../../docs/architecture.md")
	if err != nil {
		t.Fatal(err)
	}
	packages, err := Packages("../..")
	if err != nil {
		t.Fatal(err)
	}
	for _, breach := range plan.Check("box", packages) {
		t.Error(breach)
	}
	for _, r := range plan.Rooms {
		if _, err := os.Stat(filepath.Join("../..", r.Path)); err != nil {
			t.Errorf("the table names a room that does not exist: %v", err)
		}
	}
}

const page = "# page\n<!-- rooms:begin -->\n| floor | room | responsibility | may import | third parties |\n|---|---|---|---|---|\n" +
	"| 6 | `cmd/box-runtime` | main | `pkg/high` | |\n" +
	"| 2 | `pkg/high` | x | `pkg/low/*` | `example.org/lib` |\n" +
	"| 2 | `pkg/other` | x | | |\n" +
	"| 1 | `pkg/low` | x | | |\n" +
	"| 1 | `pkg/low/own` | x | | |\n" +
	"| 0 | `internal/base` | x | | |\n" +
	"| 0 | `internal/testkit` | x | `pkg/*` | |\n" +
	"<!-- rooms:end -->\n<!-- open:begin -->\n- `example.org/open`\n<!-- open:end -->\n" +
	"<!-- deny:begin -->\n- `net/http`\n<!-- deny:end -->\n"

func readPage(t *testing.T, text string) (*Plan, error) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "page.md")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return ReadPlan(file)
}

func TestCheckFindsEachBreach(t *testing.T) {
	plan, err := readPage(t, page)
	if err != nil {
		t.Fatal(err)
	}
	std := []Package{{ImportPath: "fmt", Standard: true}, {ImportPath: "net/http", Standard: true}}
	for _, c := range []struct{ from, to, want string }{
		{"pkg/high", "fmt", ""},
		{"pkg/high", "box/pkg/low", ""},
		{"pkg/high", "box/pkg/low/sub", ""},
		{"pkg/high", "box/pkg/low/own", ""},
		{"pkg/high/sub", "box/pkg/high", ""},
		{"pkg/low", "box/internal/base", ""},
		{"pkg/low", "example.org/open/deep", ""},
		{"pkg/high", "example.org/lib/v2", ""},
		{"test/e2e", "example.org/else", ""},
		{"pkg/high", "example.org/library", "not listed"},
		{"pkg/low", "example.org/lib", "not listed"},
		{"pkg/high", "box/pkg/other", "arrows go down only"},
		{"pkg/low", "box/pkg/high", "arrows go down only"},
		{"pkg/other", "box/pkg/low", "may not import"},
		{"pkg/high", "box/internal/testkit", "may not import"},
		{"pkg/new", "fmt", "stands in no row"},
		{"pkg/high", "box/pkg/new", "stands in no row"},
	} {
		got := strings.Join(plan.Check("box", append(std, Package{ImportPath: "box/" + c.from, Imports: []string{c.to}})), "; ")
		if (c.want == "") != (got == "") || !strings.Contains(got, c.want) {
			t.Errorf("%s imports %s: %q, want %q", c.from, c.to, got, c.want)
		}
	}
}

func TestCheckFindsDeniedDependencies(t *testing.T) {
	plan, err := readPage(t, page)
	if err != nil {
		t.Fatal(err)
	}
	got := plan.Check("box", []Package{{ImportPath: "box/cmd/box-runtime", Deps: []string{"net", "net/http", "net/http/internal"}}})
	if len(got) != 2 || !strings.Contains(got[0], "links net/http") {
		t.Errorf("got %q", got)
	}
}

func TestCheckFindsATableThatContradictsItself(t *testing.T) {
	plan, err := readPage(t, strings.Replace(page, "| 1 | `pkg/low` | x | | |", "| 1 | `pkg/low` | x | `pkg/high`, `pkg/none` | |", 1))
	if err != nil {
		t.Fatal(err)
	}
	got := plan.Check("box", nil)
	if len(got) != 2 || !slices.ContainsFunc(got, func(s string) bool { return strings.Contains(s, "pkg/none") }) {
		t.Errorf("got %q", got)
	}
}

func TestReadPlanRefuses(t *testing.T) {
	for _, text := range []string{
		"", strings.Replace(page, "<!-- deny:end -->", "", 1), strings.Replace(page, "rooms:begin", "room:begin", 1),
		"<!-- rooms:begin -->\n<!-- rooms:end --><!-- open:begin --><!-- open:end --><!-- deny:begin --><!-- deny:end -->",
	} {
		if plan, err := readPage(t, text); err == nil {
			t.Errorf("%q was read as %+v", text, plan)
		}
	}
}
