package security

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"box/internal/testkit"
)

// named finds the tests that a row of docs/security.md names.
var named = regexp.MustCompile("`([a-z0-9/]+)\\.(Test[A-Za-z0-9]+)`")

// TestNamedTestsExist holds docs/security.md against the tests.
func TestNamedTestsExist(t *testing.T) {
	_, table, found := strings.Cut(testkit.Text(t, "../../docs/security.md"), "## Known weaknesses")
	if !found {
		t.Fatal("docs/security.md has no table of weaknesses")
	}
	rows := 0
	for line := range strings.Lines(table) {
		if !strings.HasPrefix(line, "| ") || strings.HasPrefix(line, "| weakness") {
			continue
		}
		rows++
		tests := named.FindAllStringSubmatch(line, -1)
		if len(tests) == 0 {
			t.Errorf("no test in: %s", line)
		}
		for _, test := range tests {
			if !hasTest(t, test[1], test[2]) {
				t.Errorf("%s has no %s", test[1], test[2])
			}
		}
	}
	if rows < 30 {
		t.Errorf("only %d rows", rows)
	}
}

// hasTest looks for a test function in the test files of a package.
func hasTest(t *testing.T, dir, name string) bool {
	t.Helper()
	files, err := filepath.Glob(filepath.Join("../..", dir, "*_test.go"))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		data, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(data), "\nfunc "+name+"(t *testing.T)") {
			return true
		}
	}
	return false
}
